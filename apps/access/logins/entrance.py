"""The ways in: the login page, its second step, and passkeys."""

from __future__ import annotations

from typing import Any

from allauth.account.internal.flows.login import perform_login, perform_password_login
from allauth.account.internal.stagekit import clear_login
from allauth.account.models import Login
from allauth.account.utils import get_next_redirect_url
from allauth.mfa.base.views import AuthenticateView
from allauth.mfa.webauthn.views import LoginWebAuthnView
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.forms import AuthenticationForm

from apps.access.logins import sso
from apps.access.logins.forms import CodeForm, PasskeyForm, PasskeyLoginForm
from apps.access.logins.frame import Framed, dress
from apps.access.logins.guesses import record_failure


class LogIn(Framed, LoginView):
    """E-mail and password. Unknown addresses, wrong passwords and closed accounts are told alike, and cost one hash."""

    authentication_form = AuthenticationForm
    template_name = "admin/ops/login.html"
    redirect_authenticated_user = True
    next_page = "admin:index"
    title = "Log in"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            clear_login(request)  # one that waited for its second step
        return super().get(request, *args, **kwargs)

    def form_valid(self, form: Any) -> HttpResponse:
        user = form.get_user()
        login = Login(user=user, redirect_url=self.get_success_url())
        response: HttpResponse = perform_password_login(self.request, {"email": user.email}, login)
        return response

    def form_invalid(self, form: Any) -> HttpResponse:
        record_failure(self.request, form.data.get("username", ""), "password")
        return super().form_invalid(form)

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        return super().get_context_data(
            app_path=self.request.get_full_path(), single_sign_on=sso.name(), passkeys=True, **context
        )


class SecondStep(Framed, AuthenticateView):
    form_class = CodeForm
    webauthn_form_class = PasskeyForm
    template_name = "admin/security/second_step.html"
    title = "Second factor"
    deed = "Log in"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().get_context_data(**context)
        kinds = set(self.stage.login.user.authenticator_set.values_list("type", flat=True))
        dress(self.auth_form)
        return {**found, "by_app": "totp" in kinds, "by_passkey": "webauthn" in kinds}


class PasskeyLogin(Framed, LoginWebAuthnView):
    """Without a password: the device has asked for its owner's PIN, finger or face."""

    form_class = PasskeyLoginForm

    def form_valid(self, form: Any) -> HttpResponse:
        authenticator = form.cleaned_data["credential"]
        login = Login(user=authenticator.user, redirect_url=get_next_redirect_url(self.request))
        form.save()
        response: HttpResponse = perform_login(self.request, login)
        return response

    def get_success_url(self) -> str:
        return reverse("admin:index")
