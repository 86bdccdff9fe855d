"""Tickets: what a page keeps so that its visitor is the same one tomorrow. Worth a token, from the same origin alone.

A ticket is signed and stored nowhere. It names the visitor, and whether somebody else vouched for who that is: whoever
was identified is let in by a fresh identity only, so that a shared browser does not remember them after they left.
"""

from __future__ import annotations

import base64
import hmac
import time
import uuid
from dataclasses import dataclass

import orjson
from django.conf import settings

PREFIX = "parleyt_"
LASTS = 30 * 24 * 3600  # seconds from its last use
LONGEST = 2000  # characters
# Whose clock wrote a ticket and whose reads it may differ by this much.
CLOCKS = 300  # seconds


@dataclass(frozen=True, slots=True)
class Ticket:
    """visitor: the end user's external id. known: their row, where there was one by then; once it is gone, so is what
    the ticket stands for. identified: whether an identity named them."""

    tenant_id: uuid.UUID
    assistant_id: uuid.UUID
    origin: str
    visitor: str
    known: uuid.UUID | None = None
    identified: bool = False


def write(ticket: Ticket) -> str:
    """A ticket that is good for LASTS from now."""
    said = [
        str(ticket.tenant_id),
        str(ticket.assistant_id),
        ticket.origin,
        ticket.visitor,
        str(ticket.known) if ticket.known else "",
        int(ticket.identified),
        int(time.time()),
    ]
    body = base64.urlsafe_b64encode(orjson.dumps(said)).decode().rstrip("=")
    return f"{PREFIX}{body}.{_signature(body)}"


def read(text: str, tenant_id: uuid.UUID, assistant_id: uuid.UUID, origin: str) -> Ticket | None:
    """What a ticket says; None for one that is not ours, too old, or of another place."""
    body, _, signature = text[len(PREFIX) :].partition(".")
    if len(text) > LONGEST or not text.isascii() or not text.startswith(PREFIX):
        return None
    if not hmac.compare_digest(signature, _signature(body)):
        return None
    # Whatever bears our signature was written above.
    tenant, assistant, site, visitor, known, identified, used = orjson.loads(
        base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    )
    if not -CLOCKS <= time.time() - used <= LASTS:
        return None
    if (tenant, assistant, site) != (str(tenant_id), str(assistant_id), origin):
        return None
    return Ticket(tenant_id, assistant_id, origin, visitor, uuid.UUID(known) if known else None, bool(identified))


def _signature(body: str) -> str:
    """By a key of its own, so that nothing else that the pepper signs is ever a ticket."""
    key = hmac.digest(settings.PARLEY_KEY_PEPPER.encode(), b"parley visitor tickets", "sha256")
    return base64.urlsafe_b64encode(hmac.digest(key, body.encode(), "sha256")).decode().rstrip("=")
