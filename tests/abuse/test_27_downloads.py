"""What was uploaded is handed back as a file to keep, never as a page of ours: HTML and SVG stay inert."""

from __future__ import annotations

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.urls import reverse

from apps.knowledge.ingest import add_document
from chatbot.errors import UnsupportedType
from tests import factories
from tests.apps.admin_world import logged_in, make_world

SCRIPT = b"<script>fetch('/admin/')</script>"
HOSTILE = {
    "page.html": b"<!doctype html><html>" + SCRIPT,
    "image.svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)">' + SCRIPT + b"</svg>",
    "page.txt": b"<!doctype html><html>" + SCRIPT,
    "page.md": SCRIPT,
    "data.xml": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
}

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("claimed", ["text/html", "image/svg+xml", "text/plain"])
def test_a_download_is_an_attachment(name: str, claimed: str) -> None:
    world = make_world()
    document = factories.make_document(
        tenant=world.acme,
        collection=factories.make_collection(tenant=world.acme),
        file_name=f'{name}"; x="\r\ny',
        media_type=claimed,
    )
    default_storage.save(document.stored, ContentFile(HOSTILE[name]))
    response = logged_in(world.bob).get(reverse("admin:knowledge_document_download", args=[document.pk]))
    assert response.status_code == 200
    assert response["Content-Disposition"].startswith("attachment;")
    assert response["Content-Security-Policy"].split(";")[0] == "sandbox"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert not {"x", "y"} & set(response.headers)
    assert b"".join(response.streaming_content) == HOSTILE[name]  # type: ignore[arg-type]


def test_a_page_that_was_taken_is_handed_back_as_a_file() -> None:
    world = make_world()
    collection = factories.make_collection(tenant=world.acme)
    document, _ = add_document(world.acme, collection, name="page.html", content=HOSTILE["page.html"])
    response = logged_in(world.bob).get(reverse("admin:knowledge_document_download", args=[document.pk]))
    assert response["Content-Disposition"] == 'attachment; filename="page.html"'
    assert response["Content-Security-Policy"].split(";")[0] == "sandbox"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert b"".join(response.streaming_content) == HOSTILE["page.html"]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["image.svg", "data.xml", "page.shtml", "page.mhtml", "x.exe", "x", "x.html.svg"])
def test_what_is_no_document_is_not_taken(name: str) -> None:
    world = make_world()
    with pytest.raises(UnsupportedType):
        add_document(
            world.acme,
            factories.make_collection(tenant=world.acme),
            name=name,
            content=HOSTILE.get(name, HOSTILE["page.html"]),
        )
