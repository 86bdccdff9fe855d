"""The broker's queues. A worker for each keeps what is in one from waiting behind another."""

from __future__ import annotations

from typing import Final

DOCUMENTS: Final = "documents"
LARGE_DOCUMENTS: Final = "large-documents"
# Everything else: webhooks, sweeps, what is to be forgotten. It is Celery's own default, also of releases that knew no
# other: while one release replaces the other, each takes up what the other sends there.
REST: Final = "celery"
QUEUES: Final = (DOCUMENTS, LARGE_DOCUMENTS, REST)
