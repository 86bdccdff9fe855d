"""docs/webhooks.md against the code: its messages are those that are sent, its receivers receive, its numbers hold."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from apps.access.authentication import Caller
from apps.conversations import announcing as turns
from apps.conversations import handoff
from apps.conversations.models import Conversation, Turn
from apps.knowledge import announcing as documents
from apps.knowledge.models import Document
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit, tenant_scope
from apps.usage.models import QuotaAlert
from apps.webhooks import attempts, courier, deliveries, registration, sending
from apps.webhooks.models import ANNOUNCED, Delivery, Event, Webhook
from apps.widget.models import Widget
from local.home import free_port
from tests.apps.admin_world import make_world
from tests.apps.webhooks.conftest import make_webhook
from tests.environment import ROOT
from tests.pages.blocks import blocks_of

PAGE = ROOT / "docs" / "webhooks.md"
BLOCKS = [block for block in blocks_of(PAGE) if "checked by" in block.marks]
PROSE = " ".join(PAGE.read_text().split())


def shape(value: Any) -> Any:
    """Names and types; null stands for any."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return type(value).__name__


def fits(shown: Any, real: Any) -> bool:
    if isinstance(shown, dict) and isinstance(real, dict):
        return shown.keys() == real.keys() and all(fits(shown[name], real[name]) for name in shown)
    return "NoneType" in (shown, real) or bool(shown == real)


@pytest.mark.django_db
def test_messages_are_as_shown() -> None:
    acme = make_world().acme
    Webhook.objects.all().delete()
    webhook = registration.register(acme, name="x", url="https://r.example/", events=list(ANNOUNCED))
    document = Document.objects.for_tenant(acme).get()
    with tenant_scope(acme):
        turns.turn_finished(acme, Turn.objects.for_tenant(acme).get().pk)
        documents.document_ready(document)
        documents.document_failed(document)
        alert = QuotaAlert.objects.for_tenant(acme).get()
        deliveries.announce(acme.pk, Event.QUOTA_REACHED, lambda: deliveries.Happened(None, alert.told_to_webhooks))
        Widget.objects.for_tenant(acme).update(handoff="webhook")
        conversation = Conversation.objects.for_tenant(acme).get()
        handoff.hand_off(Caller(tenant=acme), conversation.pk, email="ada@shop.example", note="It does not fit.")
        deliveries.write_test(webhook, lease=attempts.LEASE)
    real = {row.event: json.loads(sending.body_of(row)) for row in Delivery.objects.for_tenant(acme)}
    shown = {message["type"]: message for message in (json.loads(b.text) for b in BLOCKS if b.language == "json")}
    assert shown.keys() == real.keys()
    for name, message in shown.items():
        assert fits(shape(message), shape(real[name])), (shape(message), shape(real[name]))


@contextmanager
def receiver(language: str, secret: str, directory: Path) -> Iterator[str]:
    """The address of the page's receiver, as its reader would start it."""
    (block,) = [block for block in BLOCKS if block.language == language]
    program = directory / ("receiver.py" if language == "python" else "receiver.mjs")
    program.write_text(block.text)
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "WEBHOOK_SECRET": secret}
    command = sys.executable if language == "python" else "node"
    with (
        (directory / "log").open("w") as log,
        subprocess.Popen([command, str(program)], env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()


@pytest.mark.parametrize("language", ["python", "js"])
async def test_the_receivers_take_ours_and_refuse_others(acme: Tenant, tmp_path: Path, language: str) -> None:
    webhook = await platform_unit(make_webhook, acme)
    with receiver(language, webhook.secret, tmp_path) as url:
        await answering(url)
        await platform_unit(lambda: Webhook.objects.filter(pk=webhook.pk).update(url=url))
        await platform_unit(webhook.refresh_from_db)
        for rotated in (False, True):
            if rotated:
                await platform_unit(registration.rotate_secret, webhook)
            result = await courier.test(webhook)
            assert (result.status_code, result.error) == (204, "")
        await platform_unit(registration.rotate_secret, webhook)
        assert (await courier.test(webhook)).error == "It answered 401."
    assert (tmp_path / "log").read_text().count("webhook.test") == 2


async def answering(url: str) -> None:
    """Wait until it listens; what bears no signature is refused."""
    async with aiohttp.ClientSession() as session:
        for _ in range(1000):
            try:
                async with session.post(url, data=b"{}") as response:
                    assert response.status == 401
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
    raise AssertionError("The receiver does not start.")


def words(seconds: int) -> str:
    for unit_seconds, name in ((3600, "hour"), (60, "minute"), (1, "second")):
        if seconds % unit_seconds == 0:
            count = seconds // unit_seconds
            return f"{count} {name}{'s' if count > 1 else ''}"
    raise AssertionError(seconds)


def test_the_numbers_are_those_of_the_code() -> None:
    *some, last = (words(seconds) for seconds in attempts.BACKOFF)
    for sentence in (
        f"tried again after {', '.join(some)} and {last}, each a fifth more or less",
        f"no connection within {sending.CONNECT_SECONDS:.0f} seconds, no answer within {sending.TOTAL_SECONDS:.0f}",
        f"At most {attempts.AT_ONCE} messages of a webhook are on their way at once, and one while it fails",
        f"keeps each message for {deliveries.KEPT.days} days",
        f"every attempt of {attempts.FAILING_TOO_LONG.days} days has failed",
        f"For {registration.ROTATION.total_seconds() / 3600:.0f} hours messages carry the signatures of both",
        f"A tenant can have {registration.MOST_WEBHOOKS} webhooks.",
    ):
        assert sentence in PROSE, sentence
    assert (attempts.JITTER, attempts.AT_ONCE_FAILING) == (0.2, 1)
