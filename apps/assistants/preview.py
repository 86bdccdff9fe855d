"""What a model would receive for a question, without asking it."""

from __future__ import annotations

from dataclasses import dataclass

from apps.assistants.models import Assistant
from apps.assistants.prompting import prompt_for
from apps.inference import gateway
from apps.knowledge.models import Collection
from apps.knowledge.search import passages
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit
from chatbot.inference.endpoint import Endpoint
from chatbot.prompt import Packed


@dataclass(frozen=True, slots=True)
class Preview:
    """context_length: tokens of the smallest endpoint that might answer. found: passages before packing."""

    packed: Packed
    context_length: int
    found: int

    @property
    def prompt_percent(self) -> int:
        return round(100 * self.packed.prompt_tokens / self.context_length)

    @property
    def answer_percent(self) -> int:
        return round(100 * self.packed.max_tokens / self.context_length)

    @property
    def free_tokens(self) -> int:
        return self.context_length - self.packed.prompt_tokens - self.packed.max_tokens


async def preview(tenant: Tenant, assistant: Assistant, *, template: str, question: str, user: str) -> Preview:
    """Raises TemplateInvalid, PromptTooLong, or ModelUnavailable where no chat endpoint serves the tenant."""
    collections, endpoints = await unit(_setting, tenant, assistant)
    searched = await passages(tenant, collections, question, limit=assistant.passages, least=assistant.least_relevance)
    packed = prompt_for(
        tenant, assistant, template=template, question=question, user=user, found=searched.sources, endpoints=endpoints
    )
    context_length = min(endpoint.context_length for endpoint in endpoints)
    return Preview(packed, context_length, len(searched.sources))


def _setting(tenant: Tenant, assistant: Assistant) -> tuple[list[Collection], list[Endpoint]]:
    gateway.refresh()
    endpoints = gateway.chat_endpoints(tenant, assistant.endpoint_id)
    if not assistant.passages:
        return [], endpoints
    collections = Collection.objects.for_tenant(tenant).filter(assistants=assistant).select_related("index__endpoint")
    return list(collections), endpoints
