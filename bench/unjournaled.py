"""The product without its journal, whose cost is the difference. Nothing else is changed, and nobody serves this."""

# ruff: noqa: E402 - the journal is switched off before the application is there.

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup(set_prefix=False)

from apps.conversations.journal import Journal, Kept


def keep(_: Journal, kept: Kept) -> None:
    kept.accepted.set()


Journal.keep = keep  # type: ignore[method-assign]

from config.asgi import application

__all__ = ["application"]
