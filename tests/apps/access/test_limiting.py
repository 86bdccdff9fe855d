"""The rates of the edge: counted for addresses and for credentials, told to the client, refused without Redis."""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import Any

import pytest
from django.conf import settings as configured
from redis import Redis

from apps.access import limiting, rates
from apps.access.rates import Bucket, Rate
from apps.conversations import journal
from apps.edge import shared_state
from apps.edge.errors import ServiceUnavailable
from tests.abuse.conftest import Answer, bearer, send, undisturbed
from tests.apps.conversations.conftest import World, api, fake
from tests.apps.conversations.test_websocket import Socket
from tests.environment import Backends

__all__ = ["api", "fake", "undisturbed"]
LIST = "/api/v1/conversations"
NOWHERE = "redis://127.0.0.1:9"


@pytest.fixture
def world(undisturbed: World) -> World:
    return undisturbed


@pytest.fixture
async def few(settings: Any) -> None:
    """Five requests at once from an address and four with a credential; then one in ten seconds."""
    await send("GET", "/healthz/live", {})  # the first of all takes its time, in which others would be earned
    settings.PARLEY_ADDRESS_REQUESTS_A_MINUTE = settings.PARLEY_CREDENTIAL_REQUESTS_A_MINUTE = 6
    settings.PARLEY_ADDRESS_BURST, settings.PARLEY_CREDENTIAL_BURST = 5, 4


