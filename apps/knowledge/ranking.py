"""Makes the lists of a search into one order, and says of each passage why it stands where it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from apps.knowledge.candidates import STRANGE, Candidate
from chatbot.events import Source
from chatbot.fusion import blend, diverse, fuse, seated, spread

Order = list[tuple[Candidate, float]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How lists are made into one: what each counts (0 leaves it out), at which place the first of each stands at the
    worst, what each further passage of a document counts beside the one before it, and whether (1 or 0) a reranking
    model is asked, where there is one, and how much more its first places count then (k of fuse()).

    To hold all words of a question counts more than to be the nearest, as an identifier says more than its vector does.
    docs/retrieval.md tells how the rest was chosen, and how much it matters.
    """

    vector: float = 0.45
    text: float = 0.5
    trigram: float = 0.05
    seat: float = 3
    diversity: float = 0.97
    k: float = 10
    rerank: float = 1


RECIPE = Recipe()


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found, its fused score, and what a reranking model said of it, if one was asked."""

    candidate: Candidate
    score: float
    rerank: float | None = None

    def source(self, n: int) -> Source:
        found = self.candidate
        return Source(
            n=n,
            chunk=found.chunk,
            document=found.document,
            title=found.title,
            heading=found.heading,
            page=found.page,
            text=found.text,
            score=self.score,
        )

    @property
    def similarity(self) -> float | None:
        """Of the vectors, by the cosine."""
        return None if self.candidate.distance is None else 1 - self.candidate.distance

    @property
    def scores(self) -> dict[str, float | None]:
        """By the names of the lists, what gave the passage its place in each; fused and rerank as they are here."""
        found = self.candidate
        return {
            "vector": self.similarity,
            "text": found.share,
            "trigram": found.similarity,
            "fused": self.score,
            "rerank": self.rerank,
        }

    @property
    def why(self) -> str:
        """In words."""
        reasons = [
            f"no. {place(self.candidate)} by {WORDS[name]}" for name, place in PLACES.items() if place(self.candidate)
        ]
        if self.rerank is not None:
            reasons.append(f"put here by the reranking model, which gives it {self.rerank:.3g}")
        return ", ".join(reasons).capitalize() + "."


# The lists that are fused, and a candidate's place in each; Recipe weighs them by the same names.
PLACES: dict[str, Callable[[Candidate], int | None]] = {
    "vector": lambda candidate: candidate.near,
    "text": lambda candidate: candidate.worded,
    "trigram": lambda candidate: candidate.alike,
}
SCORES: dict[str, Callable[[Candidate], float]] = {
    "vector": lambda candidate: -(candidate.distance or 0.0),
    # Squared: one word of several is shared by chance and misleads, all of them are not.
    "text": lambda candidate: (candidate.share or 0.0) ** 2,
    "trigram": lambda candidate: min(1.0, (candidate.similarity or 0.0) / STRANGE),
}
WORDS = {"vector": "meaning", "text": "words", "trigram": "spelling"}


@dataclass(frozen=True, slots=True)
class Fused:
    """order: each text once, best first, with fused scores. stages: by name, the rankings on the way to it."""

    order: Order = field(default_factory=list)
    stages: dict[str, list[Candidate]] = field(default_factory=dict)


def fused(found: Sequence[Sequence[Candidate]], recipe: Recipe) -> Fused:
    """found: the candidates of each scope."""
    known = {candidate.chunk: candidate for rows in found for candidate in rows}
    by_scope = [{name: _list(rows, name) for name in PLACES} for rows in found]
    stages = {name: [known[key] for key, _ in fuse([list(lists[name]) for lists in by_scope])] for name in PLACES}
    scored: list[tuple[str, float]] = []
    leaders: list[str] = []
    for lists in by_scope:
        # Where no vector could be made, the words say all, as much as they and the vectors do elsewhere.
        weights = {name: getattr(recipe, name) for name in PLACES if name != "vector" or lists[name]}
        counted = [name for name, weight in weights.items() if weight]
        scored += blend([lists[name] for name in counted], weights=[weights[name] for name in counted])
        leaders += [next(iter(lists[name])) for name in counted if lists[name]]
    scored.sort(key=lambda item: item[1], reverse=True)
    best: dict[str, tuple[Candidate, float]] = {}
    for key, score in seated(scored, leaders, place=int(recipe.seat)):
        best.setdefault(" ".join(known[key].text.split()), (known[key], score))
    order = list(best.values())
    return Fused(order, {**stages, "fused": [candidate for candidate, _ in order]})


def _list(rows: Sequence[Candidate], name: str) -> Mapping[str, float]:
    """Those of a list in their order, with scores from 0 to 1."""
    place = PLACES[name]
    placed = sorted((c for c in rows if place(c)), key=lambda c: place(c) or 0)
    scores = {candidate.chunk: SCORES[name](candidate) for candidate in placed}
    # Likeness has a scale of its own with every embedding model; a share of the question means the same everywhere.
    return spread(scores) if name == "vector" else scores


def hits(order: Order, limit: int, recipe: Recipe, reranked: Sequence[float] = ()) -> list[Hit]:
    """The `limit` best of an order. reranked: what a model says of its first ones, which then stand by that."""
    given = {candidate.chunk: score for (candidate, _), score in zip(order, reranked, strict=False)}
    scores = {candidate.chunk: score for candidate, score in order}
    first = sorted((candidate for candidate, _ in order[: len(given)]), key=lambda c: given[c.chunk], reverse=True)
    # Models score by scales of their own, so their places count, as those of the lists did.
    placed = [*first, *(candidate for candidate, _ in order[len(given) :])]
    ranked = fuse([[c.chunk for c in placed]], k=recipe.k) if given else [(c.chunk, score) for c, score in order]
    known = {candidate.chunk: candidate for candidate, _ in order}
    chosen = diverse(ranked, lambda key: known[key].document, decay=recipe.diversity)
    return [Hit(known[key], scores[key], given.get(key)) for (key, _), _ in zip(chosen, range(limit), strict=False)]
