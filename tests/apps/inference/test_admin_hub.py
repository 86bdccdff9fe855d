"""The page of a token's Inference Endpoints: what it shows, what a click stores, and where the token never stands."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client, override_settings
from django.urls import reverse

from apps.inference import admin_hub
from apps.inference.models import Endpoint
from apps.tenants.models import AuditEntry
from tests import factories
from tests.apps.admin_world import logged_in
from tests.fakes.dialects import VLLM
from tests.fakes.hub import TOKEN, FakeHub, Kept
from tests.fakes.huggingface import TEI
from tests.fakes.inference import DIMENSION, FakeInference


class RootTEI(TEI):
    embed_path = "/"


@dataclass
class Page:
    """An operator's browser at the page, and what stands behind it."""

    hub: FakeHub
    chat: FakeInference
    browser: Client

    async def post(self, **body: str) -> Any:
        return await sync_to_async(self.browser.post)(reverse(admin_hub.URL), body)

    async def text(self, **body: str) -> str:
        response = await self.post(**body)
        assert response.status_code == 200
        return str(response.content.decode())

    async def sealed(self) -> str:
        found = re.search(r'name="sealed" value="([^"]+)"', await self.text(token=TOKEN))
        assert found
        return found[1]

    async def add(self, full_name: str) -> Any:
        return await self.post(sealed=await self.sealed(), add=full_name)


async def rows(work: Callable[[], Any]) -> Any:
    return await sync_to_async(work)()


@pytest.fixture
async def page(database: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Page]:
    def operator() -> Client:
        return logged_in(factories.make_user("operator@example.com", is_superuser=True))

    async with FakeInference(dialect=VLLM("org/model", context_length=2048)) as chat:
        kept = [
            Kept("alice/chatter", chat.base_url, "running"),
            Kept("acme/sleeper", "https://abc.endpoints.huggingface.cloud", "scaledToZero"),
            Kept("acme/paused", "https://def.endpoints.huggingface.cloud", "paused"),
            Kept("acme/painter", "https://ghi.endpoints.huggingface.cloud", "running", task="text-to-image"),
        ]
        async with FakeHub(*kept) as hub:
            hub.point_at(monkeypatch)
            yield Page(hub, chat, await rows(operator))


async def test_what_the_tokens_owner_has_is_shown(page: Page) -> None:
    text = await page.text(token=TOKEN)
    for word in ("alice/chatter", "acme/sleeper", "org/model", "running", "scaled to zero", page.chat.base_url):
        assert word in text
    assert "Hugging Face tells its address once it was started" in text
    assert "Parley has no use for this task" in text
    assert set(re.findall(r'name="add" value="([^"]+)"', text)) == {"alice/chatter", "acme/sleeper"}
    assert page.hub.resumed == 0


async def test_one_click_adds_it(page: Page) -> None:
    response = await page.add("alice/chatter")
    row = await rows(Endpoint.objects.get)
    assert response.url == reverse("admin:inference_endpoint_change", args=(row.pk,))
    assert (row.name, row.kind, row.protocol, row.model) == ("chatter", "chat", "hf", "org/model")
    assert (row.base_url, row.hub_name, row.api_key) == (page.chat.base_url, "alice/chatter", TOKEN)
    assert (row.context_length, row.enabled, row.wake_seconds) == (2048, True, 0)  # as the server told
    said = await sync_to_async(page.browser.get)(response.url)
    assert "It was tested, and works." in said.content.decode()
    assert await rows(lambda: AuditEntry.objects.filter(action="endpoint.added", row_id=str(row.pk)).count()) == 1


async def test_one_that_sleeps_is_added_untested(page: Page) -> None:
    await page.add("acme/sleeper")
    row = await rows(Endpoint.objects.get)
    assert (row.name, row.hub_name) == ("sleeper", "acme/sleeper")
    assert page.hub.resumed == 0


