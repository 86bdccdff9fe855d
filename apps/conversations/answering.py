"""What happens between question and last token: search, pack the prompt, stream from the pool."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

from apps.assistants.prompting import prompt_for
from apps.conversations import metrics, turn
from apps.conversations.log import Log
from apps.conversations.models import Turn
from apps.inference import gateway
from apps.knowledge.search import search
from apps.usage.models import UsageRecord
from chatbot.citations import MarkerFilter
from chatbot.errors import ModelUnavailable
from chatbot.events import Source, Sources, Timings, Token, Usage
from chatbot.inference.wire import ChatRequest
from chatbot.prompt import Packed
from chatbot.tokens import estimate


async def answer(opened: turn.Opened, outcome: turn.Outcome, log: Log, started: float) -> None:
    """Fill `outcome` and `log` as the answer comes. Cancelling it is how a turn is stopped.

    Raises PromptTooLong or a ModelError; what was said until then stands in `outcome`.
    """
    found = await search(opened.tenant, opened.collections, opened.text, limit=opened.assistant.passages)
    outcome.timings = Timings(search_ms=_since(started))
    history, question = _talk(opened)
    packed = prompt_for(
        opened.tenant,
        opened.assistant,
        template=opened.prompt.template,
        question=question,
        user=opened.end_user.external_id,
        found=found,
        endpoints=opened.endpoints,
        history=history,
        addition=opened.instructions,
        max_tokens=opened.sampling.max_tokens,
    )
    outcome.sources = list(packed.sources)
    outcome.usage = Usage(packed.prompt_tokens, 0, estimated=True)
    log.append(Sources(outcome.sources))
    request = _request(opened, packed)
    try:
        await _stream([endpoint.id for endpoint in opened.endpoints], request, outcome, log, started)
    except ModelUnavailable:
        if outcome.text or not outcome.sources:
            raise
        # No model, but passages: they are shown as what they are, without an invented answer.
        outcome.state, outcome.finish_reason = Turn.State.FINISHED, "sources_only"
        outcome.bill, outcome.usage = UsageRecord.Bill.NONE, Usage(0, 0, estimated=True)


def _talk(opened: turn.Opened) -> tuple[Sequence[tuple[str, str]], str]:
    """History and question. What was asked just before and had no answer goes with the question: many chat templates
    refuse two messages of one side in a row."""
    if opened.history and not opened.history[-1][1]:
        return opened.history[:-1], f"{opened.history[-1][0]}\n\n{opened.text}"
    return opened.history, opened.text


def _request(opened: turn.Opened, packed: Packed) -> ChatRequest:
    sampling = opened.sampling
    return ChatRequest(
        messages=packed.messages,
        max_tokens=packed.max_tokens,
        temperature=opened.assistant.temperature if sampling.temperature is None else sampling.temperature,
        top_p=sampling.top_p,
        stop=sampling.stop,
    )


async def _stream(ids: list[str], request: ChatRequest, outcome: turn.Outcome, log: Log, started: float) -> None:
    markers = MarkerFilter(source.n for source in outcome.sources)
    reported: Usage | None = None
    finish_reason: str | None = None

    def say(text: str) -> None:
        if not text:
            return
        if not outcome.text:
            outcome.timings = replace(outcome.timings, first_token_ms=_since(started))
            metrics.FIRST_TOKEN_SECONDS.observe(time.perf_counter() - started)
        outcome.text += text
        log.append(Token(text))

    pool = await gateway.pool()
    try:
        async with pool.chat(ids, request) as stream:
            outcome.endpoint_id = uuid.UUID(stream.endpoint.id)
            async for delta in stream:
                say(markers.feed(delta.text))
                reported = delta.usage or reported
                finish_reason = delta.finish_reason or finish_reason
    finally:
        # However it ends, what was held back as a possible marker belongs to the answer.
        say(markers.flush())
        outcome.citations = _cited(outcome.sources, markers.cited)
        outcome.usage = reported or replace(outcome.usage, completion_tokens=estimate(outcome.text))
    outcome.state, outcome.finish_reason = Turn.State.FINISHED, finish_reason or "stop"
    outcome.bill = UsageRecord.Bill.ONCE


def _cited(sources: list[Source], numbers: list[int]) -> list[Source]:
    by_number = {source.n: source for source in sources}
    return [by_number[n] for n in numbers]


def _since(started: float) -> float:
    """Milliseconds, to a tenth."""
    return round((time.perf_counter() - started) * 1000, 1)
