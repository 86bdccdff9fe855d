"""The little of Markdown that passages need: where headings stand, and how plain text is kept from looking like one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

# Lines may be megabytes long: no pattern here backtracks over what another has matched.
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(?=\S)|[ \t]*\Z)")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)\Z")
_BLOCK = re.compile(r"[ \t]{4}|[ \t]*(?:[-*+>|]|\d+[.)])(?:\s|\Z)|[ \t]*[|>]")  # no paragraph, so no setext heading
_SPECIAL = r"\\*(?:#{1,6}(?:\s|\Z)|`{3}|~{3}|(?:=+|-+)[ \t]*\Z)"
_STRUCTURAL = re.compile(rf"\A(\s*)(?={_SPECIAL})")
_ESCAPED = re.compile(rf"\A(\s*)\\(?={_SPECIAL})")


class Line(NamedTuple):
    """A line without its end. level: 1 to 6 for a heading, whose `text` is then its title; 0 for all else."""

    text: str
    level: int = 0


def escape(text: str) -> str:
    """Plain text as Markdown: a backslash before whatever would start a heading or a code block."""
    return "\n".join(_STRUCTURAL.sub(r"\1\\", line, count=1) for line in text.split("\n"))


def table(rows: Iterable[Sequence[str]]) -> str:
    """A table of which the first row is the head; all rows are as wide as that one. Empty for no rows."""
    cells = (["\\|".join(" ".join(cell.split()).split("|")) for cell in row] for row in rows)
    written = [f"| {' | '.join(row)} |" for row in cells]
    if written:
        width = written[0].replace("\\|", "").count("|") - 1
        written.insert(1, f"|{' --- |' * width}")
    return "\n".join(written)


def lines(text: str) -> Iterator[Line]:
    """The lines. A setext heading and its underline are one line; outside of code, the backslash of `escape` is gone.
    A front matter between `---` lines is text.
    """
    source = text.split("\n")
    front = _front_matter(source)
    fence = ""
    number = 0
    while number < len(source):
        line = source[number]
        opened = _FENCE.match(line)
        if fence or number < front:
            if opened and fence and opened[1].startswith(fence) and not opened[2].strip():
                fence = ""
            yield Line(line)
        elif opened:
            fence = opened[1]
            yield Line(line)
        elif atx := _ATX.match(line):
            title = _title(line[atx.end() :])
            yield Line(title, len(atx[1]) if title else 0)
        elif _is_setext(source, number, front):
            yield Line(line.strip(), 1 if "=" in source[number + 1] else 2)
            number += 1
        else:
            yield Line(_ESCAPED.sub(r"\1", line, count=1))
        number += 1


def first_heading(text: str) -> str | None:
    """The first heading of the highest level: what a Markdown document calls itself."""
    return next((line.text for line in lines(text) if line.level == 1), None)


def _title(text: str) -> str:
    """Without the closing #s that Markdown allows."""
    text = text.strip()
    bare = text.rstrip("#")
    return bare.rstrip() if not bare or bare[-1] in " \t" else text


def _front_matter(source: list[str]) -> int:
    """How many lines it takes; 0 where there is none."""
    if source[0].rstrip() != "---":
        return 0
    return next((n + 1 for n, line in enumerate(source) if n and line.rstrip() == "---"), 0)


def _is_setext(source: list[str], number: int, front: int) -> bool:
    """A one-line paragraph with an underline. (CommonMark allows longer ones; they are rare, and tables look alike.)"""
    if number + 1 >= len(source) or not source[number].strip() or not _SETEXT.match(source[number + 1]):
        return False
    alone = number <= front or not source[number - 1].strip() or bool(_ATX.match(source[number - 1]))
    return alone and not _BLOCK.match(source[number]) and not _SETEXT.match(source[number])
