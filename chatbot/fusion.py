"""Ranked lists from several searches, made into one, in which no single document has all the say."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def fuse(rankings: Sequence[Sequence[K]], *, k: float = 60) -> list[tuple[K, float]]:
    """Every key of the rankings with its reciprocal-rank score, best first.

    A key's score is the sum of 1 / (k + rank) over the rankings that hold it, ranks from 1; k = 60 as in Cormack,
    Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet" (SIGIR 2009). Only ranks count, so scores of
    different searches need no common scale. A key repeated within one ranking counts at its first place. Equal scores
    keep the order of the rankings: what stands earlier in the first list that holds it comes first.
    """
    scores: dict[K, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(dict.fromkeys(ranking), start=1):
            scores[key] = scores.get(key, 0.0) + 1 / (k + rank)
    # sorted() is stable, also with reverse, and dicts keep the order of insertion.
    return sorted(scores.items(), key=lambda item: item[1], reverse=True)


def spread(scores: Mapping[K, float]) -> dict[K, float]:
    """The same order from 0, the least, to 1, the best; all 1 where all are equal. Makes comparable what has a scale of
    its own."""
    least, most = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    return {key: (score - least) / (most - least) if most > least else 1.0 for key, score in scores.items()}


def blend(searches: Sequence[Mapping[K, float]], *, weights: Sequence[float]) -> list[tuple[K, float]]:
    """Every key of the searches with the weighed mean of its scores, best first; what a search lacks counts 0 there.

    A convex combination, which Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval" (TOIS
    2023), found better than reciprocal ranks: how far two passages are apart counts, too. Scores should be from 0 to 1,
    and so are those that come out. Equal ones keep the order of the searches. Without any weight all is 0.
    """
    total = sum(weights) or 1.0
    scores: dict[K, float] = {}
    for search, weight in zip(searches, weights, strict=True):
        for key, score in search.items():
            scores[key] = scores.get(key, 0.0) + weight / total * score
    return sorted(scores.items(), key=lambda item: item[1], reverse=True)


def seated(ranked: Sequence[tuple[K, float]], leaders: Iterable[K], *, place: int) -> list[tuple[K, float]]:
    """The same keys, but each leader stands at `place`, from 1, at the worst, with the score of what stood there.

    ranked: best first. Where several are moved, a later one stands before an earlier one, which then may stand behind.
    """
    order = list(ranked)
    for leader in leaders:
        at = next((at for at, (key, _) in enumerate(order) if key == leader), None)
        if at is not None and at >= place:
            del order[at]
            order.insert(place - 1, (leader, order[place - 1][1]))
    return order


def diverse(
    ranked: Iterable[tuple[K, float]], group: Callable[[K], Hashable], *, decay: float
) -> Iterator[tuple[K, float]]:
    """The same keys with the same scores, in an order in which each further one of a group counts `decay` times what
    the one before it did. With 1 nothing changes, with less others come in between; nothing is left out.

    ranked: best first. Scores are not negative.
    """
    groups: dict[Hashable, list[tuple[K, float]]] = {}
    for key, score in ranked:
        groups.setdefault(group(key), []).append((key, score))
    heads = {name: (iter(rest), 1.0) for name, rest in groups.items()}
    waiting = {name: next(rest) for name, (rest, _) in heads.items()}
    while waiting:
        # Of equal ones max() takes the first, and groups are in the order of their best.
        name = max(waiting, key=lambda name: waiting[name][1] * heads[name][1])
        yield waiting[name]
        rest, factor = heads[name]
        heads[name] = rest, factor * decay
        following = next(rest, None)
        if following is None:
            del waiting[name]
        else:
            waiting[name] = following
