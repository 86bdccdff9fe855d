"""Small documents of every format and what has to come out of them.

Each case in golden/<format>/ is a file, or a directory of the parts that are zipped to one; beside it stands what is
read of it: its title, and its pages as Markdown. `python -m tests.chatbot.test_golden` writes those anew, to be read
before they are committed.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import pytest

from chatbot.chunking import split
from chatbot.extraction import Extracted, extract
from chatbot.formats import JPEG, MARKDOWN, PDF, PNG, SUFFIXES, TEXT, TIFF, WEBP, detect

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path for path in GOLDEN.glob("*/*") if path.suffix != ".md")


def made(case: Path, directory: Path) -> Path:
    """The document itself, named after its format."""
    if case.is_file():
        return case
    path = directory / f"{case.name}.{case.parent.name}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in sorted(case.rglob("*"), key=lambda part: (part.name != "mimetype", part)):
            if part.is_file():
                archive.write(part, part.relative_to(case))
    return path


def extracted(case: Path, directory: Path) -> Extracted:
    path = made(case, directory)
    with path.open("rb") as content:
        media_type = detect(path.name, content)
    return extract(path, media_type)


def shown(document: Extracted) -> str:
    pages = [f"[page {page.number or 'without number'}]\n\n{page.text}\n" for page in document.pages]
    return "\n".join([f"[title] {document.title}\n", *pages])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.stem}")
def test_extraction(case: Path, tmp_path: Path) -> None:
    assert shown(extracted(case, tmp_path)) == case.with_suffix(".md").read_text(encoding="utf-8")


def test_every_format_is_here() -> None:
    # PDF, Markdown and text have tests of their own in test_extraction.py, images in test_scans.py.
    here = {SUFFIXES[f".{case.parent.name}"] for case in CASES}
    assert here | {PDF, MARKDOWN, TEXT, PNG, JPEG, WEBP, TIFF} == set(SUFFIXES.values())


def test_passages_know_their_headings_and_slides(tmp_path: Path) -> None:
    manual = split(extracted(GOLDEN / "docx/manual", tmp_path), title="Handbuch")
    assert {"2 Teile", "1 Sicherheit"} <= {passage.heading[0] for passage in manual if passage.heading}
    report = split(extracted(GOLDEN / "pptx/report", tmp_path), title="Bericht")
    assert [(passage.heading, passage.page) for passage in report] == [
        (("Forschung & Entwicklung",), 1),
        (("Umsatz",), 3),
        (("Tabelle",), 4),
    ]
    prices = split(extracted(GOLDEN / "xlsx/parts", tmp_path), title="Ersatzteile")
    assert prices[0].heading == ("Teile & Preise",)


if __name__ == "__main__":
    for each in CASES:
        with tempfile.TemporaryDirectory() as scratch:
            each.with_suffix(".md").write_text(shown(extracted(each, Path(scratch))), encoding="utf-8")
