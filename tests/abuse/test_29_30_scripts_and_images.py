"""Markup from anyone (a model, a document, an end user, a member) runs nothing and fetches nothing in the admin.

Payloads stand in every text that people meet: titles, names, messages, citations, prompts, failures; and in an answer
that comes token by token, its payloads cut at every place.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from django.db import connections
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from apps.conversations.models import Message, Turn
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge.models import Document
from apps.tenants.models import Membership
from tests import factories
from tests.apps.admin_world import make_turn
from tests.browser.conftest import open_page, session_of
from tests.fakes.inference import FakeInference, Reply, embedding

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

AWAY = "http://192.0.2.1"
PAYLOADS = [
    "<script>owned()</script>",
    '"><img src=x onerror=owned()>',
    "'><svg/onload=owned()>",
    f"<img src={AWAY}/pixel.png><link rel=preload as=image href={AWAY}/l><style>@import '{AWAY}/s'</style>",
    f"![x]({AWAY}/md.png) [click]({AWAY}/?q) [ref]: {AWAY}/ref {AWAY}/plain",
    f"<iframe src={AWAY}/frame></iframe><object data={AWAY}/o></object><video src={AWAY}/v autoplay></video>",
    "<a href=javascript:owned()>x</a><form action=javascript:owned()><input autofocus onfocus=owned()>",
    "</textarea></title></style></script><script>owned()</script>",
    "{{ constructor.constructor('owned()')() }} ${owned()} `${owned()}`",
    '<div x-data x-init="owned()"></div><div x-data="{a: owned()}"></div>',
    '{"__html": "<img src=x onerror=owned()>"}',
    "\u2028owned()\u2029//--><!--<script>owned()</script>",
    "<math><mtext></table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror=owned()&gt;'>",
]
HOSTILE = " ".join(PAYLOADS)
# `next` of a link, a status or a hint may be an attribute, so a short payload that leaves one comes first.
SHORT = "\"'><img src=x onerror=owned()>"


@pytest.fixture
def models() -> Iterator[FakeInference]:
    """The scripted model server on a loop of its own: Playwright occupies this thread's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = FakeInference()
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(60)
    yield server
    asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@dataclass
class Hostile:
    """A logged-in owner and the pages that show what was written by others."""

    session: str
    pages: list[str] = field(default_factory=list)


@pytest.fixture
def hostile(database: None, models: FakeInference) -> Hostile:
    tenant = factories.make_tenant("acme", name=f"A {SHORT}")
    owner = factories.make_member(tenant=tenant, role=Membership.Role.OWNER)
    owner.name = SHORT
    owner.save()
    chat = factories.make_endpoint(models.base_url, name=f"E {SHORT}", **factories.PATIENT)
    endpoint = factories.make_endpoint(models.base_url, kind=Endpoint.Kind.EMBEDDING, **factories.PATIENT)
    collection = factories.make_collection(
        tenant=tenant,
        index=factories.make_index(tenant=tenant, endpoint=endpoint),
        name=f"C {SHORT}",
        description=HOSTILE,
    )
    document = factories.make_document(
        tenant=tenant,
        collection=collection,
        title=f"D {SHORT}",
        file_name=f"{SHORT}.md",
        status=Document.Status.FAILED,
        failure_code="parser",
        failure_message=HOSTILE[:400],
    )
    factories.make_passage(tenant=tenant, document=document, text=HOSTILE, vector=embedding("x"), heading=[SHORT])
    prompt = factories.make_prompt(tenant=tenant, name=f"P {SHORT}", template=f"{{% raw %}}{HOSTILE}{{% endraw %}}")
    assistant = factories.make_assistant(
        tenant=tenant, prompt=prompt, collections=(collection,), name=f"G {SHORT}", description=HOSTILE[:200]
    )
    person = factories.make_end_user(tenant=tenant, external_id=f"U {SHORT}")
    conversation = factories.make_conversation(tenant=tenant, assistant=assistant, end_user=person, title=SHORT)
    turn = make_turn(conversation, text=HOSTILE, endpoint=chat)
    source = {"n": 1, "chunk": "x", "document": str(document.pk), "title": SHORT, "heading": [SHORT], "page": 3}
    source |= {"text": HOSTILE, "score": 1.0}
    Message.objects.filter(pk=turn.answer_id).update(text=f"{HOSTILE} [1]", citations=[source])
    Turn.objects.filter(pk=turn.pk).update(sources=[source], finish_reason=SHORT[:20], error_message=HOSTILE[:400])
    factories.make_key(tenant=tenant, name=f"K {SHORT}", created_by=owner, expires_at=timezone.now())
    gateway.changed()  # or the web process would ask those of the test before
    rows = [document, collection, prompt, assistant, person, conversation, turn, tenant]
    pages = [
        reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}", args=arguments)
        for row in rows
        for page, arguments in (("changelist", []), ("change", [row.pk]), ("delete", [row.pk]), ("history", [row.pk]))
        if row is not tenant or page == "change"
    ]
    pages += [
        reverse("admin:index"),
        reverse("admin:tenants_apikey_changelist"),
        reverse("admin:usage_usagerecord_changelist"),
        reverse("admin:knowledge_collection_upload", args=[collection.pk]),
        reverse("admin:knowledge_collection_search", args=[collection.pk]) + "?q=img",
        reverse("admin:search") + "?s=img&extended=1",
        reverse("admin:conversations_conversation_changelist") + f"?q={SHORT}",
    ]
    return Hostile(session_of(owner), pages)


