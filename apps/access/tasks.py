"""What workers do for people: sending mail, and writing down what no request may take the time for."""

from __future__ import annotations

import datetime

from axes.models import AccessAttempt
from celery import shared_task
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone

from apps.access import idempotency, invitations, passwords
from apps.access.logins import record


@shared_task(
    name="access.mail_new_password", autoretry_for=(OSError,), retry_backoff=5, max_retries=4, ignore_result=True
)
def mail_new_password(email: str) -> None:
    passwords.mail_new_password(email)


@shared_task(
    name="access.mail_invitation", autoretry_for=(OSError,), retry_backoff=5, max_retries=4, ignore_result=True
)
def mail_invitation(tenant_id: str, invitation_id: str, sealed: str) -> None:
    """sealed: the link's token, encrypted with the keyring."""
    invitations.mail_invitation(tenant_id, invitation_id, sealed)


@shared_task(name="access.prune_idempotency_keys")
def prune_idempotency_keys() -> int:
    return idempotency.prune()


@shared_task(name="access.prune_sessions")
def prune_sessions() -> None:
    SessionStore.clear_expired()


@shared_task(name="access.prune_failed_logins")
def prune_failed_logins() -> None:
    """Those that keep nobody out any more."""
    AccessAttempt.objects.filter(
        attempt_time__lt=timezone.now() - datetime.timedelta(hours=settings.AXES_COOLOFF_TIME)
    ).delete()


@shared_task(name="access.record_failed_login", ignore_result=True)
def record_failed_login(email: str, address: str, way: str) -> None:
    record.login_failed(email, address, way)
