"""Widgets of the cast, and a bundle that stands in for the built one where its bytes do not matter."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest

from apps.assistants.models import Assistant
from apps.tenants.scoping import platform_unit
from apps.widget import bundle
from apps.widget.models import Widget

SECRET = "the shop's secret, which signs who its customers are"
OWN = "http://127.0.0.1:8000"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


def dress(assistant: Assistant, **fields: Any) -> Widget:
    widget, _ = Widget.objects.update_or_create(tenant=assistant.tenant, assistant=assistant, defaults=fields)
    return widget


async def dressed(assistant: Assistant, **fields: Any) -> Widget:
    return await platform_unit(lambda: dress(assistant, **fields))


def identity(subject: Any = "customer-17", *, secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    said = {"sub": subject, "exp": int(time.time()) + 300, **claims}
    return jwt.encode({name: value for name, value in said.items() if value is not None}, secret, algorithm)


def build(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader and an app as Vite leaves them."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "loader.js").write_text("/* the loader */")
    (directory / "app-abc123.js").write_text("/* the app */")
    manifest = {"app": {"file": "app-abc123.js", "integrity": "sha384-" + "A" * 64}}
    (directory / "manifest.json").write_bytes(orjson.dumps(manifest))
    monkeypatch.setattr(bundle, "DIRECTORY", directory)
