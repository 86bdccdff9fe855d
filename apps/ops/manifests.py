"""The manifest of an erasure: a file of JSON, signed with Ed25519, that says what is gone.

The key is made of PARLEY_KEY_PEPPER; the public half stands in the manifest, so that whoever trusts it can check one
without us. What is signed are the bytes of `erased` as JSON with sorted keys and no blanks.
"""

from __future__ import annotations

import hmac
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings


class ManifestError(Exception):
    """One sentence for the person at the terminal: why this is no manifest of ours."""


def sign(erased: dict[str, Any]) -> str:
    key = _key()
    signed = {"erased": erased, "public_key": _public(key), "signature": key.sign(_bytes(erased)).hex()}
    return json.dumps(signed, indent=1, ensure_ascii=False) + "\n"


def read(text: str) -> dict[str, Any]:
    """What a manifest says. Raises ManifestError where it is none, was changed, or was signed elsewhere."""
    try:
        signed = json.loads(text)
        erased, public, signature = signed["erased"], signed["public_key"], bytes.fromhex(signed["signature"])
        body = _bytes(erased)
    except (ValueError, LookupError, TypeError) as error:
        raise ManifestError("This is no manifest of an erasure.") from error
    key = _key()
    if public != _public(key):
        raise ManifestError("It was signed by an installation with another PARLEY_KEY_PEPPER.")
    try:
        key.public_key().verify(signature, body)
    except InvalidSignature as error:
        raise ManifestError("It was changed after it was signed.") from error
    return dict(erased)


def _key() -> Ed25519PrivateKey:
    """Of its own, so that nothing else that the pepper signs is ever a manifest."""
    pepper = settings.PARLEY_KEY_PEPPER.encode()
    return Ed25519PrivateKey.from_private_bytes(hmac.digest(pepper, b"parley erasure manifests", "sha256"))


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def _bytes(erased: dict[str, Any]) -> bytes:
    return json.dumps(erased, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
