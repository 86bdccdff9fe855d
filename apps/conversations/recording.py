"""What is written down of a turn that ended: one line of the log with all that matters, and what metrics count."""

from __future__ import annotations

import structlog

from apps.conversations import metrics
from apps.conversations.running import Running
from apps.conversations.turn import Outcome
from apps.inference.metrics import count
from apps.tenants.metrics import label_of
from apps.tenants.models import Tenant

log = structlog.get_logger(__name__)


def record(running: Running) -> None:
    """Of a turn that is closed. Never what was asked or answered; tenant, turn and request are bound to the context."""
    opened, outcome = running.opened, running.outcome
    _count(opened.tenant, outcome)
    usage, timings, story = outcome.usage, outcome.timings, outcome.story
    asked = story.attempts[-1].endpoint if story.attempts else ""
    endpoint = next((one for one in opened.endpoints if one.id == asked), None)
    log.info(
        "turn.finished",
        state=str(outcome.state),
        finish_reason=outcome.finish_reason,
        error=outcome.error.code if outcome.error else None,
        conversation=str(opened.conversation_id) if opened.conversation_id else None,
        assistant=opened.assistant.slug,
        endpoint=endpoint.name if endpoint else None,
        model=endpoint.model if endpoint else None,
        attempts=len(story.attempts),
        epoch=opened.epoch,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        tokens=usage.total_tokens,
        estimated=usage.estimated,
        bill=str(outcome.bill),
        sources=len(outcome.sources),
        citations=len(outcome.citations),
        degraded=timings.degraded,
        search_ms=timings.search_ms,
        queue_ms=story.queued_ms,
        woken_ms=story.woken_ms,
        ttft_ms=timings.first_token_ms,
        ms=timings.total_ms,
    )


def _count(tenant: Tenant, outcome: Outcome) -> None:
    state, usage, name = str(outcome.state), outcome.usage, label_of(tenant)
    reason = outcome.error.code if outcome.error else outcome.finish_reason
    metrics.TURNS.labels(state, reason).inc()
    metrics.TENANT_TURNS.labels(name, state).inc()
    for kind, tokens in (("prompt", usage.prompt_tokens), ("completion", usage.completion_tokens)):
        metrics.TOKENS.labels(kind).inc(tokens)
        metrics.TENANT_TOKENS.labels(name, kind).inc(tokens)
    if outcome.story.attempts or outcome.story.queued_ms:
        metrics.QUEUE_SECONDS.observe(outcome.story.queued_ms / 1000)
    count(outcome.story)
