"""How the OAuth2 server is set up: django-oauth-toolkit's settings, as strict as RFC 9700 asks."""

from __future__ import annotations

from typing import Any

MODELS = {
    "OAUTH2_PROVIDER_APPLICATION_MODEL": "oauth.Application",
    "OAUTH2_PROVIDER_GRANT_MODEL": "oauth.Grant",
    "OAUTH2_PROVIDER_ACCESS_TOKEN_MODEL": "oauth.AccessToken",
    "OAUTH2_PROVIDER_REFRESH_TOKEN_MODEL": "oauth.RefreshToken",
    "OAUTH2_PROVIDER_ID_TOKEN_MODEL": "oauth.IDToken",
    "OAUTH2_PROVIDER_DEVICE_GRANT_MODEL": "oauth.DeviceGrant",
}


def provider(issuer: str) -> dict[str, Any]:
    """issuer: the address under which people reach Parley."""
    gates = (
        "IMPLICIT_GRANT",
        "PASSWORD_GRANT",
        "PKCE_METHOD",
        "PKCE_REQUIRED",
        "ACCESS_TOKEN_TRANSPORT",
        "AUTHZ_RESPONSE_ISS",
        "TOKEN_STORAGE",
        "REFRESH_TOKEN",
        "REDIRECT_URI_SCHEME",
        "REDIRECT_URI_MATCHING",
    )
    return {
        **{f"COMPLIANT_BCP_RFC9700_{gate}": True for gate in gates},
        "OAUTH2_SERVER_CLASS": "apps.oauth.server.Server",
        "OAUTH2_VALIDATOR_CLASS": "apps.oauth.validator.Validator",
        "OAUTH2_BACKEND_CLASS": "apps.oauth.backend.Backend",
        "SCOPES_BACKEND_CLASS": "apps.oauth.scopes.Scopes",
        "ACCESS_TOKEN_GENERATOR": "apps.oauth.texts.access_token",
        "REFRESH_TOKEN_GENERATOR": "apps.oauth.texts.refresh_token",
        "PKCE_REQUIRED": True,
        "ALLOWED_REDIRECT_URI_SCHEMES": ["https"],  # and http of loopback addresses: Application.clean decides
        "OIDC_ISS_ENDPOINT": issuer,
        "AUTHORIZATION_CODE_EXPIRE_SECONDS": 60,
        "ACCESS_TOKEN_EXPIRE_SECONDS": 3600,
        "REFRESH_TOKEN_EXPIRE_SECONDS": 30 * 24 * 3600,  # counted from the end of the last access token
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
    }
