"""Embeddings and scores without a model."""

from __future__ import annotations

import hashlib
import math
import re

from tests.fakes.replies import DIMENSION


def embedding(text: str, dimension: int = DIMENSION) -> list[float]:
    """A unit vector that is the same for the same words, and near for texts that share long ones (feature hashing)."""
    vector = [0.0] * dimension
    for word in re.findall(r"\w+", text.lower()):
        digest = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
        sign = 1.0 if digest & 1 else -1.0
        vector[(digest >> 1) % dimension] += sign * min(len(word), 8)
    length = math.hypot(*vector)
    if length == 0.0:  # no words, or words that cancel out
        return [1.0] + [0.0] * (dimension - 1)
    return [x / length for x in vector]


def ranking(query: str, texts: list[str]) -> list[tuple[int, float]]:
    """Place and score of each text, the best first: the more words it shares with the query, the better."""
    asked = embedding(query)
    scores = [sum(a * b for a, b in zip(asked, embedding(text), strict=True)) for text in texts]
    return sorted(enumerate(scores), key=lambda scored: -scored[1])
