"""The code blocks of the pages, each with the comments that stand before it."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.environment import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUNNABLE = ("sh", "python", "js")
MARKS = ("not run", "fails", "from", "schema", "checked by")

_FENCE = re.compile(r"^\s*(`{3,})\s*(\S*)\s*$")
_HEADING = re.compile(r"^#+ (.+)$")
_MARK = re.compile(r"^\s*<!--\s*([a-z ]+?)\s*(?::\s*(.*?))?\s*-->\s*$")


@dataclass(frozen=True)
class Block:
    """`line` is that of the fence; `follows` is the block right before it, with nothing but comments between."""

    page: Path
    line: int
    heading: str
    language: str
    text: str
    marks: dict[str, str]
    follows: Block | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.language in RUNNABLE and not {"not run", "checked by"} & self.marks.keys()


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block, in order."""
    found: list[Block] = []
    heading, marks, follows = "", dict[str, str](), None
    lines = enumerate(page.read_text().splitlines(), start=1)
    for number, line in lines:
        if fence := _FENCE.match(line):
            text = _until(fence[1], lines)
            follows = Block(page, number, heading, fence[2], text, marks, follows)
            found.append(follows)
            marks = {}
        elif mark := _MARK.match(line):
            marks[mark[1]] = mark[2] or ""
        elif line.strip():
            marks, follows = {}, None
            heading = title[1] if (title := _HEADING.match(line)) else heading
    return found


def _until(fence: str, lines: enumerate[str]) -> str:
    inside: list[str] = []
    for _, line in lines:
        if line.strip() == fence:
            return textwrap.dedent("\n".join(inside) + "\n")
        inside.append(line)
    raise AssertionError(f"A block is not closed: {inside[:1]}")
