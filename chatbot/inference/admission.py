"""Who waits for a slot at a server, and who gets the next one. No clock, no I/O, no locks.

Slots are shared between tenants by weighted max-min fairness over what is in flight (D. Bertsekas, R. Gallager, Data
Networks, 1992, 6.5.2): the next one goes to the tenant that has the fewest for its share. So no tenant gets more than
its share, rounded up to whole slots, while another waits that has less, and no slot idles while anyone waits who may
use it. Among equals tenants take turns, by their shares (start-time fair queueing: Goyal, Vin and Cheng, 1996).
Within a tenant the higher rank goes first, then who came first.

What a tenant has is counted at the servers that would do for a question of it. Where its questions wait for different
ones, that with the least counts: what it has at servers of its own does not keep it from its share of those of all.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, NamedTuple, Protocol, TypeVar

from chatbot.inference.asker import Rank, Waiting

LONGEST_WAIT: Final = 5.0  # seconds
# Expected seconds with which one may still join: an outlook errs, and who is refused is to hear so at once and not
# after the longest wait.
LONGEST_OUTLOOK: Final = 4.0
MOST_WAITING: Final = 512  # in this process; they wait in its memory, each with a connection

Refusal = Literal["busy", "unavailable"]


class Lane(NamedTuple):
    """Which servers would do: those of these endpoints, but for one that was tried already."""

    endpoints: tuple[str, ...]
    tried: object = None

    def meets(self, other: Lane) -> bool:
        return self.endpoints == other.endpoints or not set(self.endpoints).isdisjoint(other.endpoints)

    def takes(self, server: Slots) -> bool:
        return server.group in self.endpoints and server is not self.tried


class Slots(Protocol):
    """A server, as admission sees it."""

    @property
    def group(self) -> str:
        """The endpoint's id."""

    def enter(self) -> None: ...

    def leave(self) -> None: ...


S = TypeVar("S", bound=Slots)
S_co = TypeVar("S_co", bound=Slots, covariant=True)


class Places(Protocol[S_co]):
    """What admission asks of the servers."""

    def free(self, lane: Lane) -> S_co | None:
        """The one to take a question now; None if all are full or down."""

    def usable(self, lane: Lane) -> bool:
        """Whether any may get a free slot in a while."""

    def rate(self, lane: Lane) -> float | None:
        """Questions a second that they finish when they are full; None where that was never measured."""


@dataclass(slots=True, eq=False)
class Ticket(Generic[S]):
    """A question's place: it waits while it has neither `server` nor `refusal`, of which it gets one at most. wake() is
    called when one of them comes after join(), and must not raise."""

    tenant: str
    rank: Rank
    lane: Lane
    order: int
    wake: Callable[[], None]
    server: S | None = None
    refusal: Refusal | None = None


@dataclass(slots=True)
class _Tenant(Generic[S]):
    share: float = 1.0
    turn: float = 0.0  # grows by 1 / share with each slot it gets
    held: Counter[str] = field(default_factory=Counter)  # slots in use, by endpoint
    waiting: list[tuple[int, int, Ticket[S]]] = field(default_factory=list)  # in the order in which they go
    lanes: Counter[Lane] = field(default_factory=Counter)  # of those that wait
    counted: dict[Lane, int] = field(default_factory=dict)  # what has() found, until `held` changes

    def has(self, lane: Lane) -> int:
        """Slots in use at the lane's servers."""
        found = self.counted.get(lane)
        if found is None:
            found = self.counted[lane] = sum(self.held.get(endpoint, 0) for endpoint in lane.endpoints)
        return found

    def hold(self, endpoint: str, slots: int) -> None:
        self.counted.clear()
        self.held[endpoint] += slots
        if not self.held[endpoint]:
            del self.held[endpoint]

    def level(self, lane: Lane) -> float:
        return self.has(lane) / self.share

    def wants(self, lane: Lane) -> int:
        """How many of its questions wait for servers of the lane."""
        return sum(count for other, count in self.lanes.items() if lane.meets(other))


