"""Ranked lists from several searches, made into one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def fuse(
    rankings: Sequence[Sequence[K]], *, k: int = 60, weights: Sequence[float] | None = None
) -> list[tuple[K, float]]:
    """Every key of the rankings with its reciprocal-rank score, best first.

    A key's score is the sum of weight / (k + rank) over the rankings that hold it, ranks from 1; k = 60 as in Cormack,
    Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet" (SIGIR 2009). Only ranks count, so scores of
    different searches need no common scale. A key repeated within one ranking counts at its first place. Equal scores
    keep the order of the rankings: what stands earlier in the first list that holds it comes first.
    """
    if weights is None:
        weights = [1.0] * len(rankings)
    scores: dict[K, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, key in enumerate(dict.fromkeys(ranking), start=1):
            scores[key] = scores.get(key, 0.0) + weight / (k + rank)
    # sorted() is stable, also with reverse, and dicts keep the order of insertion.
    return sorted(scores.items(), key=lambda item: item[1], reverse=True)
