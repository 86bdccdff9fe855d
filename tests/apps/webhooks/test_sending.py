"""Deliveries on the wire, against a receiver on a socket."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
from django.utils import timezone
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit, unit
from apps.webhooks import attempts, courier, registration, sending
from apps.webhooks.models import Delivery, Event, Webhook
from tests.apps.webhooks.conftest import make_due, make_webhook, only_delivery, told
from tests.apps.webhooks.receiver import Answer, Receiver


async def delivered_once(acme: Tenant, receiver: Receiver, *answers: Answer, **fields: Any) -> Delivery:
    """What became of one event after one attempt."""
    receiver.script(*answers)
    await platform_unit(make_webhook, acme, receiver.url(), **fields)
    await told(acme)
    await courier.run()
    return await only_delivery(acme)


async def test_an_event_arrives_signed(acme: Tenant, receiver: Receiver) -> None:
    delivery = await delivered_once(acme, receiver)
    assert (delivery.status, delivery.status_code, delivery.attempts, delivery.error) == ("delivered", 200, 1, "")
    (request,) = receiver.requests
    assert Verifier(delivery.webhook.secret).verify(request.body, request.headers) == request.message
    assert request.message == {
        "type": "turn.finished",
        "timestamp": delivery.created.isoformat().replace("+00:00", "Z"),
        "data": {"turn": "t"},
    }
    assert request.headers["webhook-id"] == f"msg_{delivery.pk.hex}"
    assert request.headers["Content-Type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Verifier(delivery.webhook.secret).verify(request.body + b" ", request.headers)


async def test_a_failure_is_tried_again_under_the_same_id(acme: Tenant, receiver: Receiver) -> None:
    before = timezone.now()
    first = await delivered_once(acme, receiver, Answer(500, body=b"secret of the receiver"))
    assert (first.status, first.status_code, first.error) == ("pending", 500, "It answered 500.")
    wait = (first.next_attempt_at - before).total_seconds()
    assert 10 * (1 - attempts.JITTER) <= wait <= 10 * (1 + attempts.JITTER) + 5
    assert first.webhook.failures == 1
    await courier.run()
    assert len(receiver.requests) == 1  # it is not due yet
    await make_due(acme)
    await courier.run()
    again = await only_delivery(acme)
    assert (again.status, again.attempts, again.error, again.webhook.failures) == ("delivered", 2, "", 0)
    assert receiver.requests[0].body == receiver.requests[1].body
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Answer(302, {"Location": "http://169.254.169.254/"}), "It answered 302, a redirect, which is not followed."),
        (Answer(404), "It answered 404."),
        (Answer(reset=True), "It broke the connection off"),
        (Answer(200, {"X": "y" * 70_000}), "It broke the connection off"),
    ],
    ids=["redirect", "404", "reset", "headers"],
)
async def test_what_is_no_success_says_why(acme: Tenant, receiver: Receiver, answer: Answer, sentence: str) -> None:
    delivery = await delivered_once(acme, receiver, answer)
    assert delivery.status == "pending"
    assert delivery.error.startswith(sentence)
    assert len(receiver.requests) == 1


async def test_a_receiver_that_hangs_is_given_up(
    acme: Tenant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TOTAL_SECONDS", 0.2)
    delivery = await delivered_once(acme, receiver, Answer(hang=30))
    assert delivery.error.startswith("It did not answer within")
    assert delivery.status_code is None


async def test_a_huge_answer_is_not_read(acme: Tenant, receiver: Receiver) -> None:
    delivery = await delivered_once(acme, receiver, Answer(200, endless=True))
    assert delivery.status == "delivered"


async def test_nobody_there(acme: Tenant, receiver: Receiver) -> None:
    async with Receiver() as gone:
        url = gone.url()
    await platform_unit(make_webhook, acme, url)
    await told(acme)
    await courier.run()
    assert (await only_delivery(acme)).error == "It does not accept connections."


async def test_gone_switches_the_webhook_off(acme: Tenant, receiver: Receiver) -> None:
    receiver.script(Answer(410))
    webhook = await platform_unit(make_webhook, acme, receiver.url())
    for _ in range(3):
        await told(acme)
    await platform_unit(lambda: Webhook.objects.filter(pk=webhook.pk).update(failures=1, failing_since=timezone.now()))
    await courier.run()
    await platform_unit(webhook.refresh_from_db)
    assert (webhook.enabled, webhook.disabled_reason) == (False, "Its receiver answered 410 Gone.")
    rows = await platform_unit(
        lambda: list(Delivery.objects.for_tenant(acme).order_by("created").values("status", "error"))
    )
    assert [row["status"] for row in rows] == ["failed"] * 3
    assert [row["error"][:11] for row in rows] == ["It answered", "The webhook", "The webhook"]
    await told(acme)
    assert await platform_unit(Delivery.objects.for_tenant(acme).count) == 3
    await unit(registration.change, webhook, enabled=True)
    assert (webhook.enabled, webhook.failures, webhook.disabled_reason) == (True, 0, "")


async def test_days_of_failures_switch_it_off(acme: Tenant, receiver: Receiver) -> None:
    webhook = await platform_unit(make_webhook, acme, receiver.url())
    since = timezone.now() - attempts.FAILING_TOO_LONG - datetime.timedelta(minutes=1)
    await platform_unit(lambda: Webhook.objects.filter(pk=webhook.pk).update(failures=40, failing_since=since))
    receiver.script(Answer(500))
    await told(acme)
    await courier.run()
    await platform_unit(webhook.refresh_from_db)
    assert (webhook.enabled, webhook.disabled_reason) == (False, "Every attempt of 5 days had failed.")
    assert (await only_delivery(acme)).status == "failed"


async def test_the_last_attempt_fails_for_good(acme: Tenant, receiver: Receiver) -> None:
    receiver.script(always=Answer(500))
    await platform_unit(make_webhook, acme, receiver.url())
    await told(acme)
    for _ in range(len(attempts.BACKOFF)):
        await courier.run()
        assert (await only_delivery(acme)).status == "pending"
        await make_due(acme)
    await courier.run()
    delivery = await only_delivery(acme)
    assert (delivery.status, delivery.attempts) == ("failed", 8)
    assert delivery.webhook.enabled


async def test_a_slow_receiver_holds_nobody_up(
    acme: Tenant, globex: Tenant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TOTAL_SECONDS", 600.0)
    async with Receiver() as slow:
        slow.script(always=Answer(hang=600))
        await platform_unit(make_webhook, acme, slow.url())
        await platform_unit(make_webhook, globex, receiver.url())
        for _ in range(10):
            await told(acme)
        running = asyncio.create_task(courier.run())
        await slow.received(1)
        for _ in range(10):
            await told(globex)
        async with asyncio.timeout(60):  # none of the slow ones ends before
            await receiver.received(10)
        assert len(slow.requests) == attempts.AT_ONCE
        running.cancel()
        await asyncio.wait([running])


async def test_after_a_rotation_both_secrets_sign_for_a_day(acme: Tenant, receiver: Receiver) -> None:
    webhook = await platform_unit(make_webhook, acme, receiver.url())
    old = webhook.secret
    await platform_unit(registration.rotate_secret, webhook)
    assert webhook.secret != old
    await told(acme)
    await courier.run()
    (request,) = receiver.requests
    for secret in (old, webhook.secret):
        assert Verifier(secret).verify(request.body, request.headers)
    yesterday = timezone.now() - datetime.timedelta(seconds=1)
    await platform_unit(lambda: Webhook.objects.filter(pk=webhook.pk).update(previous_secret_until=yesterday))
    await told(acme)
    await courier.run()
    with pytest.raises(WebhookVerificationError):
        Verifier(old).verify(receiver.requests[1].body, receiver.requests[1].headers)


async def test_a_test_event_is_sent_at_once_and_once(acme: Tenant, receiver: Receiver) -> None:
    receiver.script(Answer(500))
    webhook = await platform_unit(make_webhook, acme, receiver.url(), enabled=False)
    assert (await courier.test(webhook)).error == "It answered 500."
    delivery = await only_delivery(acme)
    assert (delivery.event, delivery.status, delivery.webhook.failures) == (Event.TEST, "failed", 0)
    assert (await courier.test(webhook)).error == ""
    assert receiver.requests[1].message["type"] == "webhook.test"
