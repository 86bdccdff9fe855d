"""Signed identities: a tenant's own server says who its visitor is, by a JSON Web Token that the page passes on."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from typing import Any

import jwt

from chatbot.errors import NotAuthenticated

# Fixed here and never read from the token: "none", or a public key taken for a secret, are how such tokens are forged.
ALGORITHM = "HS256"
LONGEST_LIFE = 3600  # seconds that an identity may have ahead of it
CLOCKS = 60  # seconds by which the signing server's clock may differ
LONGEST = 4000  # characters
LONGEST_NAME = 200
# How Parley itself calls end users: visitors whom nobody named, and staff.
RESERVED = ("visitor:", "staff:")


class WrongIdentity(NotAuthenticated):
    def __init__(self, why: str) -> None:
        super().__init__(fields={"identity": why})


def subject_of(identity: str, secrets: Sequence[str]) -> str:
    """Whom an identity names. Raises WrongIdentity with a sentence for the developer who made it."""
    if not secrets:
        raise WrongIdentity("This assistant takes no identities: make a secret for it in the admin.")
    if len(identity) > LONGEST or not identity.isascii():
        raise WrongIdentity("This is no JSON Web Token.")
    claims = _claims(identity, secrets)
    if claims["exp"] > time.time() + LONGEST_LIFE + CLOCKS:
        raise WrongIdentity("The identity lives too long: `exp` may be an hour away at most.")
    subject = claims["sub"]
    if not 0 < len(subject.strip()) <= LONGEST_NAME or not subject.isprintable():
        raise WrongIdentity(f"`sub` has to be 1 to {LONGEST_NAME} printable characters.")
    if subject.startswith(RESERVED):
        raise WrongIdentity(f"`sub` must not begin with {' or '.join(RESERVED)}.")
    return str(subject)


def _claims(identity: str, secrets: Sequence[str]) -> dict[str, Any]:
    for secret in secrets:
        try:
            return jwt.decode(
                identity,
                secret,
                algorithms=[ALGORITHM],
                options={"require": ["exp", "sub"], "verify_aud": False},
                leeway=datetime.timedelta(seconds=CLOCKS),
            )
        except jwt.InvalidSignatureError:
            continue  # perhaps the other secret's
        except jwt.ExpiredSignatureError as error:
            raise WrongIdentity("The identity has expired: sign one for each page view.") from error
        except jwt.InvalidAlgorithmError as error:
            raise WrongIdentity(f"The identity has to be signed with {ALGORITHM}.") from error
        except jwt.MissingRequiredClaimError as error:
            raise WrongIdentity(f"The identity lacks `{error.claim}`.") from error
        except (jwt.ImmatureSignatureError, jwt.InvalidIssuedAtError) as error:
            raise WrongIdentity("The identity is from the future: compare the clocks.") from error
        except jwt.PyJWTError as error:
            raise WrongIdentity("This is no JSON Web Token, or one of its claims is malformed.") from error
    raise WrongIdentity("The identity was not signed with this assistant's secret.")
