"""What a widget knows of its assistant before anybody asked: `Settings` of frontend/src/types.ts."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import reverse

from apps.assistants.models import Assistant
from apps.tenants.models import Tenant
from apps.widget.models import Widget, is_right_to_left
from chatbot.attachments import MOST
from chatbot.formats import SUFFIXES


def settings_of(tenant: Tenant, widget: Widget) -> dict[str, Any]:
    assistant = widget.assistant
    return {
        "tenant": tenant.slug,
        "assistant": assistant.slug,
        "name": assistant.name,
        # Of the assistant's own description only its team reads.
        "description": "",
        "greeting": widget.greeting,
        "starters": widget.starters,
        "theme": {
            "primary": widget.primary,
            "radius": widget.radius,
            "font": widget.font,
            "logo": logo_address(widget),
            "position": widget.position,
            "scheme": widget.scheme,
        },
        "locale": widget.locale,
        "direction": "rtl" if is_right_to_left(widget.locale) else "ltr",
        "strings": widget.strings,
        "consent": {"text": widget.consent_text, "link": widget.consent_link} if widget.consent_text else None,
        "retention": widget.retention,
        "attachments": _attachments(assistant),
        "handoff": _handoff(widget),
        "identity": bool(widget.identity_secret),
    }


def shared_settings(tenant: Tenant, widget: Widget) -> dict[str, Any]:
    """The same for somebody who was sent a link: how it looks, and nothing of who it is or what can be done."""
    nothing: dict[str, Any] = {
        "tenant": "",
        "assistant": "",
        "starters": [],
        "consent": None,
        "attachments": None,
        "handoff": None,
        "identity": False,
    }
    return {**settings_of(tenant, widget), **nothing, "greeting": "", "retention": ""}


def logo_address(widget: Widget) -> str:
    if not widget.logo_digest:
        return ""
    return settings.PARLEY_BASE_URL.rstrip("/") + reverse("widget_logo", args=[widget.logo_digest])


def _attachments(assistant: Assistant) -> dict[str, Any] | None:
    """What may come with a question: how many files, of how many bytes, and by which names they are readable."""
    if not assistant.takes_attachments:
        return None
    return {"most": MOST, "bytes": settings.PARLEY_MAX_ATTACHMENT_BYTES, "kinds": sorted(SUFFIXES)}


def _handoff(widget: Widget) -> dict[str, str] | None:
    match widget.handoff:
        case Widget.HandOff.EMAIL:
            return {"kind": "email", "address": widget.handoff_address}
        case Widget.HandOff.WEBHOOK:
            return {"kind": "webhook"}
    return None
