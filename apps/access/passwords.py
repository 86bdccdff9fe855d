"""A forgotten password: a link by e-mail sets a new one, once, for a while. Who has an account is never told."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from axes.utils import reset
from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import forms as auth_forms
from django.contrib.auth import views
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import send_mail
from django.http import HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse, reverse_lazy
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.views.generic.edit import FormView
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminPasswordWidget

from apps.access.authentication import address_of
from apps.access.logins import proof
from apps.access.rates import Rate, network_of, take
from apps.edge import broker
from apps.edge.errors import ServiceUnavailable
from apps.tenants.models import User
from chatbot.errors import RateLimited

# At once, and then twenty and three an hour.
REQUESTS_OF_CLIENT = Rate(burst=20, every=180.0)
MAILS_TO_ADDRESS = Rate(burst=3, every=1200.0)
WAITS = 600.0  # seconds that a request may wait for a worker: whoever asked is gone after that


AWAY = "This cannot be done at the moment. Try again in a few minutes."


class TryLater(Exception):
    """The request cannot be taken now. Its text is for the person who made it; the page has this status."""

    def __init__(self, text: str, *, status: int = 200) -> None:
        super().__init__(text)
        self.status = status


def request_mail(email: str, *, client: str) -> None:
    """Let a worker send the mail, if there is anybody to send it to: looking here would take longer where there is.

    client: the address that the request came from. Raises TryLater.
    """
    if not settings.PARLEY_MAIL:
        raise TryLater("This Parley sends no e-mail. An operator can set a new password for you under Users.")
    try:
        async_to_sync(take)(REQUESTS_OF_CLIENT, "reset", network_of(client))
    except RateLimited as error:
        raise TryLater("Too many requests came from your address. Try again in an hour.", status=429) from error
    except ServiceUnavailable as error:
        raise TryLater(AWAY, status=503) from error
    try:
        async_to_sync(take)(MAILS_TO_ADDRESS, "reset-mail", _folded(email))
    except RateLimited:
        return  # told, it would say who is being asked for
    except ServiceUnavailable as error:
        raise TryLater(AWAY, status=503) from error
    if not broker.send("access.mail_new_password", email, expires=WAITS):
        raise TryLater(AWAY, status=503)


def _folded(email: str) -> str:
    """The same for all spellings that mail_new_password() finds one user by: PostgreSQL compares in capitals, where ſ
    and ı are S and I."""
    return email.strip().upper()


def mail_new_password(email: str) -> None:
    """Send the link to the active user of that address who has a password. Raises OSError where no mail leaves."""
    user = User.objects.filter(email__iexact=email.strip(), is_active=True, is_staff=True).first()
    if user is None or not user.has_usable_password():
        return
    place = {"uidb64": urlsafe_base64_encode(force_bytes(user.pk)), "token": default_token_generator.make_token(user)}
    # Never the Host header's word: whoever asks could have the link lead to a place of theirs.
    link = f"{settings.PARLEY_BASE_URL}{reverse('password_reset_confirm', kwargs=place)}"
    text = render_to_string("admin/password/mail.txt", {"link": link, "minutes": settings.PASSWORD_RESET_TIMEOUT // 60})
    send_mail("Set a new password for Parley", text, None, [user.email])


# --- Pages ------------------------------------------------------------------------------------------------------------


class ForgottenForm(forms.Form):
    email = forms.EmailField(
        label="E-mail",
        max_length=254,
        widget=UnfoldAdminEmailInputWidget(attrs={"autocomplete": "email", "autofocus": ""}),
    )


class NewPasswordForm(auth_forms.SetPasswordForm):  # type: ignore[type-arg]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})


class Framed:
    """What the admin's pages show around their content."""

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        request = self.request  # type: ignore[attr-defined]
        framed = super().get_context_data(**context)  # type: ignore[misc]
        return {**admin.site.each_context(request), **framed, "mail": settings.PARLEY_MAIL}


class Forgotten(Framed, views.PasswordContextMixin, FormView):  # type: ignore[type-arg]
    form_class = ForgottenForm
    template_name = "admin/password/forgotten.html"
    title = "Forgotten password"
    success_url = reverse_lazy("password_reset_done")

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            request_mail(form.cleaned_data["email"], client=address_of(self.request))
        except TryLater as later:
            form.add_error(None, str(later))
            response = self.form_invalid(form)
            response.status_code = later.status
            return response
        return super().form_valid(form)


class Sent(Framed, views.PasswordResetDoneView):
    template_name = "admin/password/sent.html"
    title = "Look into your mailbox"


class Choose(Framed, views.PasswordResetConfirmView):
    form_class = NewPasswordForm
    template_name = "admin/password/choose.html"

    def get_user(self, uidb64: str) -> Any:
        user = super().get_user(uidb64)
        return user if user and user.is_active else None

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        proof.prove(form.user, keep_password=True)
        reset(username=form.user.email)  # wrong guesses at the old password lock nobody out of the new one
        return response


class Chosen(Framed, views.PasswordResetCompleteView):
    template_name = "admin/password/chosen.html"
    title = "Your password is set"
