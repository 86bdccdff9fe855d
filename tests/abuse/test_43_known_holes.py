"""The build refuses versions with holes that were used against others: Django, Celery and pgvector."""

from __future__ import annotations

import re

import celery
import django
import pytest
from django.db import connection
from packaging.version import Version

from tests.environment import ROOT

LEAST = {"django": Version("5.2.14"), "celery": Version("5.2.2")}  # CVE-2025-14550 and later; CVE-2021-23727
LEAST_PGVECTOR = Version("0.8.2")


@pytest.mark.parametrize("package", LEAST)
def test_locked_packages(package: str) -> None:
    pinned = re.search(rf"^{package}==(\S+)", (ROOT / "requirements" / "base.txt").read_text(), re.MULTILINE)
    assert pinned
    assert Version(pinned[1]) >= LEAST[package]
    installed = {"django": django.__version__, "celery": celery.__version__}
    assert Version(installed[package]) >= LEAST[package]


def test_every_requirement_is_locked_by_hash() -> None:
    for name in ("base", "local", "dev"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        pins = re.findall(r"^[a-z0-9][\w.\[\],-]*==\S+ ?(\\?)$", text, re.MULTILINE | re.IGNORECASE)
        assert pins
        assert all(pins), f"{name}.txt has a pin without a hash"


@pytest.mark.django_db
def test_pgvector() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        (version,) = cursor.fetchone()
    assert Version(version) >= LEAST_PGVECTOR
