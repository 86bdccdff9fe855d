"""Counts guesses: by address for all who come in, by account for passwords and codes."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from axes.handlers.proxy import AxesProxyHandler
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from apps.access.rates import Rate, network_of, take
from apps.edge import broker
from apps.edge.errors import ServiceUnavailable
from apps.tenants import audit
from apps.tenants.models import User
from chatbot.errors import RateLimited

# An office behind one address logs in in the morning; a program that guesses is held to one try in two seconds.
OF_ADDRESS = Rate(burst=30, every=2.0)
# From all addresses together, right codes included: 960 of a million in a day.
CODES_OF_USER = Rate(burst=10, every=90.0)
LATER = "Too many attempts. Try again in a few minutes."
AWAY = "This cannot be checked at the moment. Try again in a few minutes."
_RECORD_WITHIN = 3600.0  # seconds


def refuse_flood(request: HttpRequest) -> None:
    """Raises RateLimited where too many attempts come from one address, and ServiceUnavailable where nobody can count
    them; this one counts."""
    async_to_sync(take)(OF_ADDRESS, "login", network_of(audit.address_of(request)))


def refuse_guessing(request: HttpRequest, user: User) -> None:
    """Raises ValidationError where codes of this account are being guessed, or its password is."""
    if AxesProxyHandler.is_locked(request, {"username": user.email}):
        raise ValidationError(LATER, code="guessing")
    try:
        async_to_sync(take)(CODES_OF_USER, "code", str(user.pk))
    except RateLimited as error:
        raise ValidationError(LATER, code="guessing") from error
    except ServiceUnavailable as error:  # nobody counts, so nobody guesses
        raise ValidationError(AWAY) from error


def count_wrong_code(request: HttpRequest, user: User) -> None:
    """It counts like a wrong password, so that both together lock."""
    user_login_failed.send(sender=__name__, credentials={"username": user.email}, request=request)
    record_failure(request, user.email, "code")


def record_failure(request: HttpRequest, email: Any, way: str) -> None:
    """Let a worker write it into the audit log: finding whose it is would take longer where there is an account."""
    broker.send("access.record_failed_login", str(email)[:254], audit.address_of(request), way, expires=_RECORD_WITHIN)
