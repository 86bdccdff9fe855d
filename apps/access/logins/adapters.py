"""What allauth asks of us: who may pass, how a second factor's secrets are stored, what is told when somebody is in."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.internal.stagekit import clear_login
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from apps.access.logins import record
from apps.edge import encryption
from apps.tenants import audit

NOT_IN = "You could not be logged in."


class AccountAdapter(DefaultAccountAdapter):
    def get_client_ip(self, request: HttpRequest) -> str:
        return audit.address_of(request) or "0.0.0.0"  # noqa: S104 - a server on a Unix socket knows none

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def is_safe_url(self, url: str) -> bool:
        """Where a login may lead to: pages of ours alone."""
        return bool(url) and url.startswith("/") and super().is_safe_url(url)

    def get_login_stages(self) -> list[str]:
        return ["allauth.mfa.stages.AuthenticateStage"]

    def pre_login(self, request: HttpRequest, user: Any, **about: Any) -> HttpResponse | None:
        """Whatever they came in with, password, passkey or single sign-on."""
        if user.is_active and user.is_staff:
            return None
        clear_login(request)
        messages.error(request, NOT_IN)
        return HttpResponseRedirect(reverse("account_login"))

    def post_login(self, request: HttpRequest, user: Any, **about: Any) -> HttpResponse:
        record.login_succeeded(request, user)
        response: HttpResponse = super().post_login(request, user, **about)
        return response

    def add_message(self, request: HttpRequest, level: int, *args: Any, **kwargs: Any) -> None:
        """Our pages say what happened themselves; allauth's sentences are for errors."""
        if level >= messages.ERROR:
            super().add_message(request, level, *args, **kwargs)

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """The audit log tells; allauth would talk to the mail server within the request."""

    def is_reauthentication_required(self, *, app: str, **about: Any) -> bool:
        """A change to second factors asks anew who it is, unless that was shown a moment ago."""
        request = context.request
        shown = [entry["at"] for entry in get_authentication_records(request, request.user)]
        return not shown or time.time() - max(shown) > settings.ACCOUNT_REAUTHENTICATION_TIMEOUT


class SecondFactorAdapter(DefaultMFAAdapter):
    def encrypt(self, text: str) -> str:
        return encryption.encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return encryption.decrypt(encrypted_text)

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """Passkeys belong to the host that people reach Parley by, and to no other name that it answers to."""
        return {"id": urlsplit(settings.PARLEY_BASE_URL).hostname or "", "name": "Parley"}

    def generate_authenticator_name(self, user: Any, type: Any) -> str:  # noqa: A002 - allauth's name
        return "Passkey"
