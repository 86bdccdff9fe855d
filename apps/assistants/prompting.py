"""A question as an assistant's model receives it."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils import timezone

from apps.assistants.models import Assistant
from apps.tenants.models import Tenant
from chatbot.attachments import File
from chatbot.errors import ModelUnavailable
from chatbot.events import Source
from chatbot.inference.endpoint import Endpoint
from chatbot.prompt import FILES_SHARE, Instructions, Packed, instructions, pack


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
    files: Sequence[File] = (),
    addition: str = "",
    max_tokens: int | None = None,
    prefix: str = "",
) -> Packed:
    """Packed for whichever of `endpoints` answers. Raises PromptTooLong, or ModelUnavailable where there is none.

    addition: the asker's own instructions; they follow the template and never replace it. max_tokens: the longest
    answer that the asker wants, at least 1; the assistant's own limit stays the highest. prefix: what the answer begins
    with already; `max_tokens` are those that may follow it.
    """
    if not endpoints:
        raise ModelUnavailable("No chat endpoint is set up for this tenant.", retry_after=60)
    variables = {
        "assistant": assistant.name,
        "tenant": tenant.name,
        "user": user,
        "date": timezone.now().date().isoformat(),
    }
    return pack(
        instructions=_with(addition, instructions(template, variables)),
        history=history,
        question=question,
        passages=found,
        files=files,
        context_length=min(endpoint.context_length for endpoint in endpoints),
        max_tokens=assistant.max_tokens if max_tokens is None else min(max_tokens, assistant.max_tokens),
        prefix=prefix,
    )


def room_for_files(assistant: Assistant, endpoints: Sequence[Endpoint]) -> int:
    """The tokens that whichever of `endpoints` answers has for files beside all else; 0 where there is none."""
    context_length = min((endpoint.context_length for endpoint in endpoints), default=0)
    return int(max(0, context_length - assistant.max_tokens) * FILES_SHARE)


def _with(addition: str, system: Instructions) -> Instructions:
    if not addition:
        return system
    return lambda sources: f"{system(sources)}\n\n{addition}"
