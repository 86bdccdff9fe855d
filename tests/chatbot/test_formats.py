"""What a file is, by its name and by what it holds."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.errors import ParleyError, PayloadTooLarge, UnsupportedType
from chatbot.formats import (
    CSV,
    DOCX,
    EPUB,
    HTML,
    LABELS,
    MAIL,
    MARKDOWN,
    PDF,
    PPTX,
    SUFFIXES,
    TEXT,
    TSV,
    XLSX,
    detect,
    guess_suffix,
)
from chatbot.readers import archive

OLE = bytes.fromhex("D0CF11E0A1B11AE1") + b"\0" * 600
ELF = b"\x7fELF\x02\x01\x01\x00"


def zipped(*names: str, content: bytes = b"<x/>") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name in names:
            made.writestr(name, content)
    return out.getvalue()


WORD = zipped("[Content_Types].xml", "word/document2.xml")
SHEET = zipped("xl/workbook.xml")
SLIDES = zipped("ppt/presentation.xml")
BOOK = zipped("mimetype", "META-INF/container.xml")


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("a.pdf", b"%PDF-1.7\n", PDF),
        ("A.PDF", b"\xef\xbb\xbf\n%PDF-1.4\n", PDF),
        ("readme.md", b"# Hello", MARKDOWN),
        ("x.markdown", b"", MARKDOWN),
        ("notes.txt", "Grüße, 世界".encode(), TEXT),
        ("notes.txt", "Grüße".encode("latin-1"), TEXT),
        ("notes.txt", "Grüße".encode("utf-16"), TEXT),
        ("cut.txt", "世界".encode()[:-1], TEXT),
        ("coloured.log", b"\x1b[31mred\x1b[0m\t\r\n\f", TEXT),
        ("about.txt", b"A file with %PDF-1.4 in its text", TEXT),
        ("page.HTM", b"<p>Hello", HTML),
        ("page.xhtml", b"<html/>", HTML),
        ("mail.eml", b"Subject: x\r\n\r\nHello", MAIL),
        ("data.csv", b"a;b", CSV),
        ("data.tsv", b"a\tb", TSV),
        ("letter.docx", WORD, DOCX),
        ("table.xlsx", SHEET, XLSX),
        ("talk.pptx", SLIDES, PPTX),
        ("book.epub", BOOK, EPUB),
    ],
)
def test_what_is_read(name: str, content: bytes, media_type: str) -> None:
    assert detect(name, io.BytesIO(content)) == media_type


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pdf", WORD, "named as PDF"),
        ("a.pdf", ELF, "named as PDF"),
        ("a.pdf", b"<html>", "named as PDF"),
        ("a.pdf", b"", "named as PDF"),
        ("a.pdf", b" " * 1024 + b"%PDF-1.7", "named as PDF"),
        ("a.txt", WORD, "named as text"),
        ("a.md", ELF, "named as text"),
        ("a.txt", b"%PDF-1.7\n", "named as text"),
        ("a.txt", b"NUL \x00 inside", "named as text"),
        ("a.html", b"\x89PNG\r\n\x1a\n", "named as text"),
        ("a.eml", OLE, "named as text"),
        ("a.docx", b"just words", "named as Word"),
        ("a.docx", SHEET, "named as Word"),
        ("a.docx", zipped("other.xml"), "named as Word"),
        ("a.docx", zipped("../word/document.xml"), "named as Word"),
        ("a.pptx", WORD, "named as PowerPoint"),
        ("a.xlsx", zipped("xl/workbook.bin"), "named as Excel"),
        ("a.epub", WORD, "named as EPUB"),
        ("a.docx", OLE, "protected by a password, or is an old Word file"),
        ("a.xlsx", b"PK\x03\x04 and no more", "damaged"),
        ("a.xlsx", SHEET[:-30], "damaged"),
        ("a.doc", OLE, r"Save it as \.docx"),
        ("a.XLS", OLE, r"Save it as \.xlsx"),
        ("a.exe", b"MZ", r"Readable are \.csv, \.docx"),
        ("pdf", b"%PDF-1.7", "Readable are"),
        ("", b"", "Readable are"),
    ],
)
def test_what_is_refused(name: str, content: bytes, words: str) -> None:
    with pytest.raises(UnsupportedType, match=words):
        detect(name, io.BytesIO(content))


def test_an_archive_with_a_password_is_refused() -> None:
    locked = bytearray(WORD)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := locked.find(signature, at + 1)) >= 0:
            locked[at + flags] |= 1
    with pytest.raises(UnsupportedType, match="password"):
        detect("a.docx", io.BytesIO(bytes(locked)))


def test_an_archive_that_says_it_is_huge_is_refused_before_it_is_unpacked() -> None:
    bomb = zipped("word/document.xml", content=b"\0" * (archive.UNPACKED_BYTES + 1))
    assert len(bomb) < 200_000
    with pytest.raises(PayloadTooLarge, match="unpacks to more than 100 MB"):
        detect("a.docx", io.BytesIO(bomb))


def test_images_do_not_count() -> None:
    with_image = io.BytesIO(zipped("word/document.xml", "word/media/image1.png", content=b"\0" * 60_000_000))
    assert detect("a.docx", with_image) == DOCX


def test_a_list_of_parts_that_does_not_end_is_not_read() -> None:
    many = zipped(*(f"word/{number:060}.xml" for number in range(12_000)), content=b"")
    with pytest.raises(PayloadTooLarge, match="more parts"):
        detect("a.docx", io.BytesIO(many))


@given(st.text() | st.sampled_from([f"a{suffix}" for suffix in SUFFIXES]), st.binary(max_size=64))
def test_detect_knows_or_refuses(name: str, content: bytes) -> None:
    for start in (b"", b"PK\x03\x04"):
        try:
            assert detect(name, io.BytesIO(start + content)) in LABELS
        except ParleyError as refused:
            assert refused.message.endswith(".")  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    ("name", "media_type", "content", "suffix"),
    [
        ("index.php", "text/html", b"", ".html"),
        ("page.xhtml", "application/xhtml+xml", b"", ".xhtml"),
        ("page.htm", "text/html", b"", ".htm"),
        ("manual.pdf", "text/html", b"<html>Log in first", ".html"),
        ("readme.md", "text/plain", b"", ".md"),
        ("data", "text/csv", b"", ".csv"),
        ("data.csv", "application/octet-stream", b"", ".csv"),
        ("letter.docx", "application/zip", b"", ".docx"),
        ("letter", DOCX, b"", ".docx"),
        ("", "text/plain", b"", ".txt"),
        ("", "", b"%PDF-1.7", ".pdf"),
        ("", "", b"<!-- x -->\n<!DOCTYPE html>", ".html"),
        ("photo.png", "image/png", b"\x89PNG", ".png"),
        ("film.mp4", "video/mp4", b"\0\0", ""),
        ("", "", b"words", ""),
    ],
)
def test_what_a_server_sent(name: str, media_type: str, content: bytes, suffix: str) -> None:
    assert guess_suffix(name, media_type, io.BytesIO(content)) == suffix
