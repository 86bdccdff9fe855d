"""Notes which passages answer a question, and makes a set of all that was noted."""

from __future__ import annotations

import uuid
from typing import Any

from apps.knowledge.judged import JudgedSet
from apps.knowledge.models import QUESTION_CHARS, Chunk, Collection, Judgement
from apps.tenants.models import Tenant, User
from chatbot.errors import InvalidRequest, NotFound


def judge(
    tenant: Tenant, collection: Collection, question: str, chunk_id: uuid.UUID, *, right: bool | None, by: User
) -> None:
    """Say of a passage that it answers the question, or does not; None takes that back.

    Raises InvalidRequest for a question that cannot be kept, NotFound where the passage is no longer there.
    """
    question = " ".join(question.split())
    if not 0 < len(question) <= QUESTION_CHARS:
        raise InvalidRequest(fields={"question": f"A question that is judged has 1 to {QUESTION_CHARS} characters."})
    chunk = Chunk.objects.for_tenant(tenant).filter(pk=chunk_id, collection=collection).first()
    if chunk is None:
        raise NotFound("This passage is no longer there. Search again.")
    what: dict[str, Any] = {"tenant": tenant, "document_id": chunk.document_id, "section": section_of(chunk.heading)}
    if right is None:
        Judgement.objects.for_tenant(tenant).filter(question=question, **what).delete()
        return
    Judgement.objects.update_or_create(
        question=question, **what, defaults={"right": right, "collection": collection, "created_by": by}
    )


def section_of(heading: list[str]) -> str:
    """By which a passage goes within its document."""
    return heading[-1] if heading else ""


def judgements(tenant: Tenant, collection: Collection, question: str) -> dict[tuple[str, str], bool]:
    """What was said about this question, by document and section."""
    rows = Judgement.objects.for_tenant(tenant).filter(collection=collection, question=" ".join(question.split()))
    return {(str(row.document_id), row.section): row.right for row in rows}


def judged_set(tenant: Tenant, collection: Collection) -> JudgedSet:
    """A question of which nothing was found right has no answer, as far as is known."""
    rows = Judgement.objects.for_tenant(tenant).filter(collection=collection).order_by("created")
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for row in rows:
        queries[row.question] = row.question
        if row.right:
            name = f"{row.document_id}#{row.section}" if row.section else str(row.document_id)
            qrels.setdefault(row.question, {})[name] = 1
    return JudgedSet(queries, qrels)
