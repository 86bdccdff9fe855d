"""No name that a client chose reaches the file system: not of a file, nor of a title, a collection or a tenant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apps.inference.models import Endpoint
from apps.knowledge import storage as documents
from apps.knowledge.models import Document
from apps.tenants.models import Tenant
from tests import factories

NAMES = [
    "../../../etc/cron.d/own.md",
    "/etc/passwd.md",
    "..\\..\\windows\\own.md",
    "C:\\own.md",
    "own\0.md",
    "own\r\nX-Header: yes.md",
    "\u202egpj.md",
    "....//....//own.md",
    "a" * 5000 + ".md",
    "%2e%2e%2fown.md",
    "file:///etc/passwd.md",
    "~root/own.md",
    "|id;.md",
    ".md",
    " .md",
]


@pytest.fixture
def acme(database: None) -> Tenant:
    tenant = factories.make_tenant("acme")
    index = factories.make_index(tenant=tenant, endpoint=factories.make_endpoint(kind=Endpoint.Kind.EMBEDDING))
    factories.make_collection(tenant=tenant, index=index, slug="manuals")
    return tenant


def stored() -> set[str]:
    root = Path(django_settings.MEDIA_ROOT)
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_only_words(acme: Tenant, name: str, tmp_path: Path) -> None:
    client = Client(headers={"Authorization": f"Bearer {factories.make_key(tenant=acme)}"})
    before = {path for path in tmp_path.rglob("*") if "media" not in path.parts}
    form: dict[str, Any] = {"collection": "manuals", "file": _named(name), "title": ""}
    response = client.post("/api/v1/documents", form)
    assert response.status_code in {202, 400, 415}, response.content
    if response.status_code == 202:
        document = Document.objects.for_tenant(acme).get()
        assert stored() == {document.stored}
        assert re.fullmatch(rf"documents/{acme.pk}/[0-9a-f]{{64}}\.[0-9a-f]{{8}}", document.stored)
        assert not re.search(r"[/\\\0\r\n]", document.file_name)
        assert len(document.file_name) <= documents.NAME_CHARS
        assert document.title
    else:
        assert not stored()
    assert {path for path in tmp_path.rglob("*") if "media" not in path.parts} == before


def _named(name: str) -> SimpleUploadedFile:
    file = SimpleUploadedFile("x.md", b"# Heading\n\nText.")
    file._name = name  # what its setter would clean, a client sends as it likes
    return file
