"""From EMAIL_URL to Django's settings for sending mail."""

from __future__ import annotations

from typing import Any

import environ

from config.env import refuse, url

TIMEOUT = 10  # seconds that a mail server may take

_MEANING = (
    "The mail server: `smtp+tls://user:password@host:587` (STARTTLS), `smtp+ssl://user:password@host:465` (TLS), or"
    " `smtp://host:25` inside your network. Special characters in the password are percent-encoded. Without it no mail"
    " is sent, and a forgotten password is for an operator to mend."
)


def email(*, local: bool) -> dict[str, Any]:
    """Django's EMAIL_* settings, and PARLEY_MAIL: whether mail leaves at all."""
    value = url(
        "EMAIL_URL",
        _MEANING,
        schemes=("smtp+tls", "smtp+ssl", "smtp", "smtps", "consolemail", "filemail", "memorymail"),
        default="consolemail://" if local else "",
        says="none; mails are written to the log when `PARLEY_ENV` is `local`",
    )
    if not value:
        return {"EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend", "PARLEY_MAIL": False}
    config: dict[str, Any] = environ.Env.email_url_config(value)
    over_smtp = config["EMAIL_BACKEND"].endswith("smtp.EmailBackend")
    if over_smtp and not config["EMAIL_HOST"]:
        refuse("EMAIL_URL names no mail server. It must look like smtp+tls://user:password@host:587.")
    if options := sorted(config.pop("OPTIONS", {})):
        refuse(f"EMAIL_URL has an option that does not exist: {options[0].lower()}.")
    if config.get("EMAIL_USE_TLS") and config.get("EMAIL_USE_SSL"):
        refuse("EMAIL_URL asks for STARTTLS and for TLS from the start; a server speaks one of them on a port.")
    port = config["EMAIL_PORT"] or (465 if config.get("EMAIL_USE_SSL") else 587 if config.get("EMAIL_USE_TLS") else 25)
    return {**config, "EMAIL_PORT": port, "EMAIL_TIMEOUT": TIMEOUT, "PARLEY_MAIL": True}
