"""Writes the audit log: who did what to which row, from where; no content, no secrets."""

from __future__ import annotations

import datetime
import getpass
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Model
from django.http import HttpRequest

from apps.edge.request_ids import current_request_id
from apps.tenants.models import PLATFORM, Membership
from apps.tenants.scoping import Whose, tenant_scope

APPEND = "SELECT audit_append(%s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s)"
# A longer word is a text, and texts are not for this log.
WORD_CHARS = 200
# By which rows are called. Never by what they say: a conversation's title is somebody's question.
NAMES = ("name", "email", "external_id", "file_name")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it. kind: user, key, oauth, visitor, command or system. label: by which people know them."""

    kind: str
    id: str
    label: str
    address: str = ""


SYSTEM = Actor("system", "", "Parley")


def record(whose: Whose | None, action: str, actor: Actor, row: Model | None = None, **facts: Any) -> None:
    """Add an entry to the chain of `whose` tenant, or with None to the platform's.

    Call it in the transaction of the deed, so that both are kept or neither is: it holds the chain's lock until the
    transaction ends. action: words such as `key.revoked`. facts: names of fields, old and new roles or scopes, counts;
    never a text, a prompt or a key. Raises TypeError for a fact that is no word, number or list of them.
    """
    values = [
        actor.kind,
        _word(actor.id),
        _word(actor.label),
        actor.address,
        action,
        row._meta.label_lower if row is not None else "",
        str(row.pk or "") if row is not None else "",
        label_of(row) if row is not None else "",
        json.dumps({name: _fact(value) for name, value in facts.items()}),
        current_request_id(),
    ]
    with tenant_scope(PLATFORM if whose is None else whose), connection.cursor() as cursor:
        cursor.execute(APPEND, values)


def actor_of(request: HttpRequest) -> Actor:
    """The one who is logged in to the admin, or nobody known."""
    user = request.user
    if not user.is_authenticated:
        return Actor("user", "", "somebody", address_of(request))
    return Actor("user", str(user.pk), str(user), address_of(request))


def actor_of_command(name: str) -> Actor:
    """Who runs `manage.py <name>`: a user of the operating system."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        user = "an unnamed user"
    return Actor("command", name, f"{user} by manage.py {name}")


def address_of(request: HttpRequest) -> str:
    """Where a request came from, as the server says that looks at X-Forwarded-For only behind our own proxy."""
    return str(request.META.get("REMOTE_ADDR") or "")[:45]


def label_of(row: Model) -> str:
    """What people call the row; empty where it has no name of its own."""
    if isinstance(row, Membership):
        return row.user.email
    return next((_word(name) for field in NAMES if (name := getattr(row, field, ""))), "")


def _word(text: object) -> str:
    # PostgreSQL stores no NUL.
    return str(text).replace("\0", "")[:WORD_CHARS]


def _fact(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str | uuid.UUID | datetime.datetime | datetime.date):
        return _word(value)
    if isinstance(value, Mapping):
        return {_word(name): _fact(part) for name, part in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(_fact(part) for part in value)
    if isinstance(value, list | tuple):
        return [_fact(part) for part in value]
    raise TypeError(f"An audit entry holds words, numbers and lists of them, no {type(value).__name__}.")
