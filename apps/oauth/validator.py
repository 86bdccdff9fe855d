"""What the toolkit checks and stores, as we mean it: codes and tokens are a tenant's, and no wider than rights are now.

Everything here runs in the scope of the tenant whose client asks (views.py), which alone makes its rows visible.
"""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauthlib.oauth2.rfc6749 import errors

from apps.oauth.models import Application, Grant, RefreshToken
from apps.oauth.scopes import permitted
from apps.tenants import keys

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


class Validator(OAuth2Validator):  # type: ignore[misc]
    def _check_secret(self, provided_secret: str, stored_secret: str) -> bool:
        """The secret has 256 random bits, so a slow hash would add nothing but a way to keep us busy."""
        return constant_time_compare(keys.digest(provided_secret).hex(), stored_secret)

    # --- Codes ---

    def is_pkce_required(self, client_id: str, request: Any) -> bool:
        challenge = request.code_challenge
        if challenge is not None and request.code_challenge_method != "S256":
            raise errors.UnsupportedCodeChallengeMethodError("Use the code_challenge_method S256.", request=request)
        if challenge is not None and not _CHALLENGE.fullmatch(challenge):
            raise errors.InvalidRequestError("This code_challenge is no SHA-256 in base64url.", request=request)
        return True

    def _create_authorization_code(self, request: Any, code: Any, expires: Any = None) -> Grant:
        request.scopes = sorted(permitted(request.client, request.user).intersection(request.scopes))
        if not request.scopes:
            raise errors.AccessDeniedError("The member's role permits none of what was asked for.", request=request)
        self._check_and_set_request_resource(request)
        request.nonce = request.claims = None  # OpenID Connect's
        grant: Grant = super()._create_authorization_code(request, code, expires)
        return grant

    def validate_code(
        self, client_id: str, code: str, client: Application, request: Any, *args: Any, **kw: Any
    ) -> bool:
        """A code that comes a second time was stolen, be it now or the first time: then its tokens end (RFC 6749,
        4.1.2). The lock lets one of two that come at once wait for the other."""
        grants = Grant.objects.for_tenant(client.tenant_id).select_for_update(of=("self",))
        grant = grants.select_related("user").filter(code=code, application=client).first()
        if grant is None:
            return False
        if grant.spent_at:
            RefreshToken.revoke_family(grant.family)
            return False
        if not super().validate_code(client_id, code, client, request, *args, **kw):
            return False
        request.scopes = sorted(permitted(client, grant.user).intersection(request.scopes))
        return bool(request.scopes)

    def invalidate_authorization_code(self, client_id: str, code: str, request: Any, *args: Any, **kw: Any) -> None:
        _grant_of(request, code).update(spent_at=timezone.now())

    # --- Tokens ---

    def _create_refresh_token(self, request: Any, *args: Any) -> RefreshToken:
        token: RefreshToken = super()._create_refresh_token(request, *args)
        if request.grant_type == "authorization_code":
            _grant_of(request, request.code).update(family=token.token_family)
        return token

    def validate_refresh_token(
        self, refresh_token: str, client: Application, request: Any, *args: Any, **kw: Any
    ) -> bool:
        valid: bool = super().validate_refresh_token(refresh_token, client, request, *args, **kw)
        return valid and bool(self.get_original_scopes(refresh_token, request))

    def get_original_scopes(self, refresh_token: str, request: Any, *args: Any, **kw: Any) -> list[str]:
        """What is left today of what was agreed to."""
        agreed = super().get_original_scopes(refresh_token, request, *args, **kw)
        token = request.refresh_token_instance
        return sorted(permitted(token.application, token.user).intersection(agreed.split() if agreed else ()))

    def _validate_resource_uris(self, request: Any, resources: list[str]) -> None:
        """A token is for Parley: asked for one that another server should take (RFC 8707), we refuse."""
        if any(str(resource).rstrip("/") != settings.PARLEY_BASE_URL for resource in resources):
            raise errors.CustomOAuth2Error("invalid_target", "Tokens are for this server only.", request=request)


def _grant_of(request: Any, code: str) -> Any:
    client = request.client
    return Grant.objects.for_tenant(client.tenant_id).filter(code=code, application=client)
