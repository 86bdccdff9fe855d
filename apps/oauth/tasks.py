"""Celery's door to the OAuth2 server: what has expired."""

from __future__ import annotations

from celery import shared_task

from apps.oauth import pruning


@shared_task(name="oauth.prune_tokens")
def prune_tokens() -> int:
    return pruning.prune()
