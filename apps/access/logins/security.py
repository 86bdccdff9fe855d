"""What people do for the safety of their own account: second factors, passkeys, recovery codes, sessions."""

from __future__ import annotations

import ipaddress
from typing import Any, cast
from urllib.parse import urlsplit

from allauth.account.internal.flows.login import record_authentication
from allauth.account.utils import get_next_redirect_url
from allauth.account.views import ReauthenticateView as PasswordView
from allauth.mfa.base.views import ReauthenticateView
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.views import GenerateRecoveryCodesView, ViewRecoveryCodesView
from allauth.mfa.totp.internal import flows as totp
from allauth.mfa.totp.views import ActivateTOTPView, DeactivateTOTPView
from allauth.mfa.webauthn.internal import auth as webauthn
from allauth.mfa.webauthn.views import AddWebAuthnView, ReauthenticateWebAuthnView, RemoveWebAuthnView
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse, reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from django.views.generic import TemplateView

from apps.access.logins import record
from apps.access.logins.forms import PENDING, NewAppForm, NewPasskeyForm, ShowCodeForm, ShowPasskeyForm
from apps.access.logins.frame import Framed
from apps.access.logins.second_factor import is_required_of
from apps.tenants import audit, taking_back
from apps.tenants.models import User

AFTERWARDS = "second_factor.next"


def can_have_passkeys() -> bool:
    """Browsers make none for a bare address, nor without TLS, but on localhost."""
    place = urlsplit(settings.PARLEY_BASE_URL)
    host = place.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return place.scheme == "https" or host == "localhost" or host.endswith(".localhost")
    return False


@never_cache
def security(request: HttpRequest) -> HttpResponse:
    """The page that the user menu leads to."""
    user = cast("User", request.user)
    factors = list(Authenticator.objects.filter(user=user).order_by("created_at"))
    codes = next((one for one in factors if one.type == Authenticator.Type.RECOVERY_CODES), None)
    context = {
        **admin.site.each_context(request),
        "title": "Security",
        "app": next((one for one in factors if one.type == Authenticator.Type.TOTP), None),
        "keys": [one for one in factors if one.type == Authenticator.Type.WEBAUTHN],
        "codes_left": len(codes.wrap().get_unused_codes()) if codes else None,
        "required": is_required_of(user),
        "can_have_passkeys": can_have_passkeys(),
        "sessions": UserSession.objects.purge_and_list(user),
        "this_session": request.session.session_key,
        "single_sign_on": SocialAccount.objects.filter(user=user).exists(),
    }
    return TemplateResponse(request, "admin/security/security.html", context)


@require_POST
def sign_out_elsewhere(request: HttpRequest) -> HttpResponse:
    """End every session of this user but the one that asks."""
    user = cast("User", request.user)
    taking_back.sign_out_everywhere(user, audit.actor_of(request))
    update_session_auth_hash(request, user)
    UserSession.objects.create_from_request(request)  # the session has a new key
    record.sessions_ended(request, user)
    messages.success(request, "You are logged out everywhere else.")
    return HttpResponseRedirect(reverse("mfa_index"))


def end_sessions(user: User) -> None:
    User.objects.filter(pk=user.pk).update(session_epoch=F("session_epoch") + 1)


# --- Setting up -------------------------------------------------------------------------------------------------------


@method_decorator(login_required, name="dispatch")
class SetUp(Framed, TemplateView):
    """Where whoever needs a second factor and has none is led to."""

    template_name = "admin/security/set_up.html"
    title = "Protect your account"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if wanted := get_next_redirect_url(request):
            request.session[AFTERWARDS] = wanted
        return super().get(request, *args, **kwargs)

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        return super().get_context_data(can_have_passkeys=can_have_passkeys(), **context)


def _added(request: HttpRequest, authenticator: Authenticator) -> None:
    """It was shown to work just now, so this session has shown a second factor."""
    record_authentication(request, cast("User", request.user), "mfa", id=authenticator.pk, type=authenticator.type)
    record.second_factor(request, "second_factor.added", authenticator.type)


class AddApp(Framed, ActivateTOTPView):
    form_class = NewAppForm
    template_name = "admin/security/add_app.html"
    title = "Authenticator app"
    deed = "Switch it on"

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            authenticator, codes = totp.activate_totp(self.request, form)
            _added(self.request, authenticator)
        self.request.session.pop(PENDING, None)
        return HttpResponseRedirect(reverse("mfa_view_recovery_codes" if codes else "mfa_index"))


class RemoveApp(Framed, DeactivateTOTPView):
    template_name = "admin/security/remove.html"
    title = "Remove the authenticator app?"
    deed = "Remove it"

    def form_valid(self, form: Any) -> HttpResponse:
        response: HttpResponse = super().form_valid(form)
        record.second_factor(self.request, "second_factor.removed", Authenticator.Type.TOTP)
        return response


class AddPasskey(Framed, AddWebAuthnView):
    form_class = NewPasskeyForm
    template_name = "admin/security/add_passkey.html"
    title = "New passkey"
    deed = "Make a passkey"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        found = super().get_context_data(**context)
        options = webauthn.begin_registration(cast("User", self.request.user), passwordless=True)
        return {**found, "js_data": {"creation_options": options}}

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            response: HttpResponse = super().form_valid(form)
            mine = Authenticator.objects.filter(user=self.request.user, type=Authenticator.Type.WEBAUTHN)
            _added(self.request, mine.latest("pk"))
        return response


class RemovePasskey(Framed, RemoveWebAuthnView):
    template_name = "admin/security/remove.html"
    title = "Remove this passkey?"
    deed = "Remove it"
    success_url = reverse_lazy("mfa_index")

    def form_valid(self, form: Any) -> HttpResponse:
        response: HttpResponse = super().form_valid(form)
        record.second_factor(self.request, "second_factor.removed", Authenticator.Type.WEBAUTHN)
        return response


class MakeCodes(Framed, GenerateRecoveryCodesView):
    template_name = "admin/security/make_codes.html"
    title = "New recovery codes"
    deed = "Make new codes"

    def form_valid(self, form: Any) -> HttpResponse:
        response: HttpResponse = super().form_valid(form)
        record.second_factor(self.request, "second_factor.recovery_codes_made", "recovery_codes")
        return response


class Codes(Framed, ViewRecoveryCodesView):
    """Shown once, after they were made."""

    template_name = "admin/security/codes.html"
    title = "Recovery codes"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        afterwards = self.request.session.pop(AFTERWARDS, reverse("mfa_index"))
        return super().get_context_data(afterwards=afterwards, **context)


# --- Showing who it is, once more -------------------------------------------------------------------------------------


class _Again(Framed):
    """Afterwards it goes on with what was wanted."""

    title = "Is it you?"
    deed = "Continue"
    template_name = "admin/security/again.html"


@method_decorator(login_required, name="dispatch")
class AgainByPassword(_Again, PasswordView):  # type: ignore[misc]
    pass


class AgainByCode(_Again, ReauthenticateView):  # type: ignore[misc]
    form_class = ShowCodeForm


class AgainByPasskey(_Again, ReauthenticateWebAuthnView):  # type: ignore[misc]
    form_class = ShowPasskeyForm
