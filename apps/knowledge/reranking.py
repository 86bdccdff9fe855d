"""Has a model that reads question and passage together put the best candidates in order."""

from __future__ import annotations

import asyncio
import time

import structlog
from django.conf import settings

from apps.inference import gateway
from apps.knowledge import metrics
from apps.knowledge.candidates import Candidate
from apps.knowledge.ranking import Order
from apps.tenants.models import Tenant
from chatbot.errors import ModelError
from chatbot.inference.asker import Asker, Rank

log = structlog.get_logger(__name__)

CANDIDATES = 32  # as many as Text Embeddings Inference takes at a time
QUESTION_CHARS = 1_500  # such models read some 512 tokens of both


async def scores(tenant: Tenant, question: str, order: Order) -> list[float] | str:
    """What the model says of the first CANDIDATES; or why there is nothing, in a word: "" where no such endpoint serves
    the tenant, else the code of an error, or "too_late" where it took longer than PARLEY_RERANK_MILLISECONDS.
    """
    pool = await gateway.pool()
    ids = [endpoint.id for endpoint in gateway.rerank_endpoints(tenant)]
    if not ids or len(order) < 2 or not question.strip():
        return ""
    texts = [_read(candidate) for candidate, _ in order[:CANDIDATES]]
    asker = Asker(str(tenant.pk), rank=Rank.RERANKING)
    started = time.perf_counter()
    try:
        async with asyncio.timeout(settings.PARLEY_RERANK_MILLISECONDS / 1000):
            given = await pool.rerank(ids, question[:QUESTION_CHARS], texts, asker)
    except TimeoutError:
        return _without("too_late")
    except ModelError as error:
        return _without(error.code)
    metrics.SEARCH_SECONDS.labels("reranking").observe(time.perf_counter() - started)
    return given


def _read(candidate: Candidate) -> str:
    return "\n".join([" > ".join(dict.fromkeys([candidate.title, *candidate.heading])), candidate.text])


def _without(code: str) -> str:
    log.warning("search.not_reranked", code=code)
    metrics.SEARCH_DEGRADED.inc()
    return code
