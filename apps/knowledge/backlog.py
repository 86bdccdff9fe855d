"""How many documents of all tenants wait for what, and how long the oldest has."""

from __future__ import annotations

import datetime
from typing import NamedTuple

from django.db.models import Count, Min, Q

from apps.knowledge.models import Document
from apps.tenants.routing import OPERATOR


class Waiting(NamedTuple):
    """since: when the oldest was added that was never ready; None where all were. A new version of one that was has no
    moment of its own."""

    status: str
    documents: int
    since: datetime.datetime | None


def backlog() -> list[Waiting]:
    """One for each status that unfinished documents have. Read with the operators' login, in one statement that an
    index answers."""
    unfinished = Document.objects.using(OPERATOR).unfinished().order_by()
    counted = unfinished.values_list("status").annotate(
        documents=Count("pk"), since=Min("created", filter=Q(ready_at=None))
    )
    return [Waiting(*row) for row in counted]
