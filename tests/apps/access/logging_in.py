"""Steps that tests of logins take: as a browser would, in a client of its own."""

from __future__ import annotations

import re
import time
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from allauth.mfa.utils import decrypt
from django.test import Client

from apps.tenants.models import User
from tests.factories import PASSWORD

LOGIN = "/admin/login/"
CODE = "/admin/login/code/"
SET_UP = "/admin/security/start/"


def log_in(client: Client, user: User | str, password: str = PASSWORD, **extra: Any) -> Any:
    email = user.email if isinstance(user, User) else user
    return client.post(LOGIN, {"username": email, "password": password}, **extra)


def is_in(client: Client) -> bool:
    return client.get("/admin/security/").status_code == 200


def code_of(secret: str, *, steps: int = 0) -> str:
    """What an authenticator app shows now, or `steps` half minutes later."""
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // 30 + steps)))


def give_app(user: User) -> str:
    """The secret of an authenticator app that this user has set up."""
    secret = generate_totp_secret()
    TOTP.activate(user, secret)
    return secret


def set_up_app(client: Client) -> str:
    """The same by the page; returns its secret."""
    page = client.get("/admin/security/app/").content.decode()
    secret = str(re.findall(r'id="secret">(\w+)<', page)[0])
    done = client.post("/admin/security/app/", {"code": code_of(secret)})
    assert (done.status_code, done["Location"]) == (302, "/admin/security/codes/"), done.content
    stored = Authenticator.objects.get(type=Authenticator.Type.TOTP).data["secret"]
    assert secret not in stored
    assert decrypt(stored) == secret
    return secret
