"""What `manage.py check --deploy` says of Parley's own, beside Django's checks."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004 - Django's name


@register(Tags.security, deploy=True)
def behind_a_proxy(**_: Any) -> list[CheckMessage]:
    """Our servers speak plain HTTP, so with nobody before them every address redirects to itself for ever."""
    if settings.SECURE_SSL_REDIRECT and not getattr(settings, "SECURE_PROXY_SSL_HEADER", None):
        return [
            Warning(
                "Requests are redirected to HTTPS, but nothing tells which of them came by HTTPS.",
                hint="Set PARLEY_BEHIND_PROXY=on behind the proxy that speaks TLS.",
                id="parley.W001",
            )
        ]
    return []
