"""From PARLEY_OPERATOR_WEBHOOK_* to the address that is told what happens to the platform."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlsplit

from config.env import refuse, text, url

_URL = "PARLEY_OPERATOR_WEBHOOK_URL"
_SECRET = "PARLEY_OPERATOR_WEBHOOK_SECRET"  # noqa: S105 - the variable's name
_PREFIX = "whsec_"
_LEAST = 24  # bytes, as Standard Webhooks asks


def webhook() -> tuple[str, str]:
    """Address and secret, both empty where nobody is to be told. What is wrong is told without repeating either: the
    address may hold a token of the receiver's."""
    address = url(
        _URL,
        "Where to tell what happens to model servers (inference.md) and which limits are reached (limits.md), signed"
        " like any webhook; it may be in your own network.",
        schemes=("https", "http"),
        default="",
    )
    secret = text(
        _SECRET, "", f"What signs it, required with `{_URL}`: `{_PREFIX}` and 24 random bytes or more in base64."
    )
    if not address:
        return "", ""
    parts = urlsplit(address)
    if not parts.hostname or "@" in parts.netloc:
        refuse(f"{_URL} names no host, or holds a login.")
    if not secret:
        refuse(f"{_SECRET} is not set, but {_URL} is.")
    if len(_bytes_of(secret)) < _LEAST:
        refuse(f"{_SECRET} must be {_PREFIX} and at least {_LEAST} bytes in base64.")
    return address, secret


def _bytes_of(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True) if secret.startswith(_PREFIX) else b""
    except (binascii.Error, ValueError):
        return b""
