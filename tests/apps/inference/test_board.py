"""The endpoint board: what the processes tell of model servers, added up, and what operators do about one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict, replace

import orjson
import pytest
from django.test import Client
from django.urls import reverse

from apps.edge.shared_state import redis as shared
from apps.inference import board, gateway
from apps.inference.models import Endpoint
from apps.tenants.models import AuditEntry
from apps.tenants.scoping import platform_unit
from chatbot.inference.state import ServerLoad, ServerState
from tests import factories
from tests.apps.admin_world import logged_in, make_world
from tests.fakes.inference import FakeInference

URL = "admin:inference_board"
ONE = ServerState(
    endpoint="", address="10.0.0.1:8000", state="closed", reopens_in=None, in_flight=2, limit=8.0, waiting=1,
    tokens_per_second=120.0, first_token_p50=0.2, first_token_p95=0.9, between_p50=0.01, between_p95=0.03,
    error_rate=0.0, last_failure="", last_failure_ago=None, load=ServerLoad(running=5.0, waiting=0.0, cache=0.42),
)  # fmt: skip


async def told_by(name: str, *states: ServerState) -> None:
    client = await shared()
    await client.set(f"parley:board:{name}", orjson.dumps([asdict(state) for state in states]))
    await client.zadd("parley:board", {name: 2**40})


@pytest.fixture
async def fake() -> AsyncIterator[FakeInference]:
    async with FakeInference() as server:
        yield server


@pytest.mark.usefixtures("database")
async def test_what_processes_see_is_added_up_and_the_worst_counts() -> None:
    ill = replace(
        ONE, state="open", reopens_in=7.2, in_flight=1, limit=8.9, error_rate=0.5, first_token_p95=2.0,
        last_failure="The model server took too long.", last_failure_ago=3.0, load=None,
    )  # fmt: skip
    await told_by("a", ONE)
    await told_by("b", ill)
    processes, (server,) = await board.seen()
    assert processes == 2
    assert (server.state, server.reopens_in, server.in_flight, server.limit, server.waiting) == ("open", 7.2, 3, 16, 2)
    assert (server.tokens_per_second, server.first_token_p95, server.error_rate) == (240.0, 2.0, 0.5)
    assert (server.last_failure, server.last_failure_ago) == ("The model server took too long.", 3.0)
    assert server.load == {"running": 5.0, "waiting": 0.0, "cache": 0.42}


@pytest.mark.usefixtures("database")
async def test_a_process_tells_of_its_servers_without_being_asked_anything(fake: FakeInference) -> None:
    endpoint = await platform_unit(factories.make_endpoint, fake.base_url)
    gateway.forget()
    board.tell()
    async with asyncio.timeout(30):
        while not any(server.endpoint == str(endpoint.pk) for server in (await board.seen())[1]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    # What an operator changes is known within two seconds, also where nobody asks.
    await platform_unit(lambda: Endpoint.objects.update(enabled=False))
    async with asyncio.timeout(30):
        while any(server.endpoint == str(endpoint.pk) for server in (await board.seen())[1]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("database")
def test_the_page_says_how_a_server_is() -> None:
    world = make_world()
    endpoint = Endpoint.objects.get(name="acme chat")
    ill = replace(
        ONE, endpoint=str(endpoint.pk), state="open", reopens_in=7.2, last_failure="It broke.", last_failure_ago=3.0
    )
    asyncio.run(told_by("a", ill))
    operator = logged_in(world.operator)
    for url in (reverse(URL), f"{reverse(URL)}?part=1"):
        page = " ".join(operator.get(url).content.decode().split())
        for words in (
            "Not asked, tried in 7 s",
            "200 ms, 900 ms",
            "2, 8",
            "cache 42% full",
            "It broke. That was 3 s ago.",
        ):
            assert words in page, words
    assert "<html" not in page


@pytest.mark.usefixtures("database")
async def test_operators_test_a_server_where_they_see_it(fake: FakeInference) -> None:
    world = await platform_unit(make_world)
    right = await platform_unit(factories.make_endpoint, fake.base_url, name="Right")
    wrong = await platform_unit(factories.make_endpoint, "http://127.0.0.1:9", name="Wrong")

    def test(pk: object) -> str:
        answer = logged_in(world.operator).post(reverse(URL), {"endpoint": str(pk), "deed": "test"}, follow=True)
        return " ".join(answer.content.decode().split())

    assert "Right works. It answered within" in await asyncio.to_thread(test, right.pk)
    assert "Wrong is not right. Nothing answers at" in await asyncio.to_thread(test, wrong.pk)


@pytest.mark.usefixtures("database")
def test_what_is_no_deed_or_no_endpoint_changes_nothing() -> None:
    world = make_world()
    endpoint = Endpoint.objects.get(name="acme chat")
    operator = logged_in(world.operator)
    assert operator.post(reverse(URL), {"endpoint": str(endpoint.pk), "deed": "delete"}).status_code == 400
    assert operator.post(reverse(URL), {"endpoint": str(endpoint.pk)}).status_code == 400
    for unknown in ("", "me", str(world.acme.pk)):
        assert operator.post(reverse(URL), {"endpoint": unknown, "deed": "reset"}).status_code == 404
    assert not AuditEntry.objects.filter(action__startswith="endpoint.").exists()


@pytest.mark.usefixtures("database")
def test_operators_drain_and_take_in_and_reset_and_nobody_else_does() -> None:
    world = make_world()
    endpoint = Endpoint.objects.get(name="acme chat")
    operator = logged_in(world.operator)

    def do(client: Client, deed: str) -> int:
        return client.post(reverse(URL), {"endpoint": str(endpoint.pk), "deed": deed}).status_code

    for deed, draining in (("drain", True), ("take_in", False), ("reset", False)):
        assert do(operator, deed) == 302
        endpoint.refresh_from_db()
        assert endpoint.draining is draining
    done = AuditEntry.objects.filter(action__startswith="endpoint.").values_list("action", flat=True)
    assert sorted(done) == ["endpoint.drained", "endpoint.reset", "endpoint.taken_in"]
    for outsider in (logged_in(world.alice), Client()):
        assert do(outsider, "drain") in (302, 403)
        assert outsider.get(reverse(URL)).status_code in (302, 403)
    endpoint.refresh_from_db()
    assert not endpoint.draining