async def test_the_token_stands_nowhere_but_encrypted_in_the_row(
    page: Page, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    listed = await page.post(token=TOKEN)
    added = await page.add("alice/chatter")
    answers = [listed, added, await sync_to_async(page.browser.get)(added.url)]
    assert all(TOKEN not in answer.content.decode() for answer in answers)
    assert all(TOKEN not in str(answer.headers) for answer in answers)
    assert "no-store" in listed["Cache-Control"]
    assert TOKEN not in str(page.browser.cookies)

    def stored() -> tuple[str, str, str]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT api_key FROM inference_endpoint")
            (key,) = cursor.fetchone()
        sessions = str([session.get_decoded() for session in Session.objects.all()])
        return key, sessions, str(list(AuditEntry.objects.values()))

    key, *others = await rows(stored)
    assert key
    assert TOKEN not in key
    assert all(TOKEN not in other for other in others)
    out, err = capfd.readouterr()
    assert TOKEN not in out + err + caplog.text


@pytest.mark.parametrize(
    ("token", "sentence"),
    [("", "Enter a token."), ("hf_wrong", "does not let this token"), ("x" * 2001, "Enter a token.")],
)
async def test_a_token_that_will_not_do_is_told(page: Page, token: str, sentence: str) -> None:
    assert sentence in await page.text(token=token)


async def test_an_owner_without_endpoints_is_told(page: Page) -> None:
    page.hub.kept.clear()
    assert "have no dedicated Inference Endpoints" in await page.text(token=TOKEN)


@pytest.mark.parametrize(
    ("full_name", "sentence"),
    [
        ("acme/paused", "Hugging Face tells its address once it was started."),
        ("acme/painter", "Parley has no use for this task."),
        ("acme/gone", "no longer there"),
    ],
)
async def test_what_cannot_be_added_is_told(page: Page, full_name: str, sentence: str) -> None:
    assert sentence in (await page.add(full_name)).content.decode()
    assert not await rows(Endpoint.objects.exists)


async def test_it_is_added_once(page: Page) -> None:
    await page.add("alice/chatter")
    assert "Added as" in await page.text(token=TOKEN)
    assert "It is here already, as chatter." in (await page.add("alice/chatter")).content.decode()
    assert await rows(Endpoint.objects.count) == 1


async def test_a_name_that_is_taken_is_told_apart(page: Page) -> None:
    await rows(lambda: factories.make_endpoint(name="chatter"))
    await page.add("alice/chatter")
    assert await rows(Endpoint.objects.filter(name="alice/chatter").exists)


async def test_an_embedding_endpoint_gets_its_dimension_while_it_runs(page: Page) -> None:
    async with FakeInference(dialect=RootTEI()) as fake:
        kept = Kept("acme/embedder", fake.base_url, "scaledToZero", task="sentence-embeddings")
        page.hub.kept = [kept]
        assert "can be measured while it runs" in (await page.add("acme/embedder")).content.decode()
        kept.state = "running"
        await page.add("acme/embedder")
    row = await rows(Endpoint.objects.get)
    assert (row.kind, row.dimension) == ("embedding", DIMENSION)


async def test_an_address_of_ones_own_network_is_refused(page: Page) -> None:
    sealed = await page.sealed()
    with override_settings(PARLEY_PRIVATE_ENDPOINT_HOSTS=[]):
        text = await page.text(sealed=sealed, add="alice/chatter")
    assert "PARLEY_PRIVATE_ENDPOINT_HOSTS" in text
    assert not await rows(Endpoint.objects.exists)


async def test_what_the_page_sealed_serves_nobody_else(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = await page.sealed()
    assert TOKEN not in sealed
    other = await rows(lambda: logged_in(factories.make_user("other@example.com", is_superuser=True)))
    mine, page.browser = page.browser, other
    assert "too old" in await page.text(sealed=sealed, add="alice/chatter")
    page.browser = mine
    for wrong in (sealed[:-4] + "AAAA", "x", "unknown:abc"):
        assert "too old" in await page.text(sealed=wrong, add="alice/chatter")
    monkeypatch.setattr(admin_hub, "SEALED_SECONDS", -1)
    assert "too old" in await page.text(sealed=await page.sealed(), add="alice/chatter")
    assert not await rows(Endpoint.objects.exists)


async def test_operators_alone_see_the_page(page: Page) -> None:
    def member() -> Client:
        return logged_in(factories.make_member(tenant=factories.make_tenant("acme")))

    page.browser = await rows(member)
    assert (await page.post(token=TOKEN)).status_code == 403
    assert (await sync_to_async(page.browser.get)(reverse(admin_hub.URL))).status_code == 403
    assert not page.hub.asked


async def test_the_list_of_endpoints_leads_there(page: Page) -> None:
    listed = await sync_to_async(page.browser.get)(reverse("admin:inference_endpoint_changelist"))
    way = reverse("admin:inference_endpoint_from_hugging_face")
    assert way in listed.content.decode()
    assert (await sync_to_async(page.browser.get)(way)).url == reverse(admin_hub.URL)
