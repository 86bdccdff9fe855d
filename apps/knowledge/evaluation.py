"""Measures how well searches answer a set of judged questions: each stage of the search by itself, and the whole."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from apps.knowledge.candidates import Candidate
from apps.knowledge.collections import create_collection, delete_collection, find_collection
from apps.knowledge.ingest import add_document, ingest
from apps.knowledge.judged import JudgedSet
from apps.knowledge.models import Collection, Document
from apps.knowledge.ranking import Recipe
from apps.knowledge.search import find
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope, unit

KEPT = 0.95  # of the queries with an answer should get one
WHOLE = "whole"  # what a search gives, after its stages
_HEADING = re.compile(r"^#{1,6} (.+?) *$", re.MULTILINE)

Ranking = list[str]


class MissingToolError(Exception):
    """ir-measures is not installed."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one stage. by_query: nDCG@10 of each judged query."""

    ndcg: float
    recall: float
    mrr: float
    by_query: dict[str, float]


@dataclass(frozen=True, slots=True)
class Ranked:
    """stages: by stage and judged query, the names found, best first. relevance: by query, Found.relevance."""

    stages: dict[str, dict[str, Ranking]]
    relevance: dict[str, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A least relevance, and how many of the queries without an answer stay below it."""

    least: float
    refused: int
    unanswerable: int


@contextmanager
def loaded(tenant: Tenant, judged: JudgedSet) -> Iterator[tuple[Collection, dict[str, str]]]:
    """The set's own documents in a collection that ends with this block; with it, their ids in the set by ours.

    Raises what create_collection and add_document raise.
    """
    made = create_collection(tenant, name="Evaluation", slug=f"evaluation-{uuid.uuid4().hex[:12]}")
    try:
        ids: dict[str, str] = {}
        for text in judged.texts():
            content = f"{text.title}\n\n{text.text}".strip().encode()
            if content:
                document, _ = add_document(tenant, made, name="", title=text.title or text.id, content=content)
                ids[str(document.pk)] = text.id
                ingest(tenant.pk, document.pk)
        with tenant_scope(tenant):
            collection = find_collection(tenant, str(made.pk))
        yield collection, ids
    finally:
        delete_collection(tenant, made)


async def ranked(
    tenant: Tenant, collection: Collection, judged: JudgedSet, recipe: Recipe, *, depth: int, ids: Mapping[str, str]
) -> Ranked:
    """What was found for each query, `depth` passages deep.

    ids: what the set calls documents; where there are none, they go by the names of their files.
    """
    names = ids or await unit(_file_names, tenant, collection)
    ranked = Ranked({}, {})
    for query, text in judged.queries.items():
        found = await find(tenant, [collection], text, limit=depth, recipe=recipe)
        if found.relevance is not None:
            ranked.relevance[query] = found.relevance
        whole = [hit.candidate for hit in found.hits]
        for stage, candidates in {**found.stages, WHOLE: whole}.items():
            if query in judged.qrels:
                ranking = _named(candidates[:depth], judged.qrels[query], names)
                ranked.stages.setdefault(stage, {})[query] = ranking
    return ranked


def line(judged: JudgedSet, relevance: Mapping[str, float]) -> Line | None:
    """The highest relevance that loses no more than KEPT of the queries with an answer; None where there is none."""
    answered = sorted(value for query, value in relevance.items() if query in judged.qrels)
    others = [value for query, value in relevance.items() if query not in judged.qrels]
    if not answered:
        return None
    least = answered[int(len(answered) * (1 - KEPT))]
    least = math.floor(least * 1000) / 1000
    return Line(least, sum(value < least for value in others), len(others))


def _file_names(tenant: Tenant, collection: Collection) -> dict[str, str]:
    rows = Document.objects.for_tenant(tenant).filter(collection=collection).values_list("pk", "file_name")
    return {str(pk): file_name for pk, file_name in rows}


def _named(candidates: Sequence[Candidate], grades: Mapping[str, int], ids: Mapping[str, str]) -> Ranking:
    """Each passage by the first of its names that is judged; what stands there already counts once."""
    ranking: dict[str, None] = {}
    for candidate in candidates:
        names = list(_names(candidate, ids))
        ranking.setdefault(next((name for name in names if name in grades), names[0]))
    return list(ranking)


def _names(candidate: Candidate, ids: Mapping[str, str]) -> Iterator[str]:
    """Of its document; and of its sections in it, those above it and those that begin in it."""
    sections = [*reversed(candidate.heading), *_HEADING.findall(candidate.text)]
    # What was marked goes by the document's own id.
    for document in (ids.get(candidate.document, candidate.document), candidate.document):
        yield from (f"{document}#{section}" for section in sections)
        yield document


def measured(judged: JudgedSet, stages: Mapping[str, Mapping[str, Ranking]], *, k: int) -> dict[str, Measured]:
    """nDCG@10, recall@k and MRR of each stage. Raises MissingToolError."""
    try:
        import ir_measures  # noqa: PLC0415 - an operator who measures nothing needs it not
    except ModuleNotFoundError as error:
        raise MissingToolError from error
    ndcg, recall, mrr = ir_measures.nDCG @ 10, ir_measures.R @ k, ir_measures.RR
    evaluator = ir_measures.evaluator([ndcg, recall, mrr], judged.qrels)
    results = {}
    for stage, rankings in stages.items():
        run = {query: {name: -float(place) for place, name in enumerate(r)} for query, r in rankings.items()}
        values: dict[Any, dict[str, float]] = {ndcg: {}, recall: {}, mrr: {}}
        for value in evaluator.iter_calc(run):
            values[value.measure][value.query_id] = value.value
        of = len(judged.qrels)
        results[stage] = Measured(
            ndcg=_mean(values[ndcg].values(), of=of),
            recall=_mean(values[recall].values(), of=of),
            mrr=_mean(values[mrr].values(), of=of),
            by_query=values[ndcg],
        )
    return results


def _mean(values: Iterable[float], *, of: int) -> float:
    return sum(values) / of if of else 0.0
