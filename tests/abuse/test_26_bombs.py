"""A file that is small to send and huge to read fails by itself, soon, while its neighbours are ingested."""

from __future__ import annotations

import io
import resource
import time
import zipfile
import zlib
from collections.abc import Callable

import pytest

from apps.knowledge.ingest import add_document
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from chatbot.errors import ParleyError, UnsupportedType
from chatbot.extraction import Limits
from tests.apps.knowledge.conftest import acme, embeddings, endpoint, manuals
from tests.apps.knowledge.ingesting import in_thread, ingested, manual

__all__ = ["acme", "embeddings", "endpoint", "manuals"]
WITHIN = 30.0  # seconds
# KiB, of the largest child: its limit, and what it takes between two looks at it.
MEMORY = Limits().memory_mb * 1024 * 5 // 4


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


def zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../word/document.xml", b"\0" * 50_000_000)
    return out.getvalue()


@pytest.mark.parametrize("bomb", [flate_bomb, deep_pdf])
def test_a_pdf_bomb_fails_while_its_neighbour_is_ingested(
    acme: Tenant, manuals: Collection, bomb: Callable[[], bytes]
) -> None:
    hostile, _ = add_document(acme, manuals, name="bomb.pdf", content=bomb())
    neighbour, _ = add_document(acme, manuals, name="manual.md", content=manual(2))
    started = time.monotonic()
    with in_thread(lambda: ingested(acme, hostile)):
        ingested(acme, neighbour)
        assert neighbour.status == Document.Status.READY
    assert time.monotonic() - started < WITHIN
    hostile.refresh_from_db()
    assert hostile.status == Document.Status.FAILED
    assert hostile.failure_code in {"too_large", "parser", "empty"}
    assert hostile.failure_message.endswith(".")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < MEMORY


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
    started = time.monotonic()
    try:
        document, _ = add_document(acme, manuals, name="deep.md", content=text.encode())
    except ParleyError:
        return  # refused at the door
    ingested(acme, document)
    assert document.status in {Document.Status.READY, Document.Status.FAILED}
    assert time.monotonic() - started < WITHIN
