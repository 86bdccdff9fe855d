"""Prompt versions: numbered, immutable, published and rolled back."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, transaction

from apps.assistants import publishing
from apps.assistants.models import Prompt, PromptVersion
from chatbot.errors import NotFound
from chatbot.templates import DEFAULT_TEMPLATE, TemplateInvalid
from tests.factories import make_prompt, make_tenant

pytestmark = pytest.mark.django_db


def test_versions_count_up_and_are_not_published_by_themselves() -> None:
    tenant = make_tenant()
    prompt = publishing.create_prompt(tenant, "Support", "First.")
    second = publishing.create_version(tenant, prompt, "Second.", note="Shorter")
    prompt.refresh_from_db()
    assert (second.number, prompt.published.number) == (2, 1)


def test_rolling_back_is_publishing_an_earlier_version() -> None:
    tenant = make_tenant()
    prompt = publishing.create_prompt(tenant, "Support", "First.")
    first = prompt.published
    publishing.publish(tenant, prompt, publishing.create_version(tenant, prompt, "Second.").pk)
    publishing.publish(tenant, prompt, first.pk)
    prompt.refresh_from_db()
    assert prompt.published == first


def test_only_a_version_of_the_prompt_can_be_published() -> None:
    tenant = make_tenant()
    prompt, other = make_prompt(tenant=tenant), make_prompt(tenant=tenant)
    with pytest.raises(NotFound):
        publishing.publish(tenant, prompt, other.published.pk)


def test_invalid_template_makes_no_version() -> None:
    tenant = make_tenant()
    prompt = make_prompt(tenant=tenant)
    with pytest.raises(TemplateInvalid) as refused:
        publishing.create_version(tenant, prompt, "Hello\n{{ nonsense }}")
    assert refused.value.line == 2
    assert PromptVersion.objects.for_tenant(tenant).count() == 1


def test_version_never_changes() -> None:
    tenant = make_tenant()
    version = make_prompt(tenant=tenant).published
    with pytest.raises(DatabaseError, match="never changes"), transaction.atomic():
        PromptVersion.objects.for_tenant(tenant).filter(pk=version.pk).update(template="Other.")


def test_default_prompt_is_made_once_for_each_tenant() -> None:
    tenant, other = make_tenant(), make_tenant()
    first, again = publishing.default_prompt(tenant), publishing.default_prompt(tenant)
    assert first == again
    assert first.published.template == DEFAULT_TEMPLATE
    assert publishing.default_prompt(other) != first
    assert Prompt.objects.for_tenant(tenant).count() == 1
