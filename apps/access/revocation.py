"""Taking back: what ends for one process ends in all of them within seconds, for open sockets, streams and turns too.

What was ended is announced by words, each of which stands in `Caller.ends_with` of those whom it ends: "tenant:<id>",
"key:<id>", "user:<id>", "member:<tenant>:<user>" and so on. A word only wakes: whoever hears it looks at PostgreSQL,
as everybody who is let in does every RECHECK_SECONDS, should no word arrive.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest

from apps.access import authentication, visitors
from apps.edge import bus
from apps.edge.origins import origin_of
from apps.tenants import rights, taking_back
from apps.tenants.models import ApiKey, Membership, Tenant, User
from apps.tenants.scoping import unit
from chatbot.errors import NotAuthenticated, NotPermitted, ParleyError

log = structlog.get_logger(__name__)

RECHECK_SECONDS = 2.0
# Of further kinds: given the tenant and the ids in words of that kind, those that still stand. Called in its scope.
STANDING: dict[str, Callable[[uuid.UUID, set[str]], set[str]]] = {}
# What else remembers callers, and forgets them when something ended.
FORGET: list[Callable[[], None]] = [authentication.forget, visitors.forget]


def _hear(words: Iterable[str]) -> None:
    ended = frozenset(words)
    for forget in FORGET:
        forget()
    for watch in tuple(_watches):
        if watch.words & ended:
            watch.wake()


bus.subscribe(taking_back.TOPIC, _hear)


# --- Looking out ------------------------------------------------------------------------------------------------------

_watches: set[Watch] = set()


class Watch:
    """Looks out for the end of what somebody was let in with, from the moment that it is made until close().

    words: of the tenant's caller, which may grow. still: tells whether they are still let in; without it, whether their
    words stand. on_end: called once, when they are not.
    """

    def __init__(
        self,
        tenant_id: uuid.UUID,
        words: frozenset[str],
        *,
        still: Callable[[], Awaitable[bool]] | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        self.words = words
        self.refusal: ParleyError | None = None
        self._tenant_id, self._still, self._on_end = tenant_id, still, on_end
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._task = self._loop.create_task(self._look())
        _watches.add(self)
        bus.listen()

    def wake(self) -> None:
        """Look now. From any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    def close(self) -> None:
        _watches.discard(self)
        self._task.cancel()

    def refuse_ended(self) -> None:
        """Raises NotAuthenticated or NotPermitted once they are no longer let in."""
        if self.refusal:
            raise self.refusal

    async def _look(self) -> None:
        while self.refusal is None:
            woken = await self._wait()
            try:
                self.refusal = await self._refused(woken=woken)
            except Exception:
                log.exception("revocation.not_looked")
                self.refusal = NotAuthenticated()
        _watches.discard(self)
        if self._on_end:
            self._on_end()

    async def _refused(self, *, woken: bool) -> ParleyError | None:
        # A word may wake thousands at once: one look at their words answers most of them.
        ended = await ended_of(self._tenant_id, self.words) if woken or self._still is None else set()
        if not ended:
            if self._still is None or await self._still():
                return None
            ended = await ended_of(self._tenant_id, self.words)
        suspended = f"tenant:{self._tenant_id}" in ended
        return NotPermitted("This tenant is suspended.") if suspended else NotAuthenticated()

    async def _wait(self) -> bool:
        """Whether a word has come, before it was time to look."""
        # Those without a way of their own look at the same moments, so that one query answers all: at every other tick.
        offset = self._loop.time() % (RECHECK_SECONDS / 2) if self._still is None else 0
        try:
            async with asyncio.timeout(RECHECK_SECONDS - offset):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


def watch_over(request: HttpRequest, caller: authentication.Caller) -> Watch:
    """A watch over a response that goes on: it ends with the request's credentials, or when they may do less."""
    still = partial(
        authentication.still_valid,
        authentication.credential_of(request),
        origin=origin_of(request),
        address=authentication.address_of(request),
        scopes=caller.scopes,
    )
    return Watch(caller.tenant_id, caller.ends_with, still=still)


# --- What still stands, asked for many at once ------------------------------------------------------------------------

GATHER_SECONDS = 0.02
_asked: dict[tuple[asyncio.AbstractEventLoop, uuid.UUID], tuple[set[str], asyncio.Future[set[str]]]] = {}


async def ended_of(tenant_id: uuid.UUID, words: frozenset[str]) -> set[str]:
    """Those of a tenant's words that have ended, asked in one unit for all who ask at the same moment.

    While the database is away nobody can tell: then none has.
    """
    place = (asyncio.get_running_loop(), tenant_id)
    if place not in _asked:
        answer: asyncio.Future[set[str]] = asyncio.ensure_future(_answer(place))
        _asked[place] = (set(), answer)
    asked, answer = _asked[place]
    asked |= words
    try:
        return (await asyncio.shield(answer)) & words
    except (OperationalError, InterfaceError):
        return set()


async def _answer(place: tuple[asyncio.AbstractEventLoop, uuid.UUID]) -> set[str]:
    await asyncio.sleep(GATHER_SECONDS)
    asked, _ = _asked.pop(place)
    return await unit(ended_among, place[1], asked)


def ended_among(tenant_id: uuid.UUID, words: Iterable[str]) -> set[str]:
    """Those that have ended. Words of unknown kinds only end by being announced. Call it in the tenant's scope."""
    kinds: dict[str, set[str]] = {}
    for word in words:
        kind, _, name = word.partition(":")
        kinds.setdefault(kind, set()).add(name)
    ended = set()
    for kind, standing in {**_STANDING, **STANDING}.items():
        if names := kinds.get(kind):
            ended |= {f"{kind}:{name}" for name in names - standing(tenant_id, names)}
    return ended


def _tenants(tenant_id: uuid.UUID, names: set[str]) -> set[str]:
    others = names - {str(tenant_id)}  # nobody can tell from here
    return others | _texts(Tenant.objects.filter(pk=tenant_id, is_active=True).values_list("pk", flat=True))


def _keys(tenant_id: uuid.UUID, names: set[str]) -> set[str]:
    keys = ApiKey.objects.for_tenant(tenant_id).usable()
    return _texts(keys.filter(pk__in=names).values_list("pk", flat=True))


def _users(_tenant_id: uuid.UUID, names: set[str]) -> set[str]:
    return _texts(User.objects.filter(pk__in=names, is_active=True).values_list("pk", flat=True))


def _members(tenant_id: uuid.UUID, names: set[str], *, roles: Iterable[str] = Membership.Role.values) -> set[str]:
    here = {name for name in names if name.startswith(f"{tenant_id}:")}
    users = [uuid.UUID(name.partition(":")[2]) for name in here]
    members = Membership.objects.for_tenant(tenant_id).filter(user__in=users, role__in=roles)
    operators = User.objects.filter(pk__in=users, is_superuser=True).values_list("pk", flat=True)
    found = _texts(members.values_list("user", flat=True)) | _texts(operators)
    return (names - here) | {f"{tenant_id}:{user}" for user in found}


def _askers(tenant_id: uuid.UUID, names: set[str]) -> set[str]:
    """Members who may ask, which turns want them to be."""
    return _members(tenant_id, names, roles=[role for role, may in rights.OF_ROLE.items() if "chat:write" in may])


def _texts(ids: Iterable[Any]) -> set[str]:
    return {str(pk) for pk in ids}


_STANDING = {"tenant": _tenants, "key": _keys, "user": _users, "member": _members, "asker": _askers}
