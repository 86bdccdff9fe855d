"""Secrets at rest: encrypted with the keyring of PARLEY_ENCRYPTION_KEYS, of which the first key writes and all read.

What is stored is `<key id>:<Fernet token>`, so that one sees without trying which keys are still in use.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

KEY_ID_CHARS = 8


class Undecryptable(ImproperlyConfigured):
    """A stored secret was encrypted with a key that the keyring does not hold (any more), or was changed."""


def key_id(key: str) -> str:
    """By which a key is called in the database and by people. It does not help to find the key."""
    return hashlib.sha256(key.encode()).hexdigest()[:KEY_ID_CHARS]


def keyring() -> dict[str, Fernet]:
    """The keys by their ids, the one that writes first."""
    return _ring(tuple(settings.PARLEY_ENCRYPTION_KEYS))


@lru_cache(maxsize=4)
def _ring(keys: tuple[str, ...]) -> dict[str, Fernet]:
    return {key_id(key): Fernet(key) for key in keys}


def encrypt(text: str) -> str:
    """The empty string stays empty, so that "no secret" can be seen in SQL."""
    if not text:
        return text
    writing, key = next(iter(keyring().items()))
    return f"{writing}:{key.encrypt(text.encode()).decode()}"


def decrypt(stored: str) -> str:
    """Raises Undecryptable."""
    if not stored:
        return stored
    written_with, _, token = stored.rpartition(":")
    keys = keyring()
    if written_with and written_with not in keys:
        raise Undecryptable(
            f"A stored secret was encrypted with the key {written_with}, which PARLEY_ENCRYPTION_KEYS does not hold."
        )
    # Tokens of before key ids were stored with them are tried with every key.
    fitting = [keys[written_with]] if written_with else keys.values()
    try:
        return MultiFernet(fitting).decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise Undecryptable(
            f"A stored secret was changed after the key {written_with} encrypted it."
            if written_with
            else "A stored secret was encrypted with a key that PARLEY_ENCRYPTION_KEYS no longer holds."
        ) from error


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """Text in the code, encrypt()'s result in the database."""

    def get_prep_value(self, value: Any) -> Any:
        text = super().get_prep_value(value)
        return encrypt(text) if text else text

    def from_db_value(self, value: str | None, *_: object) -> str | None:
        return decrypt(value) if value else value
