"""From the admin's session cookie to a user, for WebSockets, which pass no middleware."""

from __future__ import annotations

from http.cookies import SimpleCookie
from importlib import import_module

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest

from apps.tenants.models import User


def user_of(cookie_header: str) -> User | None:
    """The active user whose session the Cookie header names. Database work: call it as a unit."""
    cookies: SimpleCookie = SimpleCookie()
    cookies.load(cookie_header)
    morsel = cookies.get(settings.SESSION_COOKIE_NAME)
    if morsel is None:
        return None
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(morsel.value)
    user = get_user(request)
    return user if isinstance(user, User) and user.is_active and user.is_staff else None
