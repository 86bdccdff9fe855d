"""Whatever comes, in whatever order: each slot goes to whom it is due, none idles, and the books are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chatbot.inference.admission import Admission, Lane, Ticket
from chatbot.inference.asker import Rank
from tests.chatbot.slots import Servers, Slots

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
