"""The API as a client with a key asks it."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apps.tenants.models import Tenant
from tests.factories import make_key

GUIDE = b"# Pump guide\n\nClose the valve, then replace the rubber seal."


def client_of(tenant: Tenant) -> Client:
    return Client(headers={"Authorization": f"Bearer {make_key(tenant=tenant)}"})


def upload(client: Client, content: bytes = GUIDE, name: str = "guide.md", **fields: str) -> Any:
    form = {"collection": "manuals", "file": SimpleUploadedFile(name, content), **fields}
    return client.post("/api/v1/documents", form)


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(f"/api/v1/{path}", body, content_type="application/json")


def refused(response: Any, status: int, *fields: str) -> dict[str, Any]:
    """The body of a refusal that has the one shape of errors and names just these fields."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, sorted(body.get("fields", {}))) == (status, sorted(fields)), body
    assert body["code"]
    assert body["message"]
    return body


def stored_files() -> list[Any]:
    return [path for path in django_settings.MEDIA_ROOT.rglob("*") if path.is_file()]
