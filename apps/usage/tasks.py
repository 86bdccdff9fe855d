"""Celery's door to usage: the ledger is added up day by day."""

from __future__ import annotations

from celery import shared_task

from apps.usage import rollups


@shared_task(name="usage.roll_up")
def roll_up() -> int:
    return rollups.roll_up()
