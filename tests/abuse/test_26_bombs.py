"""A file that is small to send and huge to read fails by itself, soon, while its neighbours are ingested."""

from __future__ import annotations

import io
import re
import resource
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from apps.knowledge.ingest import add_document
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from chatbot.errors import ParleyError, UnsupportedType
from chatbot.supervising import Limits
from tests.apps.knowledge.conftest import acme, embeddings, endpoint, manuals
from tests.apps.knowledge.ingesting import in_thread, ingested, live_texts, manual
from tests.chatbot.test_golden import GOLDEN

__all__ = ["acme", "embeddings", "endpoint", "manuals"]
WITHIN = 30.0  # seconds of processors
# KiB, of the largest child: its limit, and what it takes between two looks at it.
MEMORY = Limits().memory_mb * 1024 * 5 // 4
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


class Readers(threading.Thread):
    """Looks at this process's readers until it is told to end. peak: KiB that the largest of them ever had.

    Not by getrusage, which counts what a child shared with its parent before it became another program.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.done = threading.Event()

    def run(self) -> None:
        ours = psutil.Process()
        while not self.done.wait(0.005):
            for child in ours.children(recursive=True):
                with suppress(psutil.Error, OSError):
                    if "chatbot.extraction" in child.cmdline():
                        status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
                        found = re.search(r"VmHWM:\s*(\d+) kB", status)
                        self.peak = max(self.peak, int(found[1]) if found else 0)


@pytest.fixture(autouse=True)
def readers() -> Iterator[Readers]:
    """No reader takes more than it may."""
    looking = Readers()
    looking.start()
    yield looking
    looking.done.set()
    looking.join()
    assert looking.peak < MEMORY


def flate_bomb() -> bytes:
    """A page whose content unpacks to 1 GB."""
    packer = zlib.compressobj(9)
    stream = b"".join(packer.compress(b"(a) Tj " * 150_000) for _ in range(1000)) + packer.flush()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    return _pdf(objects)


def deep_pdf() -> bytes:
    """A catalogue nested a hundred thousand times, and pages that are their own parents."""
    nested = b"[" * 100_000 + b"]" * 100_000
    return _pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R /Names %s >>" % nested,
            b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 1000000000 /Parent 2 0 R >>",
        ]
    )


def _pdf(objects: list[bytes]) -> bytes:
    out = io.BytesIO(b"%PDF-1.7\n")
    out.seek(0, io.SEEK_END)
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start))
    return out.getvalue()


def zipped(parts: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def zip_bomb() -> bytes:
    return zipped({"../../word/document.xml": b"\0" * 50_000_000})


def word(body: bytes, **parts: bytes) -> bytes:
    golden = GOLDEN / "docx/manual"
    own = {
        str(path.relative_to(golden)): path.read_bytes()
        for path in golden.rglob("*")
        if path.suffix in {".xml", ".rels"}
    }
    return zipped({**own, "word/document.xml": body, **parts})


def lying_archive() -> bytes:
    """A document of 300 MB that says it has 1,000 bytes."""
    made = bytearray(zipped({"[Content_Types].xml": b"<x/>", "word/document.xml": b" " * 300_000_000}))
    entry = made.rindex(b"word/document.xml")
    made[entry - 22 : entry - 18] = (1000).to_bytes(4, "little")
    return bytes(made)


def deep_word() -> bytes:
    depth = 200_000
    return word(b'<w:document xmlns:w="%s"><w:body>' % WORD.encode() + b"<w:tbl><w:tr><w:tc>" * depth)


def laughing_word() -> bytes:
    """Ten entities, each ten times the one before."""
    entities = [b"<!ENTITY a0 'haha'>"]
    entities += [b"<!ENTITY a%d '%s'>" % (number, b"&a%d;" % (number - 1) * 10) for number in range(1, 11)]
    body = b"<w:body><w:p><w:r><w:t>&a10;</w:t></w:r></w:p></w:body>"
    return word(
        b'<!DOCTYPE x [%s]><w:document xmlns:w="%s">%s</w:document>' % (b"".join(entities), WORD.encode(), body)
    )


def reading_word() -> bytes:
    """XXE: a document that wants a file of ours in its text."""
    body = b"<w:body><w:p><w:r><w:t>&own;</w:t></w:r></w:p></w:body>"
    doctype = b"<!DOCTYPE x [<!ENTITY own SYSTEM 'file:///etc/passwd'>]>"
    return word(doctype + b'<w:document xmlns:w="%s">%s</w:document>' % (WORD.encode(), body))


def wide_sheet() -> bytes:
    """A sheet of two cells that are seventeen thousand million apart."""
    cells = b'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'
    golden = GOLDEN / "xlsx/parts"
    own = {str(path.relative_to(golden)): path.read_bytes() for path in golden.rglob("*.*") if path.is_file()}
    main = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    sheet = b'<worksheet xmlns="%s"><sheetData>%s</sheetData></worksheet>' % (main, cells)
    return zipped({**own, "xl/worksheets/sheet1.xml": sheet})


def nested_mail() -> bytes:
    """A mail in a mail in a mail."""
    return b"Content-Type: message/rfc822\n\n" * 20_000 + b"Subject: deep\n\nText"


def branching_mail() -> bytes:
    """Parts in parts in parts."""
    return b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (number, number) for number in range(5_000)
    )


ARCHIVES = [lying_archive, deep_word, laughing_word, reading_word, wide_sheet]
OTHERS = {"mail.eml": nested_mail, "parts.eml": branching_mail}
PAGES = {
    "deep": b"<div>" * 200_000 + b"deep",
    "tables": b"<table><tr><td>" * 50_000 + b"deep",
    "lists": b"<ul><li>" * 50_000 + b"deep",
    "unclosed": b"<svg>" * 200_000 + b"<!--" * 200_000,
    "attributes": b"<p " + b"a=1 " * 500_000 + b">x",
    "entities": b"<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><p>&a;&amp;" + b"&lt;" * 500_000,
    "cells": b"<table>" + b"<tr><td colspan=1000000 rowspan=1000000>x" * 1000,
}


@pytest.mark.parametrize("make", ARCHIVES, ids=lambda make: make.__name__)
def test_a_hostile_document_fails_or_is_read_soon(acme: Tenant, manuals: Collection, make: Callable[[], bytes]) -> None:
    name = "bomb.xlsx" if make is wide_sheet else "bomb.docx"
    assert_soon_over(acme, manuals, name, make())


@pytest.mark.parametrize("name", OTHERS)
def test_a_hostile_mail_fails_or_is_read_soon(acme: Tenant, manuals: Collection, name: str) -> None:
    assert_soon_over(acme, manuals, name, OTHERS[name]())


@pytest.mark.parametrize("name", PAGES)
def test_a_hostile_page_fails_or_is_read_soon(acme: Tenant, manuals: Collection, name: str) -> None:
    assert_soon_over(acme, manuals, f"{name}.html", PAGES[name])


def processor_seconds() -> float:
    """Ours, the children's and PostgreSQL's: on a busy machine a clock would tell of the others."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    total = sum(usage.ru_utime + usage.ru_stime for usage in used)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            total += sum(child.cpu_times()[:2])
    return total


