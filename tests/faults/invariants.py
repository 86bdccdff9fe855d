"""What must hold after every row, whatever was done (FAULTS: the invariants)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable

import httpx

from apps.edge import shared_state
from apps.knowledge import remembered
from chatbot.reader import TERMINAL
from tests.environment import ROOT
from tests.faults.client import Client
from tests.faults.counted import counters_equal_the_ledger
from tests.faults.replicas import Replica
from tests.faults.world import PATIENCE, World

SETTLING_SECONDS = 15.0 * PATIENCE
# Of a replica: two pools of DATABASE_POOL_SIZE, the operators' pool, and the session with its lock.
POSTGRES_CONNECTIONS = 10 + 10 + 4 + 1
# Of a replica: journal, mirrors (two), bus (two), cache, the pool of what answers many at once, and that of vectors.
REDIS_CONNECTIONS = 6 + shared_state.CONNECTIONS + remembered.CONNECTIONS
# What a replica may have grown by since it was ready: the modules and caches of its first questions, and its pools.
# A leak of some kilobytes a token or some hundreds a client, at 20 clients of 60 words, would be more.
GROWTH = 64 * 2**20

_TURNS = """
    SELECT t.id::text, n.slug, t.state, q.text, coalesce(a.text, ''),
        concat_ws(': ', t.error_code, t.error_message)
    FROM conversations_turn t
    JOIN tenants_tenant n ON n.id = t.tenant_id
    JOIN conversations_message q ON q.id = t.question_id
    LEFT JOIN conversations_message a ON a.id = t.answer_id
"""


async def invariants(world: World) -> None:
    """Raises AssertionError for the first that does not hold. The row is over: what it did is undone."""
    await world.finished(world.clients)
    await _settled(world)
    _every_question_ended_once(world)
    _every_reader_has_what_is_stored(world)
    _nothing_crossed(world)
    if all(replica.root == ROOT for replica in world.replicas):  # the release before counts nothing
        counters_equal_the_ledger(world)
    await _connections_returned(world)
    for replica in world.living:
        grown = replica.memory() - replica.resident
        assert grown < GROWTH, f"{replica.server} grew by {grown / 2**20:.0f} MiB"
    for replica in world.replicas:
        if replica.root == ROOT:  # an earlier release's lines are what they are
            _lines_say_whose_turn(replica)


async def _settled(world: World) -> None:
    """No turn is open and no ledger row reserved, soon after the last reader left."""
    rows = world.stores.postgres.rows

    def open_ones() -> list[object]:
        turns = rows("SELECT id, state, epoch FROM conversations_turn WHERE state IN ('queued', 'running')")
        ledger = "SELECT turn_id, document_id, state, created FROM usage_usagerecord WHERE state <> 'settled'"
        return [*turns, *rows(ledger)]

    await _until(lambda: not open_ones(), lambda: f"still open: {open_ones()}")


def _every_question_ended_once(world: World) -> None:
    """Each accepted question is stored, its turn ended in one way, and it has one ledger row with the right bill."""
    clients = {client.turn: client for client in world.clients}
    turns = {turn: rest for turn, *rest in world.stores.postgres.rows(_TURNS)}
    assert clients.keys() <= turns.keys(), f"lost: {clients.keys() - turns.keys()}"
    bills = defaultdict(list)
    ledger = "SELECT turn_id::text, bill FROM usage_usagerecord WHERE kind <> 'ingestion'"
    for turn, bill in world.stores.postgres.rows(ledger):
        bills[turn].append(bill)
    assert bills.keys() == turns.keys()
    for turn, (slug, state, question, _, error) in turns.items():
        # Whom nobody follows was refused: that costs nothing.
        client = clients.get(turn)
        expected = (client.state, [client.bill]) if client else ("failed", ["none"])
        assert (state, bills[turn]) == expected, f"turn {turn}: {state}, {bills[turn]}, {error}"
        if client:
            assert (slug, question) == (client.asker.slug, client.text)
    ends = Counter(line["turn"] for replica in world.replicas for line in replica.lines() if _ends(line))
    assert not [turn for turn, count in ends.items() if count > 1], f"ended twice: {ends}"


def _ends(line: dict[str, str]) -> bool:
    return line.get("event") == "turn.finished"


def _every_reader_has_what_is_stored(world: World) -> None:
    stored = {turn: answer for turn, _, _, _, answer, _ in world.stores.postgres.rows(_TURNS)}
    for client in world.clients:
        assert client.transcript == stored[client.turn], f"{client}: {client.transcript!r}, not {stored[client.turn]!r}"
        assert [seen.kind for seen in client.history if seen.kind in TERMINAL] == [client.kept[-1].kind], str(client)
        _has_the_right_words(client)


def _has_the_right_words(client: Client) -> None:
    if client.state == "finished":
        assert client.transcript == client.kept[-1].data["text"] == client.answer, str(client)
    else:
        assert client.answer.startswith(client.transcript), str(client)


def _nothing_crossed(world: World) -> None:
    """Neither what clients heard, nor what is stored, journaled or was asked of the model, names another tenant."""
    said: list[tuple[str, str]] = [(client.asker.slug, "\n".join(client.raw)) for client in world.clients]
    said += [(slug, f"{question} {answer}") for _, slug, _, question, answer, _ in world.stores.postgres.rows(_TURNS)]
    with world.stores.redis.client() as redis:
        for asker in world.askers:
            for key in redis.scan_iter(match=f"parley:journal:{asker.id}:*"):
                said.append((asker.slug, str(redis.xrange(key))))
    for slug, text in said:
        for asker in world.askers:
            assert asker.slug == slug or asker.canary not in text, f"{asker.slug} in what is {slug}'s: {text[:500]}"
    for asked in httpx.get(f"{world.model.base_url}/requests").raise_for_status().json():
        text = json.dumps(asked["payload"])
        assert sum(asker.canary in text for asker in world.askers) <= 1, text[:500]


async def _connections_returned(world: World) -> None:
    """Nobody is served any more, no transaction is open, and no more connections are kept than pools have places."""
    for client in world.clients:
        await client.close()

    def excess() -> list[str]:
        return [wrong for replica in world.living for wrong in _too_many(world, replica)] + [
            f"an open transaction: {query}"
            for (query,) in world.stores.postgres.rows(
                "SELECT query FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'"
            )
        ]

    await _until(lambda: not excess(), lambda: "; ".join(excess()))


def _too_many(world: World, replica: Replica) -> list[str]:
    stores = world.stores
    limits = {stores.postgres.port: POSTGRES_CONNECTIONS, stores.redis.port: REDIS_CONNECTIONS}
    if not world.behind_proxy:  # nginx keeps its own
        limits[replica.port] = 1  # our session's, which asked whether it is ready
    counts = {port: replica.connections(port) for port in limits}
    many = {port: count for port, count in counts.items() if count > limits[port]}
    return [f"{count} connections of {replica.server} at {port}" for port, count in many.items()]


def _lines_say_whose_turn(replica: Replica) -> None:
    for line in replica.lines():
        if "turn" in line or str(line.get("event", "")).startswith("turn."):
            assert line.get("request_id"), f"a line without a request id: {line}"
            assert line.get("tenant"), f"a line without a tenant: {line}"


async def _until(holds: Callable[[], bool], told: Callable[[], str]) -> None:
    try:
        async with asyncio.timeout(SETTLING_SECONDS):
            while not holds():  # noqa: ASYNC110 - of other processes
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(told()) from None
