"""Extracted text cut into passages that carry where they stand: title, heading path and page.

A passage never crosses a heading of the highest level its document uses. Short sections are put together, long ones cut
by semantic-text-splitter at the largest boundary that fits (blocks, then lines, then sentences), so that a table or a
code block stays whole where it can. A table that cannot is cut between rows, and each piece begins with its head.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile, tee, zip_longest

from semantic_text_splitter import MarkdownSplitter

from chatbot import markdown
from chatbot.extraction import Extracted
from chatbot.tokens import estimate

MAX_TOKENS = 250
OVERLAP_TOKENS = 25  # between two passages cut out of one section; a tenth
WINDOW = 8_000  # characters; some ten passages
SMALL = 4  # a section below this fraction of a passage is put together with its neighbour

_BLOCK = re.compile(
    r"^ {0,3}(?P<fence>`{3,}+|~{3,}+).*+\n(?:.*+\n)*? {0,3}(?P=fence).*(?:\n|\Z)"  # fenced code
    r"|^[ \t]*+\|.*+\n(?=.*-)[ \t:|-]+(?:\n|\Z)(?:[ \t]*+\|.*+(?:\n|\Z))*",  # a table: head, rule, rows
    re.MULTILINE,
)
# Where a window may end, the best first; Chinese and Japanese have no spaces, and stops of their own.
_BREAKS = ("\n\n", "\n", "\u3002", "\uff01", "\uff1f", ". ", "? ", "! ", "\u061f ", " ")
_FENCE = re.compile(r"^ {0,3}(?:`{3,}|~{3,}).*$", re.MULTILINE)
_WORD = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True)
class Passage:
    """position: from 0, in reading order. text: Markdown, without the headings of its path. page: that of its first
    character. tokens: of the text alone, estimated. digest: sha256, in hex, of title, heading and text: what is equal
    here need not be embedded again.
    """

    position: int
    text: str
    heading: tuple[str, ...]
    page: int | None
    tokens: int
    digest: str


_Path = tuple[tuple[int, str], ...]  # level and title of each heading above a text, outermost first


class _Section:
    """What stands between two headings."""

    def __init__(self, path: Sequence[tuple[int, str]], root: int, page: int | None) -> None:
        self.path: _Path = tuple(path)
        self.root = root  # which of the document's outermost headings that is under
        self.is_blank = True
        self._lines: list[str] = []
        self._length = 0
        self._pages = [(0, page)]  # the page from an offset on, ascending

    @property
    def text(self) -> str:
        return "\n".join(self._lines)

    @property
    def tokens(self) -> int:
        return sum(estimate(f"## {title}") for _, title in self.path[-1:]) + estimate(self.text)

    def page_at(self, offset: int) -> int | None:
        return self._pages[bisect_right(self._pages, offset, key=lambda start: start[0]) - 1][1]

    def add(self, line: str, page: int | None) -> None:
        if self.is_blank:
            self._pages = [(0, page)]
        elif self._pages[-1][1] != page:
            self._pages.append((self._length, page))
        self._lines.append(line)
        self.is_blank = self.is_blank and not line.strip()
        self._length += len(line) + 1

    def append(self, other: _Section, headings: _Path) -> None:
        for level, title in headings:
            self.add(f"{'#' * level} {title}", other.page_at(0))
        offset = 0
        for line in other._lines:
            self.add(line, other.page_at(offset))
            offset += len(line) + 1


def split(
    extracted: Extracted, *, title: str, max_tokens: int = MAX_TOKENS, overlap_tokens: int = OVERLAP_TOKENS
) -> list[Passage]:
    """The passages in reading order, none above `max_tokens` as estimated. The same input gives the same passages.

    Every character that is not blank is in the title, or in the text or heading of some passage, but for the marks that
    make a line a heading.
    """
    splitter = MarkdownSplitter.from_callback(estimate, max_tokens, overlap_tokens)
    passages: list[Passage] = []
    for section in _joined(_sections(extracted), max_tokens):
        heading = tuple(text for _, text in section.path)
        if heading[:1] == (title,):
            heading = heading[1:]
        for offset, text in _pieces(section.text, splitter, max_tokens):
            content = "\x1f".join([title, *heading, text])
            passages.append(
                Passage(
                    position=len(passages),
                    text=text,
                    heading=heading,
                    page=section.page_at(offset),
                    tokens=estimate(text),
                    digest=hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest(),
                )
            )
    return passages


def _pieces(text: str, splitter: MarkdownSplitter, max_tokens: int) -> Iterator[tuple[int, str]]:
    """(offset, text) of the passages of one section. Tables and code that fit are never cut: left to itself, the
    splitter fills up a passage with the first rows of what follows.
    """
    spans: list[tuple[int, int]] = []
    heads: dict[int, str] = {}  # of the table that a span continues, by where the span starts
    last_is_block = False
    for start, end, is_block in _blocks(text):
        whole = is_block and estimate(text[start:end]) <= max_tokens
        if is_block and not whole and text[start:end].lstrip().startswith("|"):
            head, rows = _rows(text, start, end, max_tokens)
            heads |= {first: head for first, _ in rows[1:]}
            spans += rows
            last_is_block = False
            continue
        cuts = [(0, text[start:end])] if whole else splitter.chunk_indices(text[start:end])
        within = ((start + offset, start + offset + len(piece)) for offset, piece in cuts)
        # Within its block a fence goes with the code, and only what is nothing but markup with the text beside it.
        for number, span in enumerate(_with_words(text, within, max_tokens)):
            beside = (whole or last_is_block) and number == 0 and spans
            if beside and estimate(text[spans[-1][0] : span[1]]) <= max_tokens:
                spans[-1] = (spans[-1][0], span[1])
            else:
                spans += _halved(text, *span, max_tokens)
        last_is_block = whole
    for start, end in _with_words(text, spans, max_tokens):
        piece = text[start:end]
        if piece.strip():
            stripped = _trimmed(piece)
            headed = heads.get(start, "") + stripped
            fits = estimate(headed) <= max_tokens
            yield start + len(piece) - len(piece.lstrip("\n")), headed if fits else stripped


def _rows(text: str, start: int, end: int, max_tokens: int) -> tuple[str, list[tuple[int, int]]]:
    """A table's head, and spans of the rows that fit below it. The head is empty where it takes half a passage."""
    first = text.index("\n", text.index("\n", start) + 1) + 1 if text.count("\n", start, end) > 1 else end
    head = text[start:first]
    cost = estimate(head)
    if cost * 2 > max_tokens:
        head, cost = "", 0
    spans: list[tuple[int, int]] = []
    begun, at, tokens = start, first, estimate(text[start:first])
    while at < end:
        stop = text.find("\n", at, end) + 1 or end
        row = estimate(text[at:stop])
        if tokens + row > max_tokens and at > begun:
            spans.append((begun, at))
            begun, tokens = at, cost
        tokens += row
        at = stop
    spans.append((begun, end))
    return head, [piece for span in spans for piece in _halved(text, *span, max_tokens)]


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """The text as (start, end, whether it is a table or fenced code)."""
    end = 0
    for block in _BLOCK.finditer(text):
        yield from _windows(text, end, block.start())
        yield *block.span(), True
        end = block.end()
    yield from _windows(text, end, len(text))


