"""How the toolkit reads our requests."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from oauth2_provider.oauth2_backends import OAuthLibCore
from oauthlib.common import Request


class Backend(OAuthLibCore):  # type: ignore[misc]
    def _get_escaped_full_path(self, request: HttpRequest) -> str:
        """Written anew from what Django read, since oauthlib raises ValueError for what it cannot."""
        query = request.GET.urlencode()
        return f"{request.path}?{query}" if query else request.path

    def authenticated_client(self, request: HttpRequest) -> Any:
        """The application that proves itself with its secret, or None."""
        uri, method, body, headers = self._extract_params(request)
        asked = Request(uri, method, body, headers)
        return asked.client if self.server.request_validator.authenticate_client(asked) else None
