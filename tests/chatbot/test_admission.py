"""Who waits and who goes next: fair between tenants, no slot idle, nobody forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from chatbot.inference.admission import Admission, Lane, Ticket
from chatbot.inference.asker import Rank
from tests.chatbot.slots import Servers, Slots

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
