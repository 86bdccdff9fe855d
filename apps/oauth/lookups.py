"""Whose a client or a token is, asked before its tenant is known (functions of migration 0002_lookups)."""

from __future__ import annotations

from apps.tenants.lookups import Found, call


def client_of(client_id: str) -> Found | None:
    """The application with this client_id."""
    if "\0" in client_id:  # PostgreSQL refuses it even in a comparison
        return None
    return next((Found(*row) for row in call("oauth_client_of", client_id)), None)


def token_of(checksum: str) -> Found | None:
    """The access token with this checksum, whatever state it is in."""
    return next((Found(*row) for row in call("oauth_token_of", checksum)), None)
