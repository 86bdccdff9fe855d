"""Row 36, where nothing misbehaves: a hundred scanned pages are read within the time that they are given, and told as
they are. PARLEY_FAULTS_FULL=1 makes it a hundred, which takes minutes."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import reportlab
from PIL import Image, ImageDraw, ImageFont

from chatbot.extraction import extract
from chatbot.formats import PDF
from chatbot.recognition import RAPIDOCR, TESSERACT, Recognition

PAGES = 100 if os.environ.get("PARLEY_FAULTS_FULL") else 5
DOTS_AN_INCH = 150
SIZE = (1240, 1754)  # A4
LINES = 24
PARTS = ("valve", "pump", "seal", "gauge", "filter")

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1800)]


def word(number: int) -> str:
    return f"{PARTS[number % len(PARTS)]} {1000 + number}"


def scanned(path: Path) -> Path:
    font = ImageFont.truetype(str(Path(str(reportlab.__file__)).parent / "fonts" / "Vera.ttf"), 28)
    pages = []
    for number in range(1, PAGES + 1):
        page = Image.new("L", SIZE, "white")
        lines = [
            f"Replace {word(number)} first.",
            *(f"Step {line}: close it and wait a while." for line in range(LINES)),
        ]
        ImageDraw.Draw(page).multiline_text((90, 90), "\n".join(lines), fill="black", font=font, spacing=28)
        pages.append(page)
    pages[0].save(path, "PDF", save_all=True, append_images=pages[1:], resolution=DOTS_AN_INCH)
    return path


@pytest.mark.parametrize("engine", [TESSERACT, RAPIDOCR])
def test_every_page_is_read_and_told(
    tmp_path: Path, engine: str, record_property: Callable[[str, object], None]
) -> None:
    recognition = Recognition(engine, ("eng",))
    if not recognition.found():
        pytest.skip(f"{engine} is not installed.")
    told: list[tuple[int, int]] = []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    read = extract(
        scanned(tmp_path / "file"), PDF, tell=lambda done, total: told.append((done, total)), recognition=recognition
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert [page.number for page in read.pages] == list(range(1, PAGES + 1))
    missing = [page.number for page in read.pages if word(page.number or 0) not in page.text]
    assert len(missing) <= PAGES // 20  # a sign is misread now and then
    assert told == sorted(told)
    assert {total for _, total in told} == {PAGES}
    assert [done for done, _ in told][-PAGES:] == list(range(1, PAGES + 1))
    record_property("processor_seconds", after.ru_utime - before.ru_utime)