class Admission(Generic[S]):
    """Of one process. Whoever changes what `places` answer calls reconsider(), or slots idle until the next leave()."""

    def __init__(
        self, places: Places[S], *, longest_outlook: float = LONGEST_OUTLOOK, most: int = MOST_WAITING
    ) -> None:
        self._places = places
        self._longest_outlook = longest_outlook
        self._most = most
        self._tenants: dict[str, _Tenant[S]] = {}
        self._waiting = 0
        self._lanes: Counter[Lane] = Counter()  # of those that wait
        self._orders = 0
        self._turn = 0.0  # of the tenant that got the latest slot

    @property
    def waiting(self) -> int:
        return self._waiting

    def waiting_for(self, endpoint: str) -> int:
        lane = Lane((endpoint,))
        return sum(tenant.wants(lane) for tenant in self._tenants.values())

    def join(
        self, tenant: str, share: float, rank: Rank, lane: Lane, wake: Callable[[], None] = lambda: None
    ) -> Ticket[S]:
        """Get a slot, a place in the queue, or at once a refusal: "unavailable" where no server may become free,
        "busy" where the wait would be too long. Where lower ranks would go first, they are refused in its place."""
        self._orders += 1
        ticket: Ticket[S] = Ticket(tenant, rank, lane, self._orders, wake)
        known = self._tenants.setdefault(tenant, _Tenant())
        known.share = max(share, 1e-6)
        # Whoever could use a free slot has it already, so the newcomer takes nobody's.
        server = self._places.free(lane)
        if server is not None:
            self._admit(known, ticket, server)
        elif not self._places.usable(lane):
            ticket.refusal = "unavailable"
            self._forget(ticket.tenant)
        else:
            self._enqueue(known, ticket)
            self._shed_for(ticket)
        return ticket

    def leave(self, ticket: Ticket[S]) -> None:
        """The question has ended, or waits no longer; once for each ticket, whatever became of it."""
        if ticket.server is not None:
            tenant = self._tenants[ticket.tenant]
            tenant.hold(ticket.server.group, -1)
            ticket.server.leave()
        elif ticket.refusal is None:
            self._dequeue(ticket)
        self._forget(ticket.tenant)
        self.reconsider()

    def reconsider(self) -> None:
        """Give out what slots there are, and refuse those for whom no server is left."""
        if not self._waiting:
            return
        for lane in list(self._lanes):
            if not self._places.usable(lane):
                for ticket in [ticket for ticket in self._queue() if ticket.lane == lane]:
                    self._refuse(ticket, "unavailable")
        while (found := self._next()) is not None:
            ticket, server = found
            self._dequeue(ticket)
            self._admit(self._tenants[ticket.tenant], ticket, server)
            ticket.wake()

    def outlook(self, ticket: Ticket[S]) -> Waiting:
        """Where one that waits stands, approximately: as if nobody else came, and all went on as they did."""
        tenant = self._tenants[ticket.tenant]
        before = sum(
            1 for _, order, other in tenant.waiting if other.lane.meets(ticket.lane) and self._goes_first(other, ticket)
        )
        # It gets its slot when its tenant has as much as this; others get theirs as long as they have less.
        level = (tenant.has(ticket.lane) + before) / tenant.share
        position = 1 + before
        for name, other in self._tenants.items():
            if name != ticket.tenant and other.lanes:
                behind = math.ceil(level * other.share - other.has(ticket.lane))
                position += max(0, min(other.wants(ticket.lane), behind))
        rate = self._places.rate(ticket.lane)
        # Slots end at any time, so the first comes after half of what lies between two of them.
        return Waiting(position, (position - 0.5) / rate if rate else None)

    def _next(self) -> tuple[Ticket[S], S] | None:
        """Who gets a slot now, and where."""
        free = {lane: server for lane in self._lanes if (server := self._places.free(lane)) is not None}
        if not free:
            return None
        claims = [
            claim
            for tenant in self._tenants.values()
            if tenant.waiting and (claim := self._claim(tenant, free)) is not None
        ]
        _, ticket, server = min(claims)  # orders differ, so that tickets are never compared
        return ticket, server

    def _claim(self, tenant: _Tenant[S], free: dict[Lane, S]) -> tuple[tuple[float, float, int], Ticket[S], S] | None:
        """The slot in the lane in which it has least for its share, the first of its own that may have it, and by what
        it is compared with others' claims: the least goes first."""
        first = tenant.waiting[0][2]
        if len(tenant.lanes) == 1:
            if first.lane not in free:
                return None
            least, ticket = first.lane, first
        else:
            lanes = [lane for lane in tenant.lanes if lane in free]
            if not lanes:
                return None
            least = min(lanes, key=lambda lane: (tenant.level(lane), lane != first.lane))
            ticket = next(ticket for _, _, ticket in tenant.waiting if ticket.lane.takes(free[least]))
        return (tenant.level(least), max(tenant.turn, self._turn), ticket.order), ticket, free[least]

    def _admit(self, tenant: _Tenant[S], ticket: Ticket[S], server: S) -> None:
        server.enter()
        ticket.server = server
        tenant.hold(server.group, 1)
        self._turn = max(tenant.turn, self._turn)  # one that was away has saved no turns up
        tenant.turn = self._turn + 1 / tenant.share

    def _enqueue(self, tenant: _Tenant[S], ticket: Ticket[S]) -> None:
        insort(tenant.waiting, (-ticket.rank, ticket.order, ticket))
        tenant.lanes[ticket.lane] += 1
        self._lanes[ticket.lane] += 1
        self._waiting += 1

    def _dequeue(self, ticket: Ticket[S]) -> None:
        tenant = self._tenants[ticket.tenant]
        tenant.waiting.remove((-ticket.rank, ticket.order, ticket))
        for lanes in (tenant.lanes, self._lanes):
            lanes[ticket.lane] -= 1
            if not lanes[ticket.lane]:
                del lanes[ticket.lane]
        self._waiting -= 1

    def _refuse(self, ticket: Ticket[S], refusal: Refusal) -> None:
        self._dequeue(ticket)
        ticket.refusal = refusal
        ticket.wake()

    def _forget(self, name: str) -> None:
        """Drop what is known of a tenant that has nothing here; coming back it goes first among equals, once."""
        tenant = self._tenants.get(name)
        if tenant is not None and not tenant.held and not tenant.waiting:
            del self._tenants[name]

    def _queue(self) -> Iterator[Ticket[S]]:
        for tenant in self._tenants.values():
            for _, _, ticket in tenant.waiting:
                yield ticket

    @staticmethod
    def _goes_first(one: Ticket[S], other: Ticket[S]) -> bool:
        return (-one.rank, one.order) < (-other.rank, other.order)

    def _shed_for(self, ticket: Ticket[S]) -> None:
        """Make the queue as short as it may be after `ticket` has joined it, by refusing others or it."""
        if self._waiting > self._most:
            victim = self._victim(ticket, equals=True)
            self._refuse(victim or ticket, "busy")
        while ticket.refusal is None and (self.outlook(ticket).seconds or 0.0) > self._longest_outlook:
            victim = self._victim(ticket, equals=False)
            self._refuse(victim or ticket, "busy")

    def _victim(self, ticket: Ticket[S], *, equals: bool) -> Ticket[S] | None:
        """Who goes instead of `ticket`: the lowest rank first, of that the tenant that asks most for its share, of that
        the last that came. Never one of a tenant that asks for less than the ticket's own: a flood of important
        questions is no reason to drop what others ask in measure."""

        def asks(other: Ticket[S]) -> float:
            tenant = self._tenants[other.tenant]
            return (tenant.has(ticket.lane) + tenant.wants(ticket.lane)) / tenant.share

        own = asks(ticket)
        rivals = [
            (other.rank, -asks(other), -other.order, other)
            for other in self._queue()
            if other.lane.meets(ticket.lane)
            and (
                (other.rank < ticket.rank and asks(other) >= own)
                or (equals and other.rank == ticket.rank and asks(other) > own)
            )
        ]
        return min(rivals, key=lambda rival: rival[:3])[3] if rivals else None
