"""The pages that show the widget by itself: the hosted one, one that was shared, the admin's preview.

Each has a policy of its own, of which a browser obeys every word: scripts and styles bear this answer's nonce, and
nothing is fetched from anywhere but here.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.template.loader import render_to_string
from django.utils.html import json_script

from apps.edge.errors import status_of
from apps.edge.origins import own_origin
from apps.widget import bundle
from chatbot.errors import ParleyError

PERMISSIONS = (
    "accelerometer=(), autoplay=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), "
    "magnetometer=(), microphone=(), midi=(), payment=(), publickey-credentials-get=(), serial=(), usb=()"
)


def policy(nonce: str, framed_by: Iterable[str]) -> str:
    own = own_origin()
    socket = own.replace("http", "ws", 1)  # older browsers do not count sockets to 'self'
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'nonce-{nonce}'",
            f"style-src 'nonce-{nonce}'",
            f"connect-src 'self' {socket}",
            "img-src 'self'",
            "font-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            f"frame-ancestors {' '.join(framed_by) or chr(39) + 'none' + chr(39)}",
        ]
    )


def page(
    *,
    title: str,
    locale: str,
    direction: str,
    embedded: Mapping[str, Any] | None = None,
    said: str = "",
    framed_by: Iterable[str] = (),
    status: int = 200,
    preview: bool = False,
) -> HttpResponse:
    """A page that shows the widget with what is embedded in it, or only a sentence where nothing is.

    said: what stands there without JavaScript, or without the widget.
    """
    nonce = secrets.token_urlsafe(16)
    context = {
        "title": title,
        "locale": locale,
        "direction": direction,
        "nonce": nonce,
        "app": bundle.app() if embedded is not None else None,
        "wanted": embedded is not None,
        "embedded": json_script(embedded, "parley-settings") if embedded is not None else "",
        "said": said,
        "missing": bundle.MISSING,
        "preview": preview,
    }
    return HttpResponse(
        render_to_string("widget/page.html", context),
        status=status,
        headers={
            "Content-Security-Policy": policy(nonce, framed_by),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Permissions-Policy": PERMISSIONS,
            "Cross-Origin-Opener-Policy": "same-origin",
            "X-Robots-Tag": "noindex, nofollow",
            "Cache-Control": "no-store",
            **_transport(),
        },
    )


def _transport() -> dict[str, str]:
    """These pages pass Django's middleware by, which says this for the others."""
    if not settings.SECURE_HSTS_SECONDS:
        return {}
    said = f"max-age={settings.SECURE_HSTS_SECONDS}"
    if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS:
        said += "; includeSubDomains"
    return {"Strict-Transport-Security": said + ("; preload" if settings.SECURE_HSTS_PRELOAD else "")}


def nothing_here() -> HttpResponse:
    """For everything that is not there, or no longer, in the same words."""
    return page(
        title="Nothing here",
        locale="en",
        direction="ltr",
        said="There is nothing here. The link may have been withdrawn, or the page switched off.",
        status=404,
    )


def too_often() -> HttpResponse:
    said = "Too many requests came from your network. Please try again in a minute."
    return page(title="Too many requests", locale="en", direction="ltr", said=said, status=429)


def sorry(error: ParleyError) -> HttpResponse:
    return page(title="Not just now", locale="en", direction="ltr", said=error.message, status=status_of(error))