def assert_soon_over(tenant: Tenant, collection: Collection, name: str, content: bytes) -> None:
    """Within the limits of processor time and memory, with nothing of our files in what was read."""
    before = processor_seconds()
    document, _ = add_document(tenant, collection, name=name, content=content)
    ingested(tenant, document)
    assert processor_seconds() - before < WITHIN
    if document.status == Document.Status.FAILED:
        assert document.failure_code in {"too_large", "parser", "empty"}
        assert document.failure_message.endswith(".")
    else:
        assert document.status == Document.Status.READY
        assert "root:" not in "".join(live_texts(document))


@pytest.mark.parametrize("bomb", [flate_bomb, deep_pdf])
def test_a_pdf_bomb_fails_while_its_neighbour_is_ingested(
    acme: Tenant, manuals: Collection, readers: Readers, bomb: Callable[[], bytes]
) -> None:
    hostile, _ = add_document(acme, manuals, name="bomb.pdf", content=bomb())
    neighbour, _ = add_document(acme, manuals, name="manual.md", content=manual(2))
    before = processor_seconds()
    with in_thread(lambda: ingested(acme, hostile)):
        ingested(acme, neighbour)
        assert neighbour.status == Document.Status.READY
    assert processor_seconds() - before < WITHIN
    hostile.refresh_from_db()
    assert hostile.status == Document.Status.FAILED
    assert hostile.failure_code in {"too_large", "parser", "empty"}
    assert hostile.failure_message.endswith(".")
    assert readers.peak, "no reader was seen"


@pytest.mark.parametrize("name", ["bomb.zip", "bomb.docx", "bomb.pdf", "bomb.md", "bomb.txt"])
def test_an_archive_is_not_unpacked(acme: Tenant, manuals: Collection, name: str) -> None:
    with pytest.raises(UnsupportedType):
        add_document(acme, manuals, name=name, content=zip_bomb())


@pytest.mark.parametrize(
    "text",
    [
        "> " * 50_000 + "deep",
        "- " * 20_000 + "deep",
        "#" * 100_000,
        "[" * 50_000 + "](" * 50_000,
        "| a " * 20_000 + "\n" + "|---" * 20_000,
        "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>&b;" * 1000,
        "```\n" * 50_000,
        "\u202e\u0300" * 100_000,
        "a" * 1_000_000,
    ],
    ids=["quotes", "lists", "headings", "links", "tables", "entities", "fences", "marks", "one word"],
)
def test_deep_text_ends(acme: Tenant, manuals: Collection, text: str) -> None:
    before = processor_seconds()
    try:
        document, _ = add_document(acme, manuals, name="deep.md", content=text.encode())
    except ParleyError:
        return  # refused at the door
    ingested(acme, document)
    assert document.status in {Document.Status.READY, Document.Status.FAILED}
    assert processor_seconds() - before < WITHIN