def _windows(text: str, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Prose in pieces of about WINDOW characters: the splitter's time grows with the square of an unbroken text."""
    while end - start > WINDOW:
        breaks = (text.rfind(mark, start + WINDOW // 2, start + WINDOW) + len(mark) for mark in _BREAKS)
        cut = next((at for at in breaks if at > start + WINDOW // 2), start + WINDOW)
        yield start, cut, False
        start = cut
    if end > start:
        yield start, end, False


def _with_words(text: str, spans: Iterable[tuple[int, int]], max_tokens: int) -> list[tuple[int, int]]:
    """The spans, those without a word (a fence, a rule, brackets) put together with the one before, or else after."""
    joined: list[tuple[int, int]] = []
    wordless = False
    for start, end in spans:
        last_wordless, wordless = wordless, not _has_words(text, start, end)
        if joined and (last_wordless or wordless):
            joined[-1:] = _halved(text, joined[-1][0], end, max_tokens)
            wordless = not _has_words(text, *joined[-1])
        else:
            joined.append((start, end))
    return joined


def _has_words(text: str, start: int, end: int) -> bool:
    return bool(_WORD.search(_FENCE.sub("", text[start:end])))


def _trimmed(text: str) -> str:
    """Without what is blank around it, but for what indents its first line."""
    return text.strip("\n").rstrip()


def _halved(text: str, start: int, end: int, max_tokens: int) -> list[tuple[int, int]]:
    """The span, in halves where it is too long: the splitter misjudges some, since estimates do not add up."""
    if end - start <= 1 or estimate(_trimmed(text[start:end])) <= max_tokens:
        return [(start, end)]
    breaks = (text.rfind(mark, start, (start + end) // 2) + 1 for mark in "\n\u3002 ")
    middle = next((at for at in breaks if at - start > (end - start) // 4), (start + end) // 2)
    return _halved(text, start, middle, max_tokens) + _halved(text, middle, end, max_tokens)


def _sections(extracted: Extracted) -> Iterator[_Section]:
    path: list[tuple[int, str]] = []
    root = 0
    section = _Section(path, root, None)
    for page in extracted.pages:
        for line in markdown.lines(page.text):
            if not line.level:
                section.add(line.text, page.number)
                continue
            yield section
            while path and path[-1][0] >= line.level:
                path.pop()
            root += not path
            path.append((line.level, line.text))
            section = _Section(path, root, page.number)
    yield section


def _joined(sections: Iterator[_Section], max_tokens: int) -> Iterator[_Section]:
    """The sections, short ones put together with their neighbours under the same outermost heading."""
    group: list[_Section] = []
    tokens = 0
    for section, following in zip_longest(*_shifted(sections)):
        if section.is_blank and (not section.path or _is_under(following, section)):
            continue  # the next section carries its heading in its path
        more = section.tokens
        small = min(tokens, more) < max_tokens // SMALL
        if group and group[0].root == section.root and small and tokens + more <= max_tokens:
            group.append(section)
            tokens += more
            continue
        if group:
            yield _merged(group)
        group, tokens = [section], more
    if group:
        yield _merged(group)


def _shifted(sections: Iterator[_Section]) -> tuple[Iterator[_Section], Iterator[_Section]]:
    these, following = tee(sections)
    next(following, None)
    return these, following


def _is_under(section: _Section | None, other: _Section) -> bool:
    return section is not None and section.path[: len(other.path)] == other.path


def _merged(group: Sequence[_Section]) -> _Section:
    """One section under the headings that all of the group share; the others stand in its text."""
    shared = group[0].path
    for section in group[1:]:
        shared = shared[: _common(shared, section.path)]
    merged = _Section(shared, group[0].root, group[0].page_at(0))
    above = shared
    for section in group:
        hidden = section.path[_common(above, section.path) :]
        above = section.path
        merged.append(section, hidden or section.path[-1:] * (section.is_blank and len(group) == 1))
    return merged


def _common(one: _Path, other: _Path) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
