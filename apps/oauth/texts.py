"""The texts of tokens and secrets: 256 random bits behind a prefix that tells people and scanners what it is."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from oauthlib.common import generate_token

ACCESS = "parleyt_"
REFRESH = "parleyr_"
SECRET = "parleys_"  # noqa: S105 - what secrets begin with
_LENGTH = 43
_FORM = re.compile(rf"{ACCESS}[A-Za-z0-9]{{{_LENGTH}}}")


def access_token(request: Any) -> str:
    return f"{ACCESS}{generate_token(_LENGTH)}"


def refresh_token(request: Any) -> str:
    return f"{REFRESH}{generate_token(_LENGTH)}"


def client_secret() -> str:
    return f"{SECRET}{generate_token(_LENGTH)}"


def is_access_token(text: str) -> bool:
    return _FORM.fullmatch(text) is not None


def checksum(token: str) -> str:
    """What the toolkit stores of a token (its `token_checksum`)."""
    return hashlib.sha256(token.encode()).hexdigest()
