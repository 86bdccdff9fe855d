"""From PARLEY_OIDC_* to the single sign-on, and what allauth is told about logins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.env import flag, hosts, names, refuse, section, text, url

_SECRET = "PARLEY_OIDC_CLIENT_SECRET"  # noqa: S105 - the variable's name

# Everything that allauth could do and we do not want stays out by having no address (apps/access/urls.py).
ALLAUTH: dict[str, Any] = {
    "ACCOUNT_ADAPTER": "apps.access.logins.adapters.AccountAdapter",
    "ACCOUNT_LOGIN_METHODS": {"email"},
    "ACCOUNT_SIGNUP_FIELDS": ["email*"],
    "ACCOUNT_USER_MODEL_USERNAME_FIELD": None,
    "ACCOUNT_EMAIL_VERIFICATION": "none",
    "ACCOUNT_RATE_LIMITS": False,  # apps/access/logins/guesses.py counts
    "MFA_ADAPTER": "apps.access.logins.adapters.SecondFactorAdapter",
    "MFA_RATE_LIMITS": False,
    "MFA_SUPPORTED_TYPES": ["totp", "webauthn", "recovery_codes"],
    "MFA_PASSKEY_LOGIN_ENABLED": True,
    "MFA_ALLOW_UNVERIFIED_EMAIL": True,
    "MFA_RECOVERY_CODES_SHOW_ONCE": True,
    "MFA_TOTP_ISSUER": "Parley",
    "MFA_TOTP_TOLERANCE": 1,  # a phone's clock may be half a minute off
    "SOCIALACCOUNT_ADAPTER": "apps.access.logins.sso.SingleSignOnAdapter",
    "SOCIALACCOUNT_EMAIL_AUTHENTICATION": True,
    "SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT": True,
    "SOCIALACCOUNT_STORE_TOKENS": False,
}


@dataclass(frozen=True, slots=True)
class SingleSignOn:
    """The one OpenID Connect provider; none where `issuer` is empty."""

    issuer: str
    client_id: str
    secret: str
    name: str
    domains: tuple[str, ...]
    sign_up: bool
    hosts: tuple[str, ...]


def single_sign_on(*, local: bool) -> SingleSignOn:
    """The PARLEY_OIDC_* settings."""
    section(
        "Single sign-on",
        "People may log in with an account of one OpenID Connect provider. Its callback address is\n"
        "`https://<your host>/admin/login/sso/callback/` ([Logins](logins.md)).",
    )
    found = SingleSignOn(
        issuer=url(
            "PARLEY_OIDC_ISSUER",
            "The provider's issuer, exactly as it calls itself: `https://login.example.com/realms/main`.",
            schemes=("https", "http") if local else ("https",),
            default="",
        ),
        client_id=text("PARLEY_OIDC_CLIENT_ID", "", "What the provider calls Parley."),
        secret=_secret(),
        name=text("PARLEY_OIDC_NAME", "single sign-on", "What the login page calls the provider."),
        domains=tuple(
            names(
                "PARLEY_OIDC_DOMAINS",
                [],
                "Domains of e-mail addresses that are let in, separated by commas.",
                says="all that the provider vouches for",
            )
        ),
        sign_up=flag(
            "PARLEY_OIDC_SIGN_UP",
            False,
            "Make an account for whoever the provider vouches for. Without it people need an account or an invitation.",
        ),
        hosts=tuple(
            hosts(
                "PARLEY_OIDC_HOSTS",
                [],
                "Further hosts that the provider's own addresses lie on, separated by commas; for Google"
                " `oauth2.googleapis.com,www.googleapis.com,openidconnect.googleapis.com`.",
            )
        ),
    )
    if found.issuer and not (found.client_id and found.secret):
        refuse(f"PARLEY_OIDC_ISSUER is set, but PARLEY_OIDC_CLIENT_ID or {_SECRET} is not.")
    return found


def _secret() -> str:
    value = text(_SECRET, "", "What Parley proves itself with to the provider.")
    file = text(f"{_SECRET}_FILE", "", f"A file with the same, which then goes before `{_SECRET}`.")
    if not file:
        return value
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{_SECRET}_FILE names a file that cannot be read ({error}).")
