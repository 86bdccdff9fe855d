"""Images, and pages of a PDF that are images: their text is recognised, within limits."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import reportlab
from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from chatbot import extraction, recognition
from chatbot.errors import ExtractionFailed
from chatbot.extraction import NoTextFound, Page
from chatbot.formats import JPEG, PDF, PNG, TIFF, WEBP
from chatbot.recognition import RAPIDOCR, TESSERACT, Recognition
from chatbot.supervising import Limits, TooLarge

extract = partial(extraction.extract, recognition=Recognition(RAPIDOCR))  # whatever else is installed
GERMAN = "Die größere Pumpe jährlich prüfen."
new_canvas: Any = Canvas
reader: Any = ImageReader


def picture(*lines: str, size: tuple[int, int] = (1000, 400)) -> Image.Image:
    fonts = Path(str(reportlab.__file__)).parent / "fonts"
    made = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(made), ImageFont.truetype(str(fonts / "Vera.ttf"), 32)
    for place, line in enumerate(lines):
        draw.text((40, 40 + 50 * place), line, fill="black", font=font)
    return made


def saved(path: Path, image: Image.Image, kind: str, **options: Any) -> Path:
    image.save(path, kind, **options)
    return path


def scan(path: Path, pages: list[Image.Image | str]) -> Path:
    """A PDF of pictures, and of pages of text where a string stands."""
    canvas = new_canvas(str(path))
    for page in pages:
        if isinstance(page, str):
            canvas.drawString(72, 700, page)
        else:
            canvas.drawImage(reader(page), 50, 500, width=500, height=200)
        canvas.showPage()
    canvas.save()
    return path


@pytest.mark.parametrize(("media_type", "kind"), [(PNG, "PNG"), (JPEG, "JPEG"), (WEBP, "WEBP"), (TIFF, "TIFF")])
def test_an_image_is_read(tmp_path: Path, media_type: str, kind: str) -> None:
    path = saved(tmp_path / "file", picture(GERMAN, "Close valve 27."), kind)
    assert extract(path, media_type).pages == [Page(1, f"{GERMAN}\nClose valve 27.")]


def test_pages_are_told_as_they_are_read(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = scan(tmp_path / "file", [picture("One."), "Text.", picture("Three.")])
    assert len(extract(path, PDF, tell=lambda done, total: told.append((done, total))).pages) == 3
    assert told[0] == (1, 3)
    assert told[-1] == (3, 3)
    assert told == sorted(told)


def test_a_fax_has_pages_and_its_gaps_are_paragraphs(tmp_path: Path) -> None:
    pages = [picture("First page", "", "", "after a gap"), picture(), picture("Third page")]
    path = saved(tmp_path / "file", pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert extract(path, TIFF).pages == [Page(1, "First page\n\nafter a gap"), Page(3, "Third page")]


def test_a_photo_is_turned_as_it_was_held_and_transparency_is_paper(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(tmp_path / "photo", picture(GERMAN).rotate(90, expand=True), "JPEG", exif=exif)
    assert extract(turned, JPEG).pages == [Page(1, GERMAN)]
    glass = picture(GERMAN).convert("RGBA")
    glass.putalpha(Image.eval(picture(GERMAN).convert("L"), lambda value: 255 - value))
    assert extract(saved(tmp_path / "glass", glass, "PNG"), PNG).pages == [Page(1, GERMAN)]


def test_a_mixed_pdf_keeps_its_text_and_gains_that_of_its_scans(tmp_path: Path) -> None:
    path = scan(tmp_path / "file", ["Typed first.", picture(GERMAN), "Typed last."])
    assert extract(path, PDF).pages == [Page(1, "Typed first."), Page(2, GERMAN), Page(3, "Typed last.")]


def test_what_is_read_is_no_markup(tmp_path: Path) -> None:
    assert extract(saved(tmp_path / "file", picture("# 5 bolts"), "PNG"), PNG).pages == [Page(1, "\\# 5 bolts")]


@pytest.mark.parametrize("empty", [picture(), picture(size=(1, 1))])
def test_a_picture_of_nothing_is_empty(tmp_path: Path, empty: Image.Image) -> None:
    with pytest.raises(ExtractionFailed, match="No text was found") as raised:
        extract(saved(tmp_path / "file", empty, "PNG"), PNG)
    assert raised.value.code == "empty"


@pytest.mark.parametrize("keep", [8, 30, 0.5])
def test_a_broken_image_says_so(tmp_path: Path, keep: float) -> None:
    path = saved(tmp_path / "file", picture(GERMAN), "PNG")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep) or len(data) // 2])
    with pytest.raises(ExtractionFailed, match="damaged"):
        extract(path, PNG)


def test_a_bomb_of_pixels_is_never_unpacked(tmp_path: Path) -> None:
    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    out = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    out.seek(0, io.SEEK_END)
    out.write(part(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)))
    out.write(part(b"IDAT", zlib.compress(bytes(1_000_000))) + part(b"IEND", b""))
    path = tmp_path / "file"
    path.write_bytes(out.getvalue())
    with pytest.raises(TooLarge, match="80 million pixels"):
        extract(path, PNG)


def test_more_scans_than_are_read_are_refused_before_one_is(tmp_path: Path) -> None:
    path = scan(tmp_path / "file", [picture(GERMAN)] * 3)
    with pytest.raises(TooLarge, match=r"3 scanned pages.*At most 2"):
        extract(path, PDF, Limits(scans=2))


def test_a_hundred_scans_end_with_their_time(tmp_path: Path) -> None:
    path = scan(tmp_path / "file", [picture(*[GERMAN] * 7)] * 100)
    with pytest.raises(TooLarge, match="longer than"):
        extract(path, PDF, Limits(seconds=4, scan_seconds=0.02))


def test_memory_of_reading_scans_is_watched(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="more than 100 MB of memory"):
        extract(scan(tmp_path / "file", [picture(GERMAN)]), PDF, Limits(memory_mb=100, scan_memory_mb=100))


class TestWithoutRecognition:
    @pytest.fixture(autouse=True)
    def missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "rapidocr", None)
        monkeypatch.setattr(recognition, "tesseract_library", lambda: None)

    def test_an_image_says_what_it_needs(self, tmp_path: Path) -> None:
        with pytest.raises(ExtractionFailed, match="not installed"):
            extraction.extract(saved(tmp_path / "file", picture(GERMAN), "PNG"), PNG)

    def test_a_scan_says_what_it_needs(self, tmp_path: Path) -> None:
        with pytest.raises(ExtractionFailed, match="not installed"):
            extraction.extract(scan(tmp_path / "file", [picture(GERMAN)]), PDF)

    def test_a_mixed_pdf_keeps_its_text(self, tmp_path: Path) -> None:
        mixed = scan(tmp_path / "file", ["Typed.", picture(GERMAN)])
        assert extraction.extract(mixed, PDF).pages == [Page(1, "Typed.")]


needs_tesseract = pytest.mark.skipif(
    not recognition.tesseract_library(), reason="Tesseract is not installed: apt-get install tesseract-ocr"
)


@needs_tesseract
class TestByTesseract:
    """The same within the same walls; English is what every installation knows."""

    def test_it_is_taken_where_it_is_installed(self) -> None:
        assert Recognition().found() == TESSERACT
        assert Recognition(RAPIDOCR).found() == RAPIDOCR

    def test_images_and_scans_are_read(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "file", picture("Replace the seal.", "Close valve 27."), "PNG")
        read = extraction.extract(path, PNG, recognition=Recognition(TESSERACT, ("eng",)))
        assert read.pages == [Page(1, "Replace the seal.\nClose valve 27.")]
        told: list[tuple[int, int]] = []
        mixed = scan(tmp_path / "mixed", ["Typed.", picture("Close valve 27.")])
        read = extraction.extract(mixed, PDF, tell=lambda done, total: told.append((done, total)))
        assert read.pages == [Page(1, "Typed."), Page(2, "Close valve 27.")]
        assert told[-1] == (2, 2)

    def test_a_picture_of_nothing_is_empty(self, tmp_path: Path) -> None:
        with pytest.raises(NoTextFound):
            extraction.extract(saved(tmp_path / "file", picture(), "PNG"), PNG)

    def test_its_time_and_memory_are_watched(self, tmp_path: Path) -> None:
        path = scan(tmp_path / "file", [picture(*["Close valve 27."] * 7)] * 60)
        with pytest.raises(TooLarge, match="longer than"):
            extraction.extract(path, PDF, Limits(seconds=2, scan_seconds=0.01))
        with pytest.raises(TooLarge, match="more than 60 MB"):
            extraction.extract(path, PDF, Limits(memory_mb=60, scan_memory_mb=60))

    def test_a_language_that_is_not_installed_is_named(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "file", picture("Text"), "PNG")
        with pytest.raises(ExtractionFailed, match="xyz"):
            extraction.extract(path, PNG, recognition=Recognition(TESSERACT, ("xyz",)))
