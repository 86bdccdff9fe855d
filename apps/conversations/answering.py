"""What happens between question and last token: search, pack the prompt, stream from the pool."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError

from apps.assistants.prompting import prompt_for
from apps.conversations import metrics, turn
from apps.conversations.models import Turn
from apps.conversations.rewriting import rewritten
from apps.conversations.running import Running
from apps.edge.errors import ServiceUnavailable
from apps.edge.tracing import span
from apps.inference import gateway
from apps.knowledge.search import Passages, passages
from apps.tenants.scoping import no_connection
from apps.usage.models import UsageRecord
from chatbot.attachments import File
from chatbot.citations import MarkerFilter
from chatbot.errors import ModelError, ModelUnavailable, PromptTooLong
from chatbot.events import Queued, Restarted, Source, Sources, Timings, Token, Usage
from chatbot.inference.asker import Asker, Waiting
from chatbot.inference.wire import ChatRequest
from chatbot.prompt import Packed
from chatbot.tokens import estimate

logger = structlog.get_logger(__name__)

PLACE_SECONDS = 1.0
# An accepted question does not fail because no connection to PostgreSQL was to be had just then.
SEARCH_RETRIES = (0.1, 0.5, 1.0, 2.0)


async def answer(running: Running) -> None:
    """Fill the turn's outcome and log as the answer comes. Cancelling it is how a turn is stopped.

    Raises PromptTooLong, ServiceUnavailable or a ModelError; what was said until then stands in the outcome.
    """
    if running.opened.unmetered:
        raise ServiceUnavailable(retry_after=5)
    begun = running.opened.begun
    with span("search"):
        searched = Passages(list(begun.sources)) if begun else await _searched(running)
    found = searched.sources
    running.outcome.timings = Timings(search_ms=_since(running.started), degraded=searched.degraded)
    # A question is answered once it would survive this process.
    await running.journal.begun(running.kept)
    if not found and _may_decline(running.opened):
        _declines(running)
        return
    if begun and await _goes_on(running, begun, found):
        return
    await _begins(running, found)


async def _searched(running: Running) -> Passages:
    opened = running.opened
    text, running.rewriting = await rewritten(opened)
    for delay in (*SEARCH_RETRIES, None):
        try:
            return await passages(
                opened.tenant,
                opened.collections,
                text,
                limit=opened.assistant.passages,
                least=opened.assistant.least_relevance,
            )
        except (OperationalError, InterfaceError) as error:
            if delay is None or not no_connection(error):
                raise
            logger.warning("turn.search_failed", error=type(error).__name__, retry_in=delay)
            await asyncio.sleep(delay)
    raise AssertionError


def _may_decline(opened: turn.Opened) -> bool:
    """A file that came with the question may answer it all the same. An answer that has begun goes on, unless it is
    this one, whose process died before it was stored."""
    if opened.begun and opened.begun.text != _declining(opened):
        return False
    return opened.assistant.least_relevance is not None and bool(opened.collections) and not opened.attachments


def _declining(opened: turn.Opened) -> str:
    searched = ", ".join(sorted(collection.name for collection in opened.collections))
    return f"I found nothing about this. I searched: {searched}."


def _declines(running: Running) -> None:
    """Nothing that was found is relevant, so no model is asked: say what was searched."""
    outcome = running.outcome
    outcome.text, outcome.usage = _declining(running.opened), running.rewriting
    outcome.bill = UsageRecord.Bill.ONCE
    _tell(running, outcome.text, told=bool(running.opened.begun and running.opened.begun.told))
    outcome.timings = replace(outcome.timings, first_token_ms=_since(running.started))
    outcome.state, outcome.finish_reason = Turn.State.FINISHED, "nothing_found"


async def _begins(running: Running, found: Sequence[Source]) -> None:
    """Answer from the first word."""
    opened, outcome, log = running.opened, running.outcome, running.log
    packed = await _packed(opened, found)
    if opened.begun:
        await running.journal.tell_first(running.kept, Restarted(log.epoch, after=1))
        outcome.text = ""
    outcome.sources = list(packed.sources)
    outcome.usage = Usage(packed.prompt_tokens, 0, estimated=True)
    log.append(Sources(outcome.sources))
    try:
        await _stream(_request(opened, packed), running)
    except ModelUnavailable:
        if outcome.text or not outcome.sources:
            raise
        # No model, but passages: they are shown as what they are, without an invented answer.
        outcome.state, outcome.finish_reason = Turn.State.FINISHED, "sources_only"
        outcome.bill, outcome.usage = UsageRecord.Bill.NONE, Usage(0, 0, estimated=True)


async def _goes_on(running: Running, begun: turn.Begun, found: Sequence[Source]) -> bool:
    """Answer from where it was left. False where no model server can, before anything new was said."""
    opened, outcome = running.opened, running.outcome
    try:
        packed = await _packed(opened, found, begun.text)
    except PromptTooLong:  # its beginning leaves no room for the rest
        return False
    pool = await gateway.pool()
    if list(packed.sources) != list(found) or not pool.continues([endpoint.id for endpoint in opened.endpoints]):
        return False
    outcome.text, outcome.sources = begun.text, list(begun.sources)
    outcome.usage = Usage(packed.prompt_tokens, 0, estimated=True)
    _tell(running, begun.text, told=begun.told)
    try:
        await _stream(_request(opened, packed, begun.text), running)
    except ModelError:
        if outcome.text != begun.text:
            raise
        return False
    return True


def _tell(running: Running, text: str, *, told: bool) -> None:
    """Tell readers sources and beginning of an answer; where another process told them, that it goes on."""
    log = running.log
    if not told:
        log.append(Sources(running.outcome.sources))
        log.append(Token(text))
    elif log.entries[0].cursor.epoch < log.epoch:  # else the log begins with telling them so
        log.append(Restarted(log.epoch, after=log.last.seq))


async def _packed(opened: turn.Opened, found: Sequence[Source], prefix: str = "") -> Packed:
    history, question = _talk(opened)
    pack = partial(
        prompt_for,
        opened.tenant,
        opened.assistant,
        template=opened.prompt.template,
        question=question,
        user=opened.end_user.external_id,
        found=found,
        endpoints=opened.endpoints,
        history=history,
        files=[File(each.name, each.text, each.shortened) for each in opened.attachments],
        addition=opened.instructions,
        max_tokens=opened.sampling.max_tokens,
        prefix=prefix,
    )
    # Many long files take a part of a second to be cut, in which nobody else's answer would go on.
    return await asyncio.to_thread(pack) if opened.attachments else pack()


def _talk(opened: turn.Opened) -> tuple[Sequence[tuple[str, str]], str]:
    """History and question. What was asked just before and had no answer goes with the question: many chat templates
    refuse two messages of one side in a row."""
    if opened.history and not opened.history[-1][1]:
        return opened.history[:-1], f"{opened.history[-1][0]}\n\n{opened.text}"
    return opened.history, opened.text


def _request(opened: turn.Opened, packed: Packed, prefix: str = "") -> ChatRequest:
    sampling = opened.sampling
    return ChatRequest(
        messages=packed.messages,
        max_tokens=max(1, packed.max_tokens),
        temperature=opened.assistant.temperature if sampling.temperature is None else sampling.temperature,
        top_p=sampling.top_p,
        stop=sampling.stop,
        prefix=prefix,
    )


async def _stream(request: ChatRequest, running: Running) -> None:
    """Pass the model's answer on, in a span by OpenTelemetry's conventions for generative AI, without what is said."""
    outcome = running.outcome
    asked: dict[str, Any] = {
        "gen_ai__request__max_tokens": request.max_tokens,
        "gen_ai__request__temperature": request.temperature,
    }
    with span("chat", "CLIENT", gen_ai__operation__name="chat", **asked) as told:
        try:
            await _pass_on(request, running, told)
        finally:
            told.set_attribute("gen_ai.response.finish_reasons", [outcome.finish_reason])
            told.set_attribute("gen_ai.usage.input_tokens", outcome.usage.prompt_tokens)
            told.set_attribute("gen_ai.usage.output_tokens", outcome.usage.completion_tokens)


async def _pass_on(request: ChatRequest, running: Running, told: Any) -> None:
    outcome, log = running.outcome, running.log
    ids = [endpoint.id for endpoint in running.opened.endpoints]
    markers = MarkerFilter(source.n for source in outcome.sources)
    markers.resume(request.prefix)
    reported: Usage | None = None
    finish_reason: str | None = None

    pieces = metrics.Pieces()

    def say(text: str) -> None:
        if not text:
            return
        pieces.came()
        if outcome.timings.first_token_ms is None:
            outcome.timings = replace(outcome.timings, first_token_ms=_since(running.started))
            metrics.FIRST_TOKEN_SECONDS.observe(time.perf_counter() - running.started)
            running.journal.hurry()
        outcome.text += text
        log.append(Token(text))

    pool = await gateway.pool()
    try:
        async with pool.chat(ids, request, _asker(running), story=outcome.story) as stream:
            told.set_attribute("gen_ai.provider.name", stream.endpoint.protocol)
            told.set_attribute("gen_ai.request.model", stream.endpoint.model)
            outcome.endpoint_id = uuid.UUID(stream.endpoint.id)
            async for delta in stream:
                say(markers.feed(delta.text))
                reported = delta.usage or reported
                finish_reason = delta.finish_reason or finish_reason
                if delta.tool_call:
                    logger.warning("model.tool_call_ignored", endpoint=stream.endpoint.name)
    finally:
        # However it ends, what was held back as a possible marker belongs to the answer; if it ends here.
        if not running.leaving:
            say(markers.flush())
        outcome.citations = _cited(outcome.sources, markers.cited)
        outcome.usage = _used(running, request, reported)
    outcome.state, outcome.finish_reason = Turn.State.FINISHED, finish_reason or "stop"
    outcome.bill = UsageRecord.Bill.ONCE


def _asker(running: Running) -> Asker:
    """Who asks. Those who wait in line hear of it at once, and then of their place about once a second; those who wait
    for a server that is started, every few seconds how far that is."""
    told = -PLACE_SECONDS

    def on_wait(waiting: Waiting) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= PLACE_SECONDS:
            told = now
            running.log.append(Queued(waiting.position, waiting.seconds))

    def on_waking(state: str) -> None:
        running.log.append(Queued(1, None, waking=state))

    return Asker(str(running.opened.tenant.pk), rank=running.opened.rank, on_wait=on_wait, on_waking=on_waking)


def _used(running: Running, request: ChatRequest, reported: Usage | None) -> Usage:
    """What is billed, with what rewriting the question took."""
    answered, rewriting = _answered(running, request, reported), running.rewriting
    return Usage(
        answered.prompt_tokens + rewriting.prompt_tokens,
        answered.completion_tokens + rewriting.completion_tokens,
        estimated=answered.estimated or (rewriting.estimated and rewriting.total_tokens > 0),
    )


def _answered(running: Running, request: ChatRequest, reported: Usage | None) -> Usage:
    """Of an answer that goes on, the server counts its beginning as prompt, if it counts at all."""
    outcome, begun = running.outcome, running.opened.begun
    if not request.prefix:
        return reported or replace(outcome.usage, completion_tokens=estimate(outcome.text))
    said, unpaid = estimate(request.prefix), estimate(request.prefix[begun.paid :] if begun else request.prefix)
    spoken = reported.completion_tokens if reported else estimate(outcome.text[len(request.prefix) :])
    prompt = max(0, reported.prompt_tokens - said) if reported else outcome.usage.prompt_tokens
    return Usage(prompt, unpaid + spoken, estimated=True)


def _cited(sources: list[Source], numbers: list[int]) -> list[Source]:
    by_number = {source.n: source for source in sources}
    return [by_number[n] for n in numbers]


def _since(started: float) -> float:
    """Milliseconds, to a tenth."""
    return round((time.perf_counter() - started) * 1000, 1)
