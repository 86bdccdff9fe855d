"""New prompt versions, and which of them assistants use."""

from __future__ import annotations

import uuid

from django.db.models import Max

from apps.assistants.models import Prompt, PromptVersion
from apps.tenants.models import Tenant, User
from apps.tenants.scoping import tenant_scope
from chatbot import templates
from chatbot.errors import NotFound

DEFAULT_PROMPT_NAME = "Documentation assistant"


def create_version(
    tenant: Tenant, prompt: Prompt, template: str, *, note: str = "", created_by: User | None = None
) -> PromptVersion:
    """The prompt's next version, not yet published. Raises TemplateInvalid, which names the line."""
    templates.check(template)
    with tenant_scope(tenant):
        _lock(tenant, prompt)  # two saves at once get two numbers
        versions = PromptVersion.objects.for_tenant(tenant).filter(prompt=prompt)
        newest = versions.aggregate(number=Max("number"))["number"] or 0
        version: PromptVersion = versions.create(
            tenant=tenant, prompt=prompt, number=newest + 1, template=template, note=note, created_by=created_by
        )
    return version


def publish(tenant: Tenant, prompt: Prompt, version_id: uuid.UUID) -> PromptVersion:
    """Let assistants use this version from their next turn on. Rolling back is publishing an earlier one.

    Raises NotFound unless it is a version of this prompt.
    """
    with tenant_scope(tenant):
        version: PromptVersion | None = (
            PromptVersion.objects.for_tenant(tenant).filter(prompt=prompt, pk=version_id).first()
        )
        if version is None:
            raise NotFound("This prompt has no such version.")
        Prompt.objects.for_tenant(tenant).filter(pk=prompt.pk).update(published=version)
    prompt.published = version
    return version


def create_prompt(
    tenant: Tenant, name: str, template: str, *, note: str = "", created_by: User | None = None
) -> Prompt:
    """A prompt with its first version published. Raises TemplateInvalid."""
    with tenant_scope(tenant):
        prompt: Prompt = Prompt.objects.create(tenant=tenant, name=name)
        version = create_version(tenant, prompt, template, note=note, created_by=created_by)
        publish(tenant, prompt, version.pk)
    return prompt


def default_prompt(tenant: Tenant, *, created_by: User | None = None) -> Prompt:
    """The prompt of an assistant for which none was chosen: DEFAULT_TEMPLATE, made once for each tenant."""
    with tenant_scope(tenant):
        prompt, _ = Prompt.objects.for_tenant(tenant).get_or_create(tenant=tenant, name=DEFAULT_PROMPT_NAME)
        if prompt.published_id is None:
            version = create_version(
                tenant, prompt, templates.DEFAULT_TEMPLATE, note="As delivered.", created_by=created_by
            )
            publish(tenant, prompt, version.pk)
    chosen: Prompt = prompt
    return chosen


def _lock(tenant: Tenant, prompt: Prompt) -> None:
    Prompt.objects.for_tenant(tenant).select_for_update().filter(pk=prompt.pk).first()
