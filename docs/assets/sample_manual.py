#!/usr/bin/env python3
"""Writes sample-manual.pdf: the manual of a coffee machine that does not exist, for readers who have no PDF at hand.

`.venv/bin/python docs/assets/sample_manual.py` writes it anew, byte for byte the same for the same text.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import re
from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus.doctemplate import SimpleDocTemplate
from reportlab.platypus.flowables import Flowable, PageBreak, Spacer
from reportlab.platypus.paragraph import Paragraph
from reportlab.platypus.tables import Table, TableStyle

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "sample-manual.txt"
TARGET = HERE / "sample-manual.pdf"
TITLE = "Larkspur Duo espresso machine"

BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=10, leading=14, spaceAfter=6)
STEP = ParagraphStyle("step", parent=BODY, leftIndent=14, firstLineIndent=-14, spaceAfter=3)
SECTION = ParagraphStyle("section", fontName="Helvetica-Bold", fontSize=14, leading=17, spaceBefore=8, spaceAfter=4)
CHAPTER = ParagraphStyle("chapter", fontName="Helvetica-Bold", fontSize=20, leading=24, spaceAfter=10)
COVER = ParagraphStyle("cover", fontName="Helvetica-Bold", fontSize=28, leading=34, spaceBefore=220, spaceAfter=12)
_STEP = re.compile(r"(\d+\.|-) ")


def flowables(text: str) -> list[Flowable]:
    """The source's blocks: `# ` opens a chapter on a new page, `## ` a section, `|` a table row; the rest is prose."""
    story: list[Flowable] = [Paragraph(TITLE, COVER), Paragraph("Operating manual. Keep it with the machine.", BODY)]
    for block in text.strip().split("\n\n"):
        if block.startswith("# "):
            story += [PageBreak(), Paragraph(block[2:], CHAPTER)]
        elif block.startswith("## "):
            story.append(Paragraph(block[3:], SECTION))
        elif block.startswith("|"):
            story += [table(block), Spacer(0, 8)]
        elif _STEP.match(block):
            story += [Paragraph(step, STEP) for step in re.split(r"\n(?=\d+\. |- )", block)]
        else:
            story.append(Paragraph(block, BODY))
    return story


def table(block: str) -> Table:
    rows = [[Paragraph(cell.strip(), BODY) for cell in line.strip("|").split("|")] for line in block.splitlines()]
    widths = [42 * mm, 120 * mm] if len(rows[0]) == 2 else [24 * mm, 62 * mm, 76 * mm]
    lines = TableStyle([("LINEBELOW", (0, 0), (-1, -1), 0.4, colors.grey), ("VALIGN", (0, 0), (-1, -1), "TOP")])
    return Table(rows, widths, style=lines)


class Manual(SimpleDocTemplate):
    """With a running header and, below the text and after it, the page's number."""

    def beforePage(self) -> None:  # noqa: N802 - reportlab's name
        self.canv.setFont("Helvetica", 8)
        self.canv.drawString(24 * mm, 284 * mm, TITLE)

    def afterPage(self) -> None:  # noqa: N802 - reportlab's name
        self.canv.setFont("Helvetica", 8)
        self.canv.drawRightString(186 * mm, 12 * mm, str(self.page))


def main() -> None:
    document = Manual(
        str(TARGET), pagesize=A4, leftMargin=24 * mm, rightMargin=24 * mm, title=TITLE, author="Parley", invariant=1
    )
    document.build(flowables(SOURCE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
