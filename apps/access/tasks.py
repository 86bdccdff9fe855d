"""What workers do for people: sending mail."""

from __future__ import annotations

from celery import shared_task

from apps.access import passwords


@shared_task(
    name="access.mail_new_password", autoretry_for=(OSError,), retry_backoff=5, max_retries=4, ignore_result=True
)
def mail_new_password(email: str) -> None:
    passwords.mail_new_password(email)
