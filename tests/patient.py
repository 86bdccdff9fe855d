"""The application with more time for its stores (tests/patience.py): `python -m daphne tests.patient:application`."""

from __future__ import annotations

import os

os.environ.setdefault("PARLEY_SQL_TIMEOUT_MS", "30000")

from django.conf import settings

from config.asgi import application
from tests.patience import CACHE, SECONDS, STORES

__all__ = ["application"]

for module in STORES:
    module.SECONDS = SECONDS
for name in ("default", "operator"):
    settings.DATABASES[name]["OPTIONS"]["pool"]["timeout"] = SECONDS
settings.CACHES["default"]["OPTIONS"] |= CACHE
