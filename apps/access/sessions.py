"""Who logs in, and from the admin's session cookie to a user for WebSockets, which pass no middleware."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, parse_cookie

from apps.tenants.models import User


def login_name(request: HttpRequest, credentials: Mapping[str, Any] | None) -> str:
    """Whom somebody tries to log in as, for counting failures: capitals and blanks do not make it another account."""
    return str((credentials or request.POST).get("username") or "").strip().lower()


def user_of(cookie_header: str) -> User | None:
    """The active user whose session the Cookie header names. Database work: call it as a unit."""
    key = parse_cookie(cookie_header).get(settings.SESSION_COOKIE_NAME, "")
    if not key or "\0" in key:
        return None
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = get_user(request)
    return user if isinstance(user, User) and user.is_active and user.is_staff else None
