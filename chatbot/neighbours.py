"""Passages that stand next to each other in their document, made into one that can be read in one go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from chatbot.events import Source

MOST = 3  # passages in one: a longer one would push others out of the prompt
OVERLAP_CHARS = 400  # splitting repeats about 25 tokens of one passage at the beginning of the next
LEAST_OVERLAP = 16
# It repeats a table's header, too.
_TABLE_HEADER = re.compile(r"\|[^\n]*\|\n\|[ :|-]+\|\n")


@dataclass(frozen=True, slots=True)
class Placed:
    """A passage and its place in its document."""

    source: Source
    position: int


def joined(passages: Sequence[Placed]) -> list[Source]:
    """The passages, best first, with those next to each other in a document joined in its order, at most MOST to one.

    A joined one stands where its best part stood, and keeps that one's chunk, heading, page and score: there a reader
    is led. What the headings of its parts do not have in common stands above each part. Numbered anew from 1.
    """
    runs: list[list[Placed]] = []
    by_place = {(passage.source.document, passage.position): passage for passage in passages}
    taken: set[tuple[str, int]] = set()
    for passage in passages:
        key = passage.source.document, passage.position
        if key not in taken:
            run = _run(by_place, taken, key)
            taken |= {(part.source.document, part.position) for part in run}
            runs.append(run)
    best = {passage.source.chunk: place for place, passage in enumerate(passages)}
    return [replace(_one(run, best), n=n) for n, run in enumerate(runs, start=1)]


def _run(by_place: dict[tuple[str, int], Placed], taken: set[tuple[str, int]], key: tuple[str, int]) -> list[Placed]:
    """The passage at `key` with the free ones around it, those behind it first: texts go on forwards."""
    document, first = key
    last = first

    def is_free(position: int) -> bool:
        return (document, position) in by_place and (document, position) not in taken

    while last - first + 1 < MOST and is_free(last + 1):
        last += 1
    while last - first + 1 < MOST and is_free(first - 1):
        first -= 1
    return [by_place[document, position] for position in range(first, last + 1)]


def _one(run: Sequence[Placed], best: dict[str, int]) -> Source:
    if len(run) == 1:
        return run[0].source
    parts = [part.source for part in run]
    leading = min(parts, key=lambda part: best[part.chunk])
    levels = zip(*(part.heading for part in parts), strict=False)
    common = [names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels)]
    text, above = "", common
    for part in parts:
        own = part.heading[len(common) :]
        if part.heading == above:
            text = _continued(text, part.text) if text else part.text
        else:
            title = f"## {' > '.join(own)}" if own else ""
            text = "\n\n".join(filter(None, (text, title, part.text)))
        above = part.heading
    return replace(leading, text=text)


def _continued(before: str, after: str) -> str:
    """The text and what comes after it, without what splitting repeated there."""
    header = _TABLE_HEADER.match(after)
    if header and header[0] in before:
        return f"{before}\n{after[header.end() :]}"
    repeated = _overlap(before, after)
    return before + after[repeated:] if repeated else f"{before}\n\n{after}"


def _overlap(before: str, after: str) -> int:
    """How many characters at the beginning of `after` stand at the end of `before`: whole words, and enough of them not
    to be there by chance; else 0."""
    longest = min(len(before), len(after), OVERLAP_CHARS)
    for length in range(longest, LEAST_OVERLAP - 1, -1):
        if before.endswith(after[:length]) and _is_whole(before, -length) and _is_whole(after, length):
            return length
    return 0


def _is_whole(text: str, at: int) -> bool:
    """Whether no word goes on across this place."""
    return not (text[:at][-1:].isalnum() and text[at:][:1].isalnum())
