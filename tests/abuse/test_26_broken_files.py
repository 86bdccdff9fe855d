"""Broken and hostile files of every kind: each is read, or fails with a code and a sentence, and so is the next one."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.base import ContentFile
from PIL import Image
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from apps.knowledge.ingest import add_document
from apps.knowledge.models import Collection, Document
from apps.knowledge.several import add_several
from apps.tenants.models import Tenant
from chatbot.errors import ParleyError
from tests.abuse.test_26_bombs import _pdf, zipped
from tests.apps.knowledge.conftest import acme, embeddings, endpoint, manuals
from tests.apps.knowledge.ingesting import ingested, live_texts, pdf
from tests.chatbot import documents

__all__ = ["acme", "embeddings", "endpoint", "manuals"]
MANUAL = ("Pumps", ["Close the valve.", "Replace the seal."], ["Seal", "40", "steel"])
# A code with which a file may be refused at the door, or fail later. Words that are for programmers alone.
CODES = {"unsupported_type", "payload_too_large", "parser", "too_large", "empty", "invalid_request"}
JARGON = re.compile(r"Error\b|Exception|Traceback|Errno|None|0x|\bxml\.|codec|stream|errno|\w+\(\)|/tmp|kreuzberg")


def png() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((300, 200), 80).save(out, "PNG")
    return out.getvalue()


def locked_pdf() -> bytes:
    out = io.BytesIO()
    canvas: Any = Canvas(out, encrypt=StandardEncryption("secret"))  # type: ignore[no-untyped-call]
    canvas.drawString(72, 700, "Secret")
    canvas.save()
    return out.getvalue()


def pages_pdf(count: int) -> bytes:
    """All of them the same one."""
    text = b"BT /F1 12 Tf 72 700 Td (Close the valve.) Tj ET"
    kids = b" ".join(b"%d 0 R" % number for number in range(5, 5 + count))
    fonts = b"/Resources << /Font << /F1 3 0 R >> >>"
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R %s >>" % fonts
    return _pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, count),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text),
            *[page] * count,
        ]
    )


def twice_packed_pdf() -> bytes:
    """A page whose content is packed in what is packed."""
    inner = zlib.compress(b"(a) Tj " * 30_000_000, 9)
    packed = zlib.compress(inner, 9)
    stream = b"<< /Length %d /Filter [/FlateDecode /FlateDecode] >>\nstream\n%s\nendstream" % (len(packed), packed)
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R >>"
    return _pdf([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", page, stream])


def fax(pages: int) -> bytes:
    out = io.BytesIO()
    frame = Image.new("1", (8, 8))
    frame.save(out, "TIFF", save_all=True, append_images=[frame] * (pages - 1))
    return out.getvalue()


def with_entity(content: bytes, part: str, into: str) -> bytes:
    """A part of a zipped document that wants a file of ours in its text."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    doctype = b"<!DOCTYPE x [<!ENTITY own SYSTEM 'file:///etc/passwd'>]>"
    parts[part] = doctype + parts[part].replace(into.encode(), b"&own;")
    return zipped(parts)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


