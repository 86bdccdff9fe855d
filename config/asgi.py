"""The web process: HTTP through Django, WebSockets through the chat consumer, static files ahead of both."""

# Channels has no type hints.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.core.asgi import get_asgi_application

django = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path
from servestatic import ServeStaticASGI

from apps.conversations.consumers import ChatConsumer

application = ProtocolTypeRouter(
    {
        "http": ServeStaticASGI(
            django, root=settings.STATIC_ROOT, prefix=settings.STATIC_URL, max_age=31_536_000, autorefresh=False
        ),
        "websocket": URLRouter([path("ws/chat", ChatConsumer.as_asgi())]),
    }
)
