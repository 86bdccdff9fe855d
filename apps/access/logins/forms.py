"""Forms of allauth's that show a second factor, made to count guesses and to survive whatever is sent to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allauth.core import context
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base import forms as codes
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.totp.internal.auth import generate_totp_secret
from allauth.mfa.webauthn import forms as passkeys
from cryptography.exceptions import UnsupportedAlgorithm
from django import forms
from django.core.exceptions import ValidationError
from django_redis.exceptions import ConnectionInterrupted

from apps.access.logins.guesses import AWAY, count_wrong_code, refuse_guessing
from apps.edge import encryption

PENDING = "second_factor.secret"


def _guarded(user: Any, clean: Callable[[], Any]) -> Any:
    """What `clean` returns, with its failures counted. Raises ValidationError."""
    refuse_guessing(context.request, user)
    try:
        return clean()
    except ValidationError:
        count_wrong_code(context.request, user)
        raise
    except ConnectionInterrupted as error:  # that a code was used before is remembered in the cache
        raise ValidationError(AWAY) from error


def _code(**more: Any) -> forms.CharField:
    attributes = {"autocomplete": "one-time-code", "autofocus": "", "inputmode": "numeric"}
    return forms.CharField(label="Code", max_length=20, widget=forms.TextInput(attrs=attributes), **more)


class CodeForm(codes.AuthenticateForm):
    code = _code(help_text="From your authenticator app, or one of your recovery codes.")

    def clean_code(self) -> Any:
        return _guarded(self.user, super().clean_code)


class ShowCodeForm(codes.ReauthenticateForm):
    code = _code(help_text="From your authenticator app, or one of your recovery codes.")

    def clean_code(self) -> Any:
        return _guarded(self.user, super().clean_code)


class NewAppForm(ActivateTOTPForm):
    """The secret waits in the session for its first code, encrypted: sessions are rows."""

    code = _code(help_text="The six digits that the app shows now.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.user = kwargs.pop("user")
        forms.Form.__init__(self, *args, **kwargs)
        session = context.request.session
        if not self.is_bound or PENDING not in session:
            session[PENDING] = encryption.encrypt(generate_totp_secret())
        self.secret = encryption.decrypt(session[PENDING])

    def clean_code(self) -> Any:
        return _guarded(self.user, super().clean_code)


def _parsed(clean: Callable[[], Any]) -> Any:
    """A browser sends JSON of a known form; others send anything. Raises ValidationError."""
    try:
        return clean()
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, UnsupportedAlgorithm) as error:
        raise get_adapter().validation_error("incorrect_code") from error


class CredentialField(forms.JSONField):
    widget = forms.HiddenInput

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except RecursionError as error:
            raise get_adapter().validation_error("incorrect_code") from error

    def bound_data(self, data: Any, initial: Any) -> Any:
        return initial  # used up


class PasskeyForm(passkeys.AuthenticateWebAuthnForm):
    credential = CredentialField()

    def clean_credential(self) -> Any:
        return _parsed(super().clean_credential)


class PasskeyLoginForm(passkeys.LoginWebAuthnForm):
    credential = CredentialField()

    def clean_credential(self) -> Any:
        return _parsed(super().clean_credential)


class ShowPasskeyForm(passkeys.ReauthenticateWebAuthnForm):
    credential = CredentialField()

    def clean_credential(self) -> Any:
        return _parsed(super().clean_credential)


class NewPasskeyForm(passkeys.AddWebAuthnForm):
    """Every key that we register can log in by itself: it asks for the device's PIN, finger or face."""

    name = forms.CharField(label="Name", max_length=60, required=False, help_text="Where this passkey is kept.")
    credential = CredentialField()
    passwordless = forms.BooleanField(initial=True, required=False, widget=forms.HiddenInput)

    def clean(self) -> Any:
        return _parsed(super().clean)
