"""The application with more time for its stores: `python -m daphne tests.patient:application`.

On a busy machine PostgreSQL and Redis are not away because nobody let them work for a second. What happens where they
are away for too long the fault catalogue shows, on the application as it is.
"""

from __future__ import annotations

import os

SECONDS = 20.0
os.environ.setdefault("PARLEY_SQL_TIMEOUT_MS", "30000")

from django.conf import settings  # noqa: E402 - they are read by now

from config.asgi import application  # noqa: E402

__all__ = ["application"]

from apps.access import rates  # noqa: E402 - models need the application
from apps.conversations import journal  # noqa: E402
from apps.edge import bus, shared_state  # noqa: E402
from apps.ops import gathering  # noqa: E402
from apps.usage import meter  # noqa: E402

for module in (bus, gathering, journal, meter, rates, shared_state):
    module.SECONDS = SECONDS
for name in ("default", "operator"):
    settings.DATABASES[name]["OPTIONS"]["pool"]["timeout"] = SECONDS
settings.CACHES["default"]["OPTIONS"] |= {"SOCKET_CONNECT_TIMEOUT": SECONDS, "SOCKET_TIMEOUT": SECONDS}