@pytest.fixture
async def redis_away(settings: Any, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process finds no Redis any more, and has not much patience with it."""
    monkeypatch.setattr(journal, "SECONDS", 0.5)
    settings.REDIS_URL = NOWHERE
    if held := shared_state._clients.get(asyncio.get_running_loop()):
        await held[1].aclose()


async def times(count: int, key: str = "", **where: Any) -> list[int]:
    return [(await send("GET", LIST, bearer(key) if key else {}, **where)).status for _ in range(count)]


def told(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.body)
    return found


# --- What is counted --------------------------------------------------------------------------------------------------


async def test_a_credential_has_so_many_requests(world: World, few: None) -> None:
    assert await times(4, world.key) == [200] * 4
    refused = await send("GET", LIST, bearer(world.key))
    body = told(refused)
    assert (refused.status, body["code"]) == (429, "rate_limited")
    assert body["limit"] | {"reset": 40} == {"name": "credential", "limit": 4, "remaining": 0, "reset": 40}
    assert 35 < body["limit"]["reset"] <= 40
    assert 5 < body["retry_after"] <= 10
    assert int(refused.headers["retry-after"]) == math.ceil(body["retry_after"])
    # By its other header it is the same key, and another key has its own.
    assert (await send("GET", LIST, {b"x-api-key": world.key.encode()})).status == 429
    assert (await times(1, "parley_other")) == [401]


async def test_one_request_is_refused_where_either_has_nothing_left_and_takes_of_neither(
    world: World, few: None
) -> None:
    await times(4, world.key)
    assert await times(3, world.key) == [429] * 3
    left = await send("GET", "/api/schema", {})
    assert left.headers["ratelimit"].startswith('"address";r=0;')  # the fifth: those that were refused took nothing
    assert await times(1) == [429]


async def test_an_address_has_so_many_whatever_they_bring(world: World, few: None) -> None:
    statuses = [status for n in range(5) for status in await times(1, f"parley_{n}")]
    assert statuses == [401, 429, 429, 429, 429]  # a wrong credential counts ten times
    assert await times(1, world.key) == [429]
    assert await times(1, world.key, client="192.0.2.7") == [200]


@pytest.mark.parametrize("path", ["/api/v1/nowhere", "/v1/models", "/api/schema", "/oauth/authorize", "/nowhere"])
async def test_every_route_counts(world: World, few: None, path: str) -> None:
    for _ in range(5):
        await send("GET", path, {}, client="192.0.2.7")
    assert (await send("GET", path, {}, client="192.0.2.7")).status == 429


async def test_people_get_a_page(world: World, few: None) -> None:
    for _ in range(5):
        answer = await send("GET", "/admin/login/")
    answer = await send("GET", "/admin/login/")
    assert (answer.status, answer.headers["content-type"]) == (429, "text/html; charset=utf-8")
    assert (b"Too many requests" in answer.body, "retry-after" in answer.headers) == (True, True)


@pytest.mark.parametrize("path", ["/healthz/live", "/healthz/ready", "/metrics", "/static/nothing.css"])
async def test_probes_and_files_are_not_counted(world: World, few: None, path: str) -> None:
    assert 429 not in {(await send("GET", path)).status for _ in range(8)}


async def test_zero_switches_a_limit_off(world: World, few: None, settings: Any) -> None:
    settings.PARLEY_CREDENTIAL_REQUESTS_A_MINUTE = 0
    assert await times(6, world.key) == [200] * 5 + [429]
    settings.PARLEY_ADDRESS_REQUESTS_A_MINUTE = 0
    answer = await send("GET", LIST, bearer(world.key))
    assert (answer.status, "ratelimit" in answer.headers) == (200, False)


async def test_a_session_is_a_credential(world: World, few: None) -> None:
    cookie = {b"cookie": b"sessionid=abcdefgh"}
    answers = [(await send("GET", "/admin/login/", cookie, client=f"192.0.2.{n}")).status for n in range(5)]
    assert answers == [200] * 4 + [429]


# --- What is told -----------------------------------------------------------------------------------------------------


async def test_each_answer_tells_where_one_stands(world: World, few: None) -> None:
    answer = await send("GET", LIST, bearer(world.key))
    assert answer.headers["ratelimit-policy"] == '"address";q=5;w=50, "credential";q=4;w=40'
    assert answer.headers["ratelimit"] == '"address";r=4;t=10, "credential";r=3;t=10'
    assert "x-ratelimit-limit-requests" not in answer.headers
    models = await send("GET", "/v1/models", bearer(world.key))
    assert models.headers["ratelimit"] == '"address";r=3;t=20, "credential";r=2;t=20'
    told = [models.headers[f"x-ratelimit-{what}-requests"] for what in ("limit", "remaining", "reset")]
    assert told == ["4", "2", "20s"]


async def test_openais_clients_are_refused_in_their_words(world: World, few: None) -> None:
    for _ in range(4):
        await send("GET", "/v1/models", bearer(world.key))
    refused = await send("GET", "/v1/models", bearer(world.key))
    error = told(refused)["error"]
    assert (refused.status, error["type"], error["limit"]["name"]) == (429, "rate_limit_error", "credential")
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["retry-after-ms"].isdigit()


async def test_nothing_of_a_key_is_told_or_kept(world: World, few: None, servers: Backends) -> None:
    await times(4, world.key)
    refused = await send("GET", LIST, bearer(world.key))
    with Redis.from_url(configured.REDIS_URL, decode_responses=True) as client:
        names = [str(name) for name in client.scan_iter("rate:*")]
        assert all(0 < client.pttl(name) <= 50_000 for name in names)
    assert sorted(name.split(":")[1] for name in names) == ["address", "credential"]
    hashes = [name.split(":")[2] for name in names]
    answered = refused.body.decode() + str(refused.headers)
    for secret in (world.key, world.key.split("_")[1], *hashes):
        assert secret not in answered
    assert not any(world.key in name or "127.0.0.1" in name for name in names)


# --- WebSocket --------------------------------------------------------------------------------------------------------


async def hear(socket: Socket) -> dict[str, Any]:
    found: dict[str, Any] = await socket.receive_json_from(5)
    return found


async def test_a_socket_tells_its_limits_and_counts_its_frames(world: World, few: None) -> None:
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    assert (await hear(socket))["type"] == "ready"
    address = {"name": "address", "limit": 5, "remaining": 4, "reset": 10}
    credential = {"name": "credential", "limit": 4, "remaining": 3, "reset": 10}
    assert await hear(socket) == {"type": "limits", "limits": [address, credential]}
    for _ in range(3):
        await socket.say(type="resume", turn="x")
        assert (await hear(socket))["code"] == "invalid_request"
    await socket.say(type="ask", assistant="guide", text="pump?", client_id="q1")
    limits, error = await hear(socket), await hear(socket)
    assert [limit["remaining"] for limit in limits["limits"]] == [1, 0]
    assert (error["code"], error["client_id"], error["limit"]["name"]) == ("rate_limited", "q1", "credential")
    assert 9 < error["retry_after"] <= 10
    await socket.disconnect()


async def test_a_handshake_that_is_too_much_is_refused_with_a_reason(world: World, few: None) -> None:
    await times(4, world.key)
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    assert [(await hear(socket))["type"] for _ in range(2)] == ["limits", "error"]
    assert (await socket.receive_output())["code"] == 4429


async def test_a_wrong_key_on_a_socket_counts_like_one_in_a_request(world: World, few: None) -> None:
    socket = Socket()
    await socket.connect()
    await socket.say(type="auth", key="parley_wrong")
    assert (await socket.hear())["code"] == "not_authenticated"
    assert (await socket.receive_output())["code"] == 4401
    again = Socket(Authorization=f"Bearer {world.key}")  # of the same address: a test's socket has none
    await again.connect()
    assert (await again.hear())["limit"]["name"] == "address"


# --- Without Redis ----------------------------------------------------------------------------------------------------


async def test_without_redis_reading_goes_on(world: World, redis_away: None) -> None:
    for path in (LIST, f"{LIST}/{world.conversation.pk}/messages", "/v1/models"):
        answer = await send("GET", path, bearer(world.key))
        assert (answer.status, "ratelimit" in answer.headers) == (200, False), path


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/search"),
        ("POST", "/api/v1/documents"),
        ("POST", "/v1/embeddings"),
        ("POST", LIST),
        ("POST", "/oauth/token"),
        ("POST", "/admin/login/"),
        ("POST", "/admin/login/code/"),
        ("POST", "/admin/password_reset/"),
        ("POST", "/admin/security/again/password/"),
        ("PUT", "/api/v1/documents/7d4b1c1e-0000-4000-8000-000000000000"),
    ],
)
async def test_without_redis_what_costs_or_checks_a_secret_is_refused(
    world: World, redis_away: None, method: str, path: str
) -> None:
    answer = await send(method, path, bearer(world.key))
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")


async def test_without_redis_a_question_is_refused_by_itself(world: World, redis_away: None) -> None:
    path = f"{LIST}/{world.conversation.pk}/turns"
    answer = await send(
        "POST", path, bearer(world.key) | {b"content-type": b"application/json"}, b'{"text": "A pump?"}'
    )
    assert (answer.status, told(answer)["code"]) == (503, "service_unavailable")
    assert told(answer)["retry_after"] > 0


async def test_a_redis_that_hangs_is_waited_for_once(
    settings: Any, servers: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        while await reader.read(1000):  # until the client has gone
            pass
        writer.close()
        gone.set()

    asked, gone = 0, asyncio.Event()
    monkeypatch.setattr(rates, "SECONDS", 0.2)
    monkeypatch.setattr(rates, "AWAY_SECONDS", 600.0)
    rates.forget()
    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    settings.REDIS_URL = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        for _ in range(20):
            with pytest.raises(ServiceUnavailable):
                await limiting.count("192.0.2.1", "x")
        assert asked == 1
    finally:
        await shared_state._clients[asyncio.get_running_loop()][1].aclose()
        await asyncio.wait_for(gone.wait(), 30)
        server.close()
        rates.forget()


async def test_after_a_moment_one_tries_again(database: None) -> None:
    rates._Away.until = time.monotonic() + 600
    with pytest.raises(ServiceUnavailable):
        await limiting.count("192.0.2.1", "x")
    rates._Away.until = time.monotonic()
    assert (await limiting.count("192.0.2.1", "x")).reached is None
    assert rates._Away.until == 0.0


@pytest.mark.parametrize("steps", range(12))
async def test_a_process_that_had_no_time_to_read_blames_no_redis(
    world: World, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Its own time for other work, after any step of asking, is no time without an answer."""
    monkeypatch.setattr(rates, "SECONDS", 0.3)
    await redis_asked()
    asked = asyncio.create_task(redis_asked())
    for _ in range(steps):
        await asyncio.sleep(0)
    time.sleep(0.4)  # noqa: ASYNC251 - what the test is about
    assert not (await asked).reached


async def redis_asked() -> rates.Verdict:
    return await rates.take_all([Bucket("test", Rate(100, 1.0), ("somebody",))])


# --- The arithmetic, in the real Redis --------------------------------------------------------------------------------


async def test_of_two_hundred_at_once_exactly_as_many_pass_as_fit(database: None) -> None:
    buckets = [
        Bucket("address", Rate(burst=50, every=60.0), ("a",)),
        Bucket("credential", Rate(burst=10, every=60.0), ("k",)),
    ]
    verdicts = await asyncio.gather(*(rates.take_all(buckets) for _ in range(200)))
    admitted = [verdict for verdict in verdicts if verdict.reached is None]
    assert len(admitted) == 10
    assert {verdict.reached.name for verdict in verdicts if verdict.reached} == {"credential"}
    assert min(verdict.limits[0].remaining for verdict in verdicts) == 40  # nothing was taken of the other


@pytest.mark.parametrize("skew", [-600.0, 600.0])
async def test_only_redis_clock_counts(database: None, monkeypatch: pytest.MonkeyPatch, skew: float) -> None:
    bucket = [Bucket("address", Rate(burst=2, every=60.0), ("a",))]
    await rates.take_all(bucket)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew)  # what this process takes for the time
    verdicts = [await rates.take_all(bucket) for _ in range(2)]
    assert [verdict.reached is None for verdict in verdicts] == [True, False]
    assert 30 < verdicts[1].wait <= 60


async def test_what_was_taken_is_earned_back(database: None) -> None:
    burst, every = 2, 0.5
    bucket = [Bucket("address", Rate(burst, every), ("a",))]
    began, taken = time.monotonic(), 0
    for _ in range(2):
        while (verdict := await rates.take_all(bucket)).reached is None:
            taken += 1
        await asyncio.sleep(verdict.wait)
        assert (await rates.take_all(bucket)).reached is None
        taken += 1
    assert burst + 2 <= taken <= burst + (time.monotonic() - began) / every


async def test_failures_take_no_more_than_there_is(database: None) -> None:
    bucket = [Bucket("address", Rate(burst=3, every=60.0), ("a",))]
    verdict = await rates.take_all(bucket, cost=9, forced=True)
    assert (verdict.reached, verdict.limits[0].remaining) == (None, 0)
    assert verdict.limits[0].reset <= 180


async def test_redis_may_forget_the_script(database: None) -> None:
    bucket = [Bucket("address", Rate(burst=3, every=60.0), ("a",))]
    await rates.take_all(bucket)
    await (await shared_state.redis()).script_flush()
    assert (await rates.take_all(bucket)).limits[0].remaining == 1
