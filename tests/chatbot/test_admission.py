"""Who waits and who goes next: fair between tenants, no slot idle, nobody forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chatbot.inference.admission import Admission, Lane, Ticket
from chatbot.inference.asker import Rank


@dataclass(eq=False)
class Slots:
    group: str
    limit: int
    in_flight: int = 0
    up: bool = True

    def enter(self) -> None:
        self.in_flight += 1

    def leave(self) -> None:
        self.in_flight -= 1

    @property
    def room(self) -> bool:
        return self.up and self.in_flight < self.limit


class Servers:
    """hold: seconds that a question takes; None where that is not known."""

    def __init__(self, *servers: Slots, hold: float | None = None) -> None:
        self.servers = servers
        self.hold = hold

    def of(self, lane: Lane) -> list[Slots]:
        return [server for server in self.servers if server.group in lane.endpoints and server is not lane.tried]

    def free(self, lane: Lane) -> Slots | None:
        return next((server for server in self.of(lane) if server.room), None)

    def usable(self, lane: Lane) -> bool:
        return any(server.up for server in self.of(lane))

    def rate(self, lane: Lane) -> float | None:
        limit = sum(server.limit for server in self.of(lane) if server.up)
        return limit / self.hold if self.hold else None


HERE = Lane(("here",))
Join = Callable[..., Ticket[Slots]]


def desk(limit: int, hold: float | None = None, most: int = 512) -> tuple[Admission[Slots], Join]:
    admission: Admission[Slots] = Admission(Servers(Slots("here", limit), hold=hold), most=most)

    def join(tenant: str, share: float = 1.0, rank: Rank = Rank.INTERACTIVE) -> Ticket[Slots]:
        return admission.join(tenant, share, rank, HERE)

    return admission, join


def admitted(tickets: list[Ticket[Slots]]) -> list[int]:
    return [place for place, ticket in enumerate(tickets) if ticket.server]


def test_who_comes_first_goes_first_within_a_tenant() -> None:
    admission, join = desk(1)
    tickets = [join("acme") for _ in range(3)]
    admission.leave(tickets[0])
    assert admitted(tickets) == [0, 1]


def test_a_flood_does_not_hold_up_another_tenant() -> None:
    admission, join = desk(4)
    flood = [join("globex") for _ in range(50)]
    late = join("acme")
    assert not late.server
    admission.leave(flood[0])
    assert late.server


def test_with_a_single_slot_tenants_take_turns() -> None:
    admission, join = desk(1)
    flood = [join("globex") for _ in range(10)]
    acme = [join("acme") for _ in range(3)]
    order = []
    for _ in range(6):
        held = next(ticket for ticket in flood + acme if ticket.server and ticket not in order)
        order.append(held)
        admission.leave(held)
    assert "".join(ticket.tenant[0] for ticket in order) == "gagaga"


def test_slots_are_shared_by_weight() -> None:
    admission, join = desk(8)
    first = [join("other") for _ in range(8)]
    acme = [join("acme", 3.0) for _ in range(20)]
    globex = [join("globex", 1.0) for _ in range(20)]
    for ticket in first:
        admission.leave(ticket)
    assert len(admitted(acme)) == 6
    assert len(admitted(globex)) == 2


def test_what_is_in_flight_counts_and_not_what_was_served_before() -> None:
    admission, join = desk(4)
    for _ in range(20):
        admission.leave(join("acme"))  # quick ones, and many
    long = [join("globex") for _ in range(3)]
    last = join("acme")
    waiting = join("globex"), join("acme")
    admission.leave(last)
    assert waiting[1].server
    assert not waiting[0].server
    assert all(ticket.server for ticket in long)


def test_turns_are_shared_by_weight_where_there_are_fewer_slots_than_tenants() -> None:
    admission, join = desk(1)
    tickets = [join("acme", 3.0) for _ in range(40)] + [join("globex", 1.0) for _ in range(40)]
    served: Counter[str] = Counter()
    for _ in range(40):
        held = next(ticket for ticket in tickets if ticket.server)
        tickets.remove(held)
        served[held.tenant] += 1
        admission.leave(held)
    assert 29 <= served["acme"] <= 31


def test_a_higher_rank_goes_first_within_its_tenant_only() -> None:
    admission, join = desk(1)
    held = join("acme")
    low, high = join("acme", rank=Rank.INGESTION), join("acme")
    other = join("globex", rank=Rank.INGESTION)
    admission.leave(held)
    assert other.server  # whose turn it is
    admission.leave(other)
    assert high.server
    assert not low.server


def test_where_the_wait_would_be_too_long_the_refusal_is_immediate() -> None:
    _, join = desk(4, hold=2.0)  # two a second, so eight wait for up to four seconds
    tickets = [join("acme") for _ in range(4 + 20)]
    assert [ticket.refusal for ticket in tickets].index("busy") == 12
    assert all(ticket.refusal == "busy" for ticket in tickets[12:])


def test_who_asks_in_measure_is_let_in_while_a_flood_is_refused() -> None:
    _, join = desk(4, hold=2.0)
    for _ in range(24):
        join("globex")
    assert join("acme").refusal is None
    assert join("globex").refusal == "busy"


def test_ranks_are_shed_in_their_order_at_the_cap() -> None:
    _, join = desk(1, most=4)
    join("acme")
    waiting = {rank: join("acme", rank=rank) for rank in Rank}
    shed = []
    for _ in range(4):
        join("acme")
        shed += [rank for rank, ticket in waiting.items() if ticket.refusal and rank not in shed]
    assert shed == [Rank.INGESTION, Rank.RERANKING, Rank.VISITOR]


def test_the_greedier_tenant_is_shed_at_the_cap() -> None:
    _, join = desk(1, most=4)
    flood = [join("globex") for _ in range(5)]
    assert join("acme").refusal is None
    assert flood[-1].refusal == "busy"


def test_important_questions_in_a_flood_do_not_shed_what_others_ask_in_measure() -> None:
    _, join = desk(1, most=4)
    little = join("other"), join("acme", rank=Rank.INGESTION)
    flood = [join("globex") for _ in range(10)]
    assert little[1].refusal is None
    assert flood[-1].refusal == "busy"


def test_a_place_in_the_queue_is_told_by_fairness_and_not_by_arrival() -> None:
    admission, join = desk(4, hold=1.0)
    held = [join("globex") for _ in range(4)]
    flood = [join("globex") for _ in range(6)]
    late = join("acme")
    assert admission.outlook(late).position == 1
    assert admission.outlook(flood[0]).position == 2
    assert admission.outlook(flood[5]).position == 7
    assert admission.outlook(late).seconds == 0.125
    assert held[0].server


def test_what_a_tenant_has_at_servers_of_its_own_does_not_cost_it_its_share_of_others() -> None:
    """Nor where questions wait that may use both, and go first in its line."""
    shared, own = Lane(("shared",)), Lane(("own",))
    admission: Admission[Slots] = Admission(Servers(Slots("shared", 2), Slots("own", 8)))
    for _ in range(8):
        admission.join("acme", 1, Rank.INTERACTIVE, own)
    held = [admission.join("globex", 1, Rank.INTERACTIVE, shared) for _ in range(2)]
    flood = [admission.join("globex", 1, Rank.INTERACTIVE, shared) for _ in range(4)]
    either = admission.join("acme", 1, Rank.INTERACTIVE, Lane(("shared", "own")))
    only = admission.join("acme", 1, Rank.INGESTION, shared)
    admission.leave(held[0])
    assert either.server
    assert either.server.group == "shared"
    admission.leave(either)
    assert only.server
    assert admitted(flood) == []


def test_nobody_waits_for_servers_that_are_down() -> None:
    server = Slots("here", 1)
    admission: Admission[Slots] = Admission(Servers(server))
    woken: list[str] = []
    held = admission.join("acme", 1, Rank.INTERACTIVE, HERE)
    waits = admission.join("acme", 1, Rank.INTERACTIVE, HERE, lambda: woken.append("waits"))
    server.up = False
    admission.reconsider()
    assert waits.refusal == "unavailable"
    assert woken == ["waits"]
    assert admission.join("acme", 1, Rank.INTERACTIVE, HERE).refusal == "unavailable"
    admission.leave(held)
    admission.leave(waits)


def test_what_has_left_is_forgotten() -> None:
    admission, join = desk(1)
    for number in range(20):
        admission.leave(join(f"tenant {number}"))
    assert not admission._tenants


SHARES = {"a": 1.0, "b": 1.0, "c": 3.0}
LANES = (Lane(("one",)), Lane(("two",)), Lane(("one", "two")))


class Admitting(RuleBasedStateMachine):
    """Tenants of different weight ask for different sets of servers, which shrink, grow, fail and come back."""

    @initialize(one=st.integers(1, 4), two=st.integers(1, 4), most=st.sampled_from([3, 512]))
    def begin(self, one: int, two: int, most: int) -> None:
        self.servers = [Slots("one", one), Slots("two", two)]
        self.places = Servers(*self.servers)
        self.most = most
        self.admission: Admission[Slots] = Admission(self.places, most=most)
        self.tickets: list[Ticket[Slots]] = []
        self.wakes: Counter[int] = Counter()

    def holders(self) -> list[Ticket[Slots]]:
        return [ticket for ticket in self.tickets if ticket.server]

    def waiters(self) -> list[Ticket[Slots]]:
        return [ticket for ticket in self.tickets if not ticket.server and not ticket.refusal]

    def level(self, tenant: str, lane: Lane, holders: list[Ticket[Slots]]) -> float:
        had = sum(1 for ticket in holders if ticket.tenant == tenant and ticket.server.group in lane.endpoints)  # type: ignore[union-attr]
        return had / SHARES[tenant]

    def judge(self, winner: Ticket[Slots]) -> None:
        """Whoever was just given a slot had least for its share, of those that may use it."""
        assert winner.server
        others = [ticket for ticket in self.holders() if ticket is not winner]
        rivals = [ticket for ticket in self.waiters() if winner.server.group in ticket.lane.endpoints]
        had = min(
            self.level(winner.tenant, ticket.lane, others)
            for ticket in [winner, *rivals]
            if ticket.tenant == winner.tenant
        )
        for rival in rivals:
            if rival.tenant == winner.tenant:
                assert (-winner.rank, winner.order) < (-rival.rank, rival.order)
            else:
                assert had <= self.level(rival.tenant, rival.lane, others)

    def act(self, deed: Callable[[], object]) -> None:
        """Do it, and check that nobody loses a slot by it."""
        holders = self.holders()
        deed()
        assert all(ticket in self.holders() for ticket in holders if ticket in self.tickets)

    @rule(tenant=st.sampled_from("abc"), rank=st.sampled_from(Rank), lane=st.sampled_from(LANES))
    def join(self, tenant: str, rank: Rank, lane: Lane) -> None:
        number = len(self.wakes) + 1
        self.wakes[number] = 0

        joined: list[Ticket[Slots]] = []

        def wake() -> None:
            self.wakes[number] += 1
            for one in joined:
                if one.server:
                    self.judge(one)

        waited = self.waiters()
        free = self.places.free(lane)
        ticket = self.admission.join(tenant, SHARES[tenant], rank, lane, wake)
        self.tickets.append(ticket)
        joined.append(ticket)
        assert (ticket.server is free) if free else ticket.server is None
        shed = [other for other in waited if other.refusal]
        assert len(shed) <= 1
        assert all(other.rank <= rank for other in shed)
        if shed or (ticket.refusal == "busy"):
            assert len(waited) == self.most

    @precondition(lambda self: self.holders())
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.holders()))
        self.tickets.remove(ticket)
        self.act(lambda: self.admission.leave(ticket))

    @precondition(lambda self: self.waiters())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.waiters()))
        self.tickets.remove(ticket)
        self.act(lambda: self.admission.leave(ticket))
        assert not ticket.server
        assert not ticket.refusal

    @precondition(lambda self: any(ticket.refusal for ticket in self.tickets))
    @rule()
    def hear_refusal(self) -> None:
        ticket = next(ticket for ticket in self.tickets if ticket.refusal)
        self.tickets.remove(ticket)
        self.act(lambda: self.admission.leave(ticket))

    @rule(place=st.integers(0, 1), limit=st.integers(1, 6))
    def resize(self, place: int, limit: int) -> None:
        self.servers[place].limit = limit
        self.act(self.admission.reconsider)

    @rule(place=st.integers(0, 1), up=st.booleans())
    def fail_or_recover(self, place: int, up: bool) -> None:
        self.servers[place].up = up
        self.act(self.admission.reconsider)

    @invariant()
    def no_slot_idles_while_someone_waits_who_may_use_it(self) -> None:
        for ticket in self.waiters() if hasattr(self, "tickets") else ():
            assert self.places.free(ticket.lane) is None
            assert self.places.usable(ticket.lane)

    @invariant()
    def the_books_are_right(self) -> None:
        if not hasattr(self, "tickets"):
            return
        assert self.admission.waiting == len(self.waiters()) <= self.most
        for server in self.servers:
            assert server.in_flight == sum(ticket.server is server for ticket in self.tickets)
            waiting = sum(server.group in ticket.lane.endpoints for ticket in self.waiters())
            assert self.admission.waiting_for(server.group) == waiting
        assert all(times <= 1 for times in self.wakes.values())
        for ticket in self.waiters():
            assert 1 <= self.admission.outlook(ticket).position <= len(self.waiters())


TestAdmitting = Admitting.TestCase
