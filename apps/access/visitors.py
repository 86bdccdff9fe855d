"""Visitor tokens: people without an account talk to one assistant, from pages of one origin, a quarter of an hour each.

A token is random and says nothing. Redis keeps what it stands for under the token's digest and forgets it in time; what
can end it earlier, its tenant, its assistant's list of sites, its key, is looked up in PostgreSQL every few seconds.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import math
import re
import secrets
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.db.models import Q

from apps.access.authentication import Caller, Known
from apps.edge.errors import ServiceUnavailable
from apps.edge.origins import own_origin
from apps.edge.shared_state import reachable, redis
from apps.tenants import keys
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit
from chatbot.errors import NotAuthenticated

PREFIX = "parleyv_"
TOKENS = "visitor:"  # what their keys in Redis begin with
UNNAMED = "visitor:"  # what the external ids of visitors begin with whom nobody named
SCOPES = frozenset({"chat:read", "chat:write"})
LIFE = 900  # seconds that a token lives at most
SHORTEST = 60
STAY = 24 * 3600  # seconds for which tokens of one visit are renewed
ORIGIN_KNOWN = STAY + LIFE
# Of each origin, so that its pages' requests cost no second read of Redis.
REMEMBERED = 60.0  # seconds
MOST_REMEMBERED = 10_000
_FORM = re.compile(r"parleyv_[A-Za-z0-9_-]{43}")


# How long a process goes on believing that what lets a visitor in is still there.
STANDING = 2.0  # seconds
_standings: dict[tuple[uuid.UUID, uuid.UUID, uuid.UUID | str], tuple[_Standing | None, float]] = {}
_origins: dict[str, float] = {}  # and when Redis was asked


@dataclass(frozen=True, slots=True)
class Visit:
    """What a visitor's tokens stand for, from the first of them to the last.

    visitor: the end user's external id. scopes, ends_with: what the one who let the visitor in could pass on. key_id:
    theirs, None where it was a page of the assistant's own sites. seconds: how long each token lives. began: Unix time.
    """

    tenant_id: uuid.UUID
    assistant_id: uuid.UUID
    origin: str
    visitor: str
    began: float
    seconds: int = LIFE
    key_id: uuid.UUID | None = None
    scopes: frozenset[str] = SCOPES
    ends_with: frozenset[str] = frozenset()


class Token(NamedTuple):
    """renew_after: seconds after which it is time for the next one."""

    text: str
    expires_at: datetime.datetime
    renew_after: int


def anonymous() -> str:
    """The external id of a visitor whom nobody named, which nobody can guess."""
    return f"{UNNAMED}{uuid.uuid4()}"


async def mint(visit: Visit) -> Token:
    """A new token of this visit. Raises NotAuthenticated once the visit is over, ServiceUnavailable without Redis."""
    now = time.time()
    expires = min(now + visit.seconds, visit.began + STAY)
    left = math.floor(expires - now)
    if left < 1:
        raise NotAuthenticated
    text = PREFIX + secrets.token_urlsafe(32)
    with reachable():
        pipe = (await redis()).pipeline(transaction=False)
        pipe.set(_name(text), _written(visit, expires), px=math.ceil((expires - now) * 1000))
        pipe.set(_name_of_origin(visit.origin), 1, ex=ORIGIN_KNOWN)
        if visit.visitor.startswith(UNNAMED):
            tokens = _tokens_of(visit.tenant_id, visit.visitor)
            pipe.zremrangebyscore(tokens, 0, now)
            pipe.zadd(tokens, {_name(text): expires})
            pipe.expire(tokens, LIFE)
        await pipe.execute()
    return Token(text, datetime.datetime.fromtimestamp(expires, datetime.UTC), left * 2 // 3)


async def end(tenant_id: uuid.UUID, visitor: str) -> None:
    """Refuse the tokens of a visitor whom nobody named from now on. Raises ServiceUnavailable without Redis."""
    with reachable():
        client = await redis()
        tokens = _tokens_of(tenant_id, visitor)
        await client.delete(tokens, *await client.zrange(tokens, 0, -1))


async def visit_of(text: str) -> tuple[Visit, datetime.datetime] | None:
    """What a live token stands for, and until when: one read of Redis. Raises ServiceUnavailable without it."""
    if not _FORM.fullmatch(text):
        return None
    with reachable():
        stored = await (await redis()).get(_name(text))
    if stored is None:
        return None
    visit, expires = _read(stored)
    if expires <= time.time():
        return None
    return visit, datetime.datetime.fromtimestamp(expires, datetime.UTC)


async def look_up(text: str) -> Known | None:
    """Who bears this token: None where it stands for nothing, or no longer.

    One read of Redis, and a query where its tenant, site or key were not looked at for STANDING seconds. Raises
    ServiceUnavailable without Redis.
    """
    found = await visit_of(text)
    if found is None:
        return None
    visit, expires_at = found
    standing = await _standing_of(visit)
    if standing is None:
        return None
    caller = Caller(
        tenant=standing.tenant,
        scopes=visit.scopes & standing.scopes,
        api_key_id=visit.key_id,
        end_user=visit.visitor,
        assistant_ids=frozenset({visit.assistant_id}),
        ends_with=visit.ends_with
        | {
            f"tenant:{visit.tenant_id}",
            f"assistant:{visit.assistant_id}",
            f"visitor:{visit.tenant_id}:{visit.visitor}",
        },
    )
    return Known(caller, expires_at=expires_at, origin=visit.origin)


def forget() -> None:
    """Look everything up anew: what this process believes of tenants, sites and keys is from a moment ago."""
    _standings.clear()
    _origins.clear()


class _Standing(NamedTuple):
    """What holds behind a visit now: its tenant, and the scopes that whoever let the visitor in may pass on."""

    tenant: Tenant
    scopes: frozenset[str]


async def _standing_of(visit: Visit) -> _Standing | None:
    """None where the tenant is suspended, the site no longer listed, or the key at its end."""
    place = (visit.tenant_id, visit.assistant_id, visit.key_id or visit.origin)
    now = time.monotonic()
    standing, until = _standings.get(place, (None, now))
    if until <= now:
        standing = await unit(_look_behind, visit)
        if len(_standings) >= MOST_REMEMBERED:
            _standings.clear()
        _standings[place] = standing, now + STANDING
    return standing


def _look_behind(visit: Visit) -> _Standing | None:
    # Of an upper app, so by name.
    assistants = apps.get_model("assistants.Assistant")._default_manager.select_related("tenant")
    found = assistants.filter(tenant=visit.tenant_id, pk=visit.assistant_id, tenant__is_active=True)
    if visit.key_id is None:
        assistant = found.filter(pages_of(visit.origin)).first()
        return _Standing(assistant.tenant, SCOPES) if assistant else None
    key = keys.usable(visit.tenant_id, visit.key_id)
    if key is None or visit.assistant_id not in (key.assistant_ids or [visit.assistant_id]):
        return None
    assistant = found.first()
    return _Standing(assistant.tenant, keys.permitted(key)) if assistant else None


def pages_of(origin: str) -> Q:
    """Which assistants let in the visitors of pages of this origin: those that list it, and for Parley's own those
    whose hosted page is on."""
    listed = Q(visitor_origins__contains=[origin])
    return listed | Q(widget__hosted=True) if origin == own_origin() else listed


async def knows(origin: str) -> bool:
    """Whether a visitor has come from this origin lately; without Redis, as far as this process remembers."""
    now = time.monotonic()
    remembered = _origins.get(origin, -math.inf)
    if now - remembered < REMEMBERED:
        return True
    try:
        with reachable():
            known = bool(await (await redis()).exists(_name_of_origin(origin)))
    except ServiceUnavailable:
        return origin in _origins
    if known:
        if len(_origins) >= MOST_REMEMBERED:
            _origins.clear()
        _origins[origin] = now
    else:
        _origins.pop(origin, None)
    return known


def _name(text: str) -> str:
    """Whoever reads Redis finds no token in it: the digest needs the pepper, and does not lead back."""
    return f"{TOKENS}{hmac.digest(settings.PARLEY_KEY_PEPPER.encode(), text.encode(), 'sha256').hex()}"


def _tokens_of(tenant_id: uuid.UUID, visitor: str) -> str:
    return f"tokens-of:{tenant_id}:{visitor}"


def _name_of_origin(origin: str) -> str:
    return f"visitors-from:{hashlib.sha256(origin.encode()).hexdigest()}"


def _written(visit: Visit, expires: float) -> str:
    return json.dumps({**asdict(visit), "expires": expires}, default=_plain)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else str(value)


def _read(stored: str | bytes) -> tuple[Visit, float]:
    fields: dict[str, Any] = json.loads(stored)
    expires = float(fields.pop("expires"))
    for name in ("tenant_id", "assistant_id", "key_id"):
        fields[name] = uuid.UUID(fields[name]) if fields[name] else None
    for name in ("scopes", "ends_with"):
        fields[name] = frozenset(fields[name])
    return Visit(**fields), expires
