"""The admin of assistants and prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apps.assistants.models import Assistant, Prompt, PromptVersion
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge.models import Collection
from apps.tenants.models import AuditEntry, Tenant
from chatbot.templates import DEFAULT_TEMPLATE, VARIABLES
from tests.apps.admin_world import World, logged_in, make_world

pytestmark = pytest.mark.django_db

FORM = {"name": "Guide", "slug": "guide", "temperature": "0.2", "max_tokens": "512", "passages": "6", "is_active": "on"}


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def bob(world: World) -> Client:
    return logged_in(world.bob)


def prompt_of(tenant: Tenant) -> Prompt:
    found: Prompt = Prompt.objects.for_tenant(tenant).get()
    return found


def page_of(prompt: Prompt) -> str:
    return reverse("admin:assistants_prompt_change", args=[prompt.pk])


# --- Assistants -------------------------------------------------------------------------------------------------------


def test_first_assistant_needs_no_prompt_of_its_own(world: World, bob: Client) -> None:
    bob.post(reverse("admin:assistants_assistant_add"), FORM)
    assistant = Assistant.objects.for_tenant(world.acme).get(slug="guide")
    assert assistant.prompt.published.template == DEFAULT_TEMPLATE


def test_web_sites_are_kept_as_browsers_name_them(world: World, bob: Client) -> None:
    sites = "https://Shop.example/\n\n http://localhost:3000\nhttps://shop.example"
    bob.post(reverse("admin:assistants_assistant_add"), {**FORM, "visitor_origins": sites})
    assistant = Assistant.objects.for_tenant(world.acme).get(slug="guide")
    assert assistant.visitor_origins == ["https://shop.example", "http://localhost:3000"]
    page = bob.get(reverse("admin:assistants_assistant_change", args=[assistant.pk])).content.decode()
    assert "https://shop.example\nhttp://localhost:3000</textarea>" in page
    bob.post(
        reverse("admin:assistants_assistant_change", args=[assistant.pk]),
        {**FORM, "prompt": str(assistant.prompt_id), "visitor_origins": "https://other.example"},
    )
    entry = AuditEntry.objects.filter(row_id=str(assistant.pk)).order_by("-seq").first()
    assert entry.facts == {"fields": ["Web sites"]}


@pytest.mark.parametrize("site", ["http://shop.example", "https://shop.example/page", "*", "null"])
def test_what_is_no_web_site_is_told(world: World, bob: Client, site: str) -> None:
    page = bob.post(
        reverse("admin:assistants_assistant_add"), {**FORM, "visitor_origins": f"https://a.example\n{site}"}
    )
    assert f"{site}: An origin " in page.content.decode()
    assert not Assistant.objects.for_tenant(world.acme).filter(slug="guide").exists()


def test_collections_are_chosen_and_unchosen(world: World, bob: Client) -> None:
    collection = Collection.objects.for_tenant(world.acme).get()
    bob.post(reverse("admin:assistants_assistant_add"), {**FORM, "knowledge": [str(collection.pk)]})
    assistant = Assistant.objects.for_tenant(world.acme).get(slug="guide")
    assert list(assistant.collections.all()) == [collection]
    change = reverse("admin:assistants_assistant_change", args=[assistant.pk])
    assert f'value="{collection.pk}"' in bob.get(change).content.decode()
    bob.post(change, {**FORM, "prompt": str(assistant.prompt_id)})
    assert not assistant.collections.exists()


def test_foreign_collection_and_prompt_are_unknown_choices(world: World, bob: Client) -> None:
    foreign = Collection.objects.for_tenant(world.globex).get()
    for field, value in (("knowledge", foreign.pk), ("prompt", prompt_of(world.globex).pk)):
        response = bob.post(reverse("admin:assistants_assistant_add"), {**FORM, field: str(value)})
        assert response.status_code == 200
        assert not Assistant.objects.for_tenant(world.acme).filter(slug="guide").exists()


def test_ask_leads_to_the_page_that_asks(world: World, bob: Client) -> None:
    assistant = Assistant.objects.for_tenant(world.acme).get()
    response = bob.get(reverse("admin:assistants_assistant_ask", args=[assistant.pk]), follow=True)
    page = response.content.decode()
    assert f'value="{assistant.pk}" selected' in page
    assert "globex" not in page


# --- Prompts ----------------------------------------------------------------------------------------------------------


def test_editor_documents_every_variable(world: World, bob: Client) -> None:
    page = bob.get(page_of(prompt_of(world.acme))).content.decode()
    for name in VARIABLES:
        assert f"{{{{ {name} }}}}" in page


def test_draft_waits_and_publishing_makes_it_answer(world: World, bob: Client) -> None:
    prompt = prompt_of(world.acme)
    bob.post(page_of(prompt), {"name": prompt.name, "template": "Be kind.\r\nAlways.", "note": "Kinder", "_save": "1"})
    draft = PromptVersion.objects.for_tenant(world.acme).get(number=2)
    prompt.refresh_from_db()
    assert (draft.template, draft.note, draft.created_by) == ("Be kind.\nAlways.", "Kinder", world.bob)
    assert prompt.published.number == 1
    publish = reverse("admin:assistants_prompt_publish", args=[prompt.pk])
    assert bob.get(publish).status_code == 405
    bob.post(publish, {"version": str(draft.pk)})
    prompt.refresh_from_db()
    assert prompt.published == draft


def test_unchanged_text_makes_no_version(world: World, bob: Client) -> None:
    prompt = prompt_of(world.acme)
    bob.post(page_of(prompt), {"name": "Renamed", "template": prompt.published.template, "_save": "1"})
    prompt.refresh_from_db()
    assert (prompt.name, prompt.versions.count()) == ("Renamed", 1)


@pytest.mark.parametrize(
    ("template", "problem"), [("Hello\n{{ nonsense }}", "Line 2: unknown variable"), ("{% if %}", "Line 1:")]
)
def test_mistake_is_refused_with_its_line(world: World, bob: Client, template: str, problem: str) -> None:
    prompt = prompt_of(world.acme)
    response = bob.post(page_of(prompt), {"name": prompt.name, "template": template, "_publish": "1"})
    assert problem in response.content.decode()
    assert prompt.versions.count() == 1


def test_version_of_another_prompt_is_not_published(world: World, bob: Client) -> None:
    prompt, foreign = prompt_of(world.acme), prompt_of(world.globex).published
    bob.post(reverse("admin:assistants_prompt_publish", args=[prompt.pk]), {"version": str(foreign.pk)})
    prompt.refresh_from_db()
    assert prompt.published.number == 1


def test_prompt_that_answered_cannot_be_deleted(world: World, bob: Client) -> None:
    prompt = prompt_of(world.acme)
    Assistant.objects.for_tenant(world.acme).update(prompt=Prompt.objects.create(tenant=world.acme, name="Other"))
    response = bob.post(reverse("admin:assistants_prompt_delete", args=[prompt.pk]), {"post": "yes"})
    assert "1 turn" in response.content.decode()
    assert Prompt.objects.for_tenant(world.acme).filter(pk=prompt.pk).exists()


# --- Preview ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def committed(database: None) -> Iterator[World]:
    """Search runs in threads of its own, which see committed rows only."""
    gateway.forget()
    yield make_world()
    gateway.forget()


def preview(world: World, **fields: Any) -> str:
    prompt = prompt_of(world.acme)
    assistant = Assistant.objects.for_tenant(world.acme).get()
    posted = {"template": "You are {{ assistant }}.\n{{ passages }}", "assistant": str(assistant.pk), **fields}
    url = reverse("admin:assistants_prompt_preview", args=[prompt.pk])
    return logged_in(world.bob).post(url, posted).content.decode()


@pytest.mark.django_db(transaction=True)
def test_preview_shows_the_packed_prompt_and_its_tokens(committed: World) -> None:
    # No embedding server answers here: the search goes by words alone, as it does in an outage.
    page = preview(committed, question="acme passage?")
    assert "You are acme assistant." in page
    assert "acme handbook &gt; acme heading" in page
    assert "context window of 8,192" in page


@pytest.mark.django_db(transaction=True)
def test_preview_tells_what_is_wrong(committed: World) -> None:
    assert "Line 1: unknown variable" in preview(committed, template="{{ nonsense }}")
    Endpoint.objects.update(context_length=256)
    gateway.forget()
    assert "does not fit" in preview(committed, question="word " * 1_000)
    foreign = Assistant.objects.for_tenant(committed.globex).get()
    assert "Choose an assistant" in preview(committed, assistant=str(foreign.pk))
