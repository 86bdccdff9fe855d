"""oauthlib's server with the three grants that we give: no implicit grant, no passwords, no devices."""

from __future__ import annotations

from typing import Any

from oauthlib.oauth2 import (
    AuthorizationCodeGrant,
    AuthorizationEndpoint,
    BearerToken,
    ClientCredentialsGrant,
    RefreshTokenGrant,
    RevocationEndpoint,
    TokenEndpoint,
)


class Server(AuthorizationEndpoint, TokenEndpoint, RevocationEndpoint):  # type: ignore[misc]
    def __init__(
        self,
        validator: Any,
        *,
        token_generator: Any,
        token_expires_in: int,
        refresh_token_generator: Any,
        **_of_other_grants: Any,
    ) -> None:
        """What the toolkit passes on: its settings' server_kwargs."""
        bearer = BearerToken(validator, token_generator, token_expires_in, refresh_token_generator)
        code = AuthorizationCodeGrant(validator)
        grants = {
            "authorization_code": code,
            "client_credentials": ClientCredentialsGrant(validator),
            "refresh_token": RefreshTokenGrant(validator),
        }
        AuthorizationEndpoint.__init__(
            self, default_response_type="code", response_types={"code": code}, default_token_type=bearer
        )
        TokenEndpoint.__init__(
            self, default_grant_type="authorization_code", grant_types=grants, default_token_type=bearer
        )
        RevocationEndpoint.__init__(self, validator)
