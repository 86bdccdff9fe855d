"""What happens to model servers, told to an address of the operators: signed, once, and again where it fails."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook as Verifier

from apps.inference import gateway
from apps.webhooks import operators, tasks
from chatbot.inference.state import Change
from tests.apps.webhooks.receiver import Answer, Receiver
from tests.apps.webhooks.test_worker import worker

SECRET = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
OPENED = Change("e1", "Main chat", "10.0.0.1:8000", "breaker.opened", "Five questions in a row failed.")
CLOSED = replace(OPENED, what="breaker.closed", why="It answered.")
BODY = orjson.dumps({"type": "breaker.opened"}).decode()


@pytest.fixture(autouse=True)
def wanted(receiver: Receiver, database: None, settings: Any) -> None:
    # No host that a tenant names may be private here: the operators' is reached because they named it.
    settings.PARLEY_PRIVATE_WEBHOOK_HOSTS = []
    settings.PARLEY_OPERATOR_WEBHOOK_URL = receiver.url("/pager")
    settings.PARLEY_OPERATOR_WEBHOOK_SECRET = SECRET


def happens(*changes: Change) -> None:
    """As the process's pool tells it."""
    hear = gateway._pool.on_change
    assert hear is not None
    for change in changes:
        hear(change)


async def carried_out(message_id: str) -> None:
    """The task with its retries, which do not wait where no broker is."""
    await asyncio.to_thread(tasks.tell_operators.apply, (message_id, BODY))


async def test_each_transition_arrives_signed_and_what_several_processes_say_of_it_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    elsewhere = replace(OPENED, address="10.0.0.2:8000")
    happens(OPENED, OPENED, elsewhere, CLOSED, OPENED)
    told = {"PARLEY_OPERATOR_WEBHOOK_URL": receiver.url("/pager"), "PARLEY_OPERATOR_WEBHOOK_SECRET": SECRET}
    with worker(tmp_path / "log", **told):
        async with asyncio.timeout(90):
            await receiver.received(4)
    heard = [(request.message["type"], request.message["data"]["address"]) for request in receiver.requests]
    expected = [OPENED, elsewhere, CLOSED, OPENED]
    assert heard == [(change.what, change.address) for change in expected]
    first = receiver.requests[0]
    assert Verifier(SECRET).verify(first.body, first.headers) == first.message
    assert first.message["data"] == {
        "endpoint": "e1", "name": "Main chat", "address": "10.0.0.1:8000", "why": "Five questions in a row failed.",
    }  # fmt: skip
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == len(expected)


async def test_a_failure_is_tried_again_under_the_same_id(receiver: Receiver) -> None:
    receiver.script(Answer(500), Answer(reset=True))
    await carried_out("msg_1")
    assert [request.headers["webhook-id"] for request in receiver.requests] == ["msg_1"] * 3
    assert len({request.body for request in receiver.requests}) == 1


async def test_after_the_last_attempt_it_is_given_up(receiver: Receiver) -> None:
    receiver.script(always=Answer(503))
    await carried_out("msg_1")
    assert len(receiver.requests) == 1 + len(operators.BACKOFF)
    waits = [await operators.deliver("msg_1", BODY, attempt=attempt) for attempt in range(5)]
    assert waits == [10, 60, 300, 600, None]


async def test_a_receiver_that_wants_no_more_is_left_alone(receiver: Receiver) -> None:
    receiver.script(always=Answer(410))
    await carried_out("msg_1")
    assert len(receiver.requests) == 1


async def test_without_an_address_nobody_is_told(receiver: Receiver, settings: Any) -> None:
    settings.PARLEY_OPERATOR_WEBHOOK_URL = ""
    happens(OPENED)
    assert operators._waiting.empty()
    await carried_out("msg_1")  # it was on its way when the address was taken out
    assert not receiver.requests


def test_a_message_that_waits_is_not_handed_to_a_second_worker(settings: Any) -> None:
    assert max(operators.BACKOFF) < settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"]
    assert sum(operators.BACKOFF) + 75 < operators.EXPIRES_SECONDS  # five attempts of 15 s
