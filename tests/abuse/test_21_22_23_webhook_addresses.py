"""Webhooks reach public addresses only: when they are saved, when they are sent, by redirect and by a changing name."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit
from apps.webhooks import courier, sending
from apps.webhooks.models import Delivery, Event, Webhook
from chatbot import addresses
from tests import factories
from tests.abuse.conftest import bearer, send
from tests.apps.webhooks.conftest import only_delivery, told
from tests.apps.webhooks.receiver import Answer, Receiver
from tests.chatbot.test_addresses import INNER

TRICKS = [
    "http://user@r.example/", "https://r.example\\@127.0.0.1/", "https:\\\\127.0.0.1/", "//127.0.0.1/",
    "https://[::ffff:a9fe:a9fe]/", "https://[64:ff9b::a9fe:a9fe]/", "https://[2002:a9fe:a9fe::]/", "file:///etc/passwd",
]  # fmt: skip


@pytest.fixture
def acme(database: None) -> Tenant:
    return factories.make_tenant("acme")


def webhook_to(tenant: Tenant, url: str) -> Webhook:
    """Past the checks that registering makes, as an address that was public then."""
    return Webhook.objects.create(tenant=tenant, name="x", url=url, events=[Event.TURN_FINISHED], secret="whsec_AAAA")


async def sent(tenant: Tenant, url: str) -> Delivery:
    """What became of an event for a webhook there."""
    await platform_unit(webhook_to, tenant, url)
    await told(tenant)
    await courier.run()
    return await only_delivery(tenant)


async def test_21_an_inner_address_is_refused_and_not_sent_to(acme: Tenant) -> None:
    headers = bearer(await platform_unit(factories.make_key, tenant=acme)) | {b"content-type": b"application/json"}
    urls = [*(f"https://{f'[{address}]' if ':' in address else address}/" for address in INNER), *TRICKS]
    for url in urls:
        body = json.dumps({"name": "x", "url": url, "events": ["turn.finished"]}).encode()
        answer = await send("POST", "/api/v1/webhooks", headers, body)
        assert (answer.status, list(json.loads(answer.body)["fields"])) == (400, ["url"]), url
        await platform_unit(webhook_to, acme, url)
    await told(acme)
    await courier.run()
    outcomes = await platform_unit(lambda: list(Delivery.objects.values_list("status", "status_code", "attempts")))
    assert outcomes == [("pending", None, 1)] * len(urls)


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("localhost", addresses.REFUSED),
        ("0x7f.1", addresses.REFUSED),
        ("127.1", "This is not an address."),
        ("2130706433", "This is not an address."),
    ],
)
async def test_21_a_name_for_an_inner_address_reaches_nothing(acme: Tenant, host: str, error: str) -> None:
    async with Receiver() as inner:
        delivery = await sent(acme, inner.url(host=host))
        assert inner.requests == []
    assert delivery.error == error


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_22_a_redirect_is_not_followed(acme: Tenant, settings: Any, status: int) -> None:
    settings.PARLEY_PRIVATE_WEBHOOK_HOSTS = ["127.0.0.1"]
    async with Receiver() as outer, Receiver() as inner:
        outer.script(Answer(status, {"Location": inner.url()}))
        delivery = await sent(acme, outer.url())
        assert (len(outer.requests), inner.requests) == (1, [])
    assert delivery.error.startswith(f"It answered {status}, a redirect")


class Rebinding(ThreadedResolver):
    """A name with one address at first and another from then on."""

    answers: list[str]
    asked = 0

    async def resolve(
        self, _host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.answers[min(type(self).asked, 1)]
        type(self).asked += 1
        return await super().resolve(address, port, family)


async def test_23_a_name_that_turns_inward_reaches_nothing(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "ThreadedResolver", Rebinding)
    monkeypatch.setattr(Rebinding, "answers", ["127.0.0.1", "127.0.0.1"], raising=False)
    async with Receiver() as inner:
        delivery = await sent(acme, inner.url(host="rebinds.example"))
        assert inner.requests == []
    assert delivery.error == addresses.REFUSED


async def test_23_the_connection_goes_to_the_address_that_was_checked(
    acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "ThreadedResolver", Rebinding)
    monkeypatch.setattr(Rebinding, "answers", ["8.8.8.8", "127.0.0.1"], raising=False)
    monkeypatch.setattr(Rebinding, "asked", 0)
    webhook = await platform_unit(webhook_to, acme, "http://rebinds.example:9/")
    await told(acme)
    delivery = await only_delivery(acme)
    async with sending.session() as client:
        # The wall around the tests stands where the connection is made.
        with pytest.raises(AssertionError, match=r"tried to reach 8\.8\.8\.8"):
            await sending.send(client, webhook, delivery)
    assert Rebinding.asked == 1