docx, pptx = documents.docx(*MANUAL), documents.pptx(*MANUAL)
xlsx, epub = documents.xlsx(*MANUAL), documents.epub(*MANUAL)
BOMB = gzip.compress(b"\0" * 50_000_000)
FILES: dict[str, tuple[str, bytes | Callable[[], bytes]]] = {
    # What is packed.
    "gzip as text": ("bomb.txt", BOMB),
    "gzip as pdf": ("bomb.pdf", BOMB),
    "gzip as word": ("bomb.docx", BOMB),
    "packed twice": ("bomb.pdf", twice_packed_pdf),
    "10,000 pages": ("long.pdf", lambda: pages_pdf(10_000)),
    "more faxes than are read": ("fax.tiff", lambda: fax(201)),
    # What breaks off.
    **{f"half a {name}": (f"half.{name}", half(content)) for name, content in [("docx", docx), ("pptx", pptx)]},
    "half a xlsx": ("half.xlsx", half(xlsx)),
    "half a epub": ("half.epub", half(epub)),
    "half a pdf": ("half.pdf", half(pdf("Text " * 20, "More"))),
    "half a png": ("half.png", half(png())),
    "head of a pdf": ("head.pdf", b"%PDF-1.7\n"),
    "head of a zip": ("head.docx", b"PK\x03\x04"),
    # What is locked.
    "locked pdf": ("locked.pdf", locked_pdf),
    "locked word": ("locked.docx", bytes.fromhex("D0CF11E0A1B11AE1") + bytes(5000)),
    # What wants a file of ours.
    "xxe in xlsx": ("xxe.xlsx", lambda: with_entity(xlsx, "xl/worksheets/sheet1.xml", "Close the valve.")),
    "xxe in pptx": ("xxe.pptx", lambda: with_entity(pptx, "ppt/slides/slide1.xml", "Close the valve.")),
    "xxe in epub": ("xxe.epub", lambda: with_entity(epub, "c.xhtml", "Close the valve.")),
    "xxe in html": ("xxe.html", b"<!DOCTYPE x [<!ENTITY own SYSTEM 'file:///etc/passwd'>]><p>&own; valve</p>"),
    # What is something else than its name says.
    "pdf as word": ("wrong.docx", pdf("Text")),
    "word as pdf": ("wrong.pdf", docx),
    "word as sheet": ("wrong.xlsx", docx),
    "sheet as book": ("wrong.epub", xlsx),
    "picture as another": ("wrong.jpg", png()),
    "picture as text": ("wrong.txt", png()),
    "program as text": ("wrong.txt", b"\x7fELF\x02\x01\x01" + bytes(2000)),
    "text as picture": ("wrong.png", b"Close the valve."),
    "page as pdf": ("wrong.pdf", b"<html><p>Close the valve.</p></html>"),
    # Bytes that are no text of any one kind.
    "NUL in text": ("nul.txt", b"Close the valve.\0\0\0" * 100),
    "NUL far down": ("nul.csv", b"a,b\n" * 3000 + b"valve\0,\0\n"),
    "NUL in a page": ("nul.html", b"<p>Close \0the valve.</p>"),
    "NUL in a pdf": ("nul.pdf", pdf("Close\0 the valve.")),
    "mixed encodings": ("mixed.txt", "Grüße. ".encode() * 50 + "Grüße. ".encode("cp1252") + "世界".encode("gb18030")),
    "broken utf-8": ("broken.md", b"# Valve \xc3\x28 \xf0\x28\x8c\xbc \xff\xfe\n\nText"),
    "half a character": ("half.txt", "Ventil schließen, Öl prüfen: 水".encode()[:-1]),
    "wide and broken": ("wide.txt", "Ventil schließen".encode("utf-16") + b"\xd8"),
    "lone surrogates": ("lone.txt", b"\xff\xfe" + b"\x00\xd8" * 10 + "Ventil".encode("utf-16-le")),
    "nothing": ("nothing.txt", b""),
    "blanks": ("blanks.md", b" \n\t" * 1000),
    "marks only": ("marks.txt", b"\xef\xbb\xbf"),
}


@pytest.mark.parametrize("case", FILES)
def test_it_is_read_or_says_why(acme: Tenant, manuals: Collection, case: str) -> None:
    name, content = FILES[case]
    try:
        made = content if isinstance(content, bytes) else content()
        document, _ = add_document(acme, manuals, name=name, content=made)
    except ParleyError as error:
        assert_understandable(error.code, error.sentence)
        return
    ingested(acme, document)
    if document.status == Document.Status.FAILED:
        assert_understandable(document.failure_code, document.failure_message)
    else:
        assert document.status == Document.Status.READY
        text = "".join(live_texts(document))
        assert text
        assert "root:" not in text
        assert "\0" not in text


def assert_understandable(code: str, sentence: str) -> None:
    assert code in CODES
    assert re.fullmatch(r"[A-Z].*\.", sentence), sentence
    assert not JARGON.search(sentence), sentence


def test_the_worker_goes_on(acme: Tenant, manuals: Collection) -> None:
    """One after the other in one process, as a worker meets them."""
    for case in ("half a pdf", "locked pdf", "xxe in xlsx", "half a png", "broken utf-8"):
        name, content = FILES[case]
        document, _ = add_document(
            acme, manuals, name=name, content=content if isinstance(content, bytes) else content()
        )
        ingested(acme, document)
    good, _ = add_document(acme, manuals, name="good.docx", content=docx)
    assert ingested(acme, good).status == Document.Status.READY


def test_archives_of_archives(acme: Tenant, manuals: Collection) -> None:
    """Each inner file is judged by itself, and no archive is opened twice."""
    inner = zipped({f"{number}.md": b"# One" for number in range(10)})
    for _ in range(20):
        inner = zipped({"deeper.zip": inner})
    outer = ContentFile(zipped({"good.md": b"# Good", "nested.zip": inner, "bomb.txt": b"\0" * 60_000_000}), "all.zip")
    arrivals = {arrival.name: arrival for arrival in add_several(acme, manuals, [outer])}
    assert arrivals["good.md"].added
    for name in ("nested.zip", "bomb.txt"):
        refusal = arrivals[name].refusal
        assert refusal is not None
        assert_understandable(refusal.code, refusal.sentence)