@dataclass
class Guard:
    """What got out of a page, or ran in it."""

    ran: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)

    def over(self, page: Page, web: str) -> None:
        page.expose_function("owned", lambda: self.ran.append(page.url))
        page.on("dialog", lambda dialog: self.ran.append(dialog.message))
        page.on("request", lambda request: self._asked(request.url, web))

    def _asked(self, url: str, web: str) -> None:
        if not url.startswith((f"{web}/admin/", f"{web}/static/", f"{web}/favicon", "data:", "blob:")):
            self.reached.append(url)
        if url.endswith(("/x", "/x/")):
            self.reached.append(url)


def test_pages_of_the_admin(web: str, hostile: Hostile, request: pytest.FixtureRequest) -> None:
    browser: Browser = request.getfixturevalue("browser")
    page, _ = open_page(browser, web, hostile.session)
    guard = Guard()
    guard.over(page, web)
    for url in hostile.pages:
        answer = page.goto(url, wait_until="load")
        assert answer is not None
        assert answer.status in {200, 403}, url
        planted = page.locator("img[src=x], script:text('owned'), [onerror], iframe, object, [x-init*=owned]")
        assert planted.count() == 0, url
    assert (guard.ran, guard.reached) == ([], [])


def test_an_answer_whose_payloads_are_split_across_tokens(
    web: str, hostile: Hostile, models: FakeInference, request: pytest.FixtureRequest
) -> None:
    browser: Browser = request.getfixturevalue("browser")
    page, _ = open_page(browser, web, hostile.session)
    guard = Guard()
    guard.over(page, web)
    page.goto(reverse("admin:conversations_playground"))
    for size in (1, 7, len(HOSTILE)):
        text = f"{HOSTILE} [1] end"
        models.script(Reply(tokens=[text[start : start + size] for start in range(0, len(text), size)]))
        turn = page.locator(".p-turn").nth(page.locator(".p-turn").count())
        page.get_by_label("Your question").fill(HOSTILE)
        page.get_by_label("Your question").press("Enter")
        expect(turn.locator(".p-facts")).to_contain_text("Done after")
        assert "<script>owned()</script>" in turn.locator(".p-text").inner_text(), turn.inner_text()
        turn.locator("details").evaluate_all("all => all.forEach(each => { each.open = true })")
        assert turn.locator("img, script, iframe, object, svg[onload], form, [x-init]").count() == 0
    assert (guard.ran, guard.reached) == ([], [])


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    connections.close_all()
