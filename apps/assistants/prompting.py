"""A question as an assistant's model receives it."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils import timezone

from apps.assistants.models import Assistant
from apps.tenants.models import Tenant
from chatbot.errors import ModelUnavailable
from chatbot.events import Source
from chatbot.inference.endpoint import Endpoint
from chatbot.prompt import Packed, instructions, pack


def prompt_for(
    tenant: Tenant,
    assistant: Assistant,
    *,
    template: str,
    question: str,
    user: str,
    found: Sequence[Source],
    endpoints: Sequence[Endpoint],
    history: Sequence[tuple[str, str]] = (),
) -> Packed:
    """Packed for whichever of `endpoints` answers. Raises PromptTooLong, or ModelUnavailable where there is none."""
    if not endpoints:
        raise ModelUnavailable("No chat endpoint is set up for this tenant.", retry_after=60)
    variables = {
        "assistant": assistant.name,
        "tenant": tenant.name,
        "user": user,
        "date": timezone.now().date().isoformat(),
    }
    return pack(
        instructions=instructions(template, variables),
        history=history,
        question=question,
        passages=found,
        context_length=min(endpoint.context_length for endpoint in endpoints),
        max_tokens=assistant.max_tokens,
    )
