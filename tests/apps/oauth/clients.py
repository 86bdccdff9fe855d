"""What an OAuth2 client does, in the few lines that it takes."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from asgiref.sync import sync_to_async
from django.test import AsyncClient

from apps.oauth.models import Application
from apps.oauth.registration import register
from apps.tenants import rights
from apps.tenants.models import Tenant, User
from apps.tenants.scoping import tenant_scope

BACK = "https://client.example/back"
FORM = "application/x-www-form-urlencoded"


def make_service(tenant: Tenant, **fields: Any) -> tuple[Application, str]:
    """An application that acts by itself."""
    return register(
        tenant,
        **{
            "name": "Nightly report",
            "authorization_grant_type": Application.GRANT_CLIENT_CREDENTIALS,
            "client_type": Application.CLIENT_CONFIDENTIAL,
            "scopes": sorted(rights.ALL),
            **fields,
        },
    )


def make_site(tenant: Tenant, **fields: Any) -> tuple[Application, str]:
    """An application that acts for members."""
    return make_service(
        tenant,
        **{
            "name": "Intranet",
            "authorization_grant_type": Application.GRANT_AUTHORIZATION_CODE,
            "redirect_uris": BACK,
            **fields,
        },
    )


class Client:
    """One application as it talks to the server; `browser` is the person's, with their login."""

    def __init__(self, application: Application, secret: str = "") -> None:
        self.application = application
        self.secret = secret
        self.verifier = secrets.token_urlsafe(48)
        self.http = AsyncClient()

    @property
    def challenge(self) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    @property
    def basic(self) -> dict[str, str]:
        pair = f"{self.application.client_id}:{self.secret}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    async def post(self, address: str, **body: str) -> Any:
        headers = self.basic if self.secret else {}
        if not self.secret:
            body["client_id"] = self.application.client_id
        return await self.http.post(f"/oauth/{address}", urlencode(body), content_type=FORM, headers=headers)

    async def token(self, **body: str) -> Any:
        return await self.post("token", **body)

    def link(self, **changes: str | None) -> str:
        """The address that the person is sent to."""
        query = {
            "response_type": "code",
            "client_id": self.application.client_id,
            "redirect_uri": BACK,
            "state": "x y&z",
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
            **changes,
        }
        return "/oauth/authorize?" + urlencode({name: value for name, value in query.items() if value is not None})

    async def agreed(self, user: User, answer: str = "allow", **changes: str | None) -> dict[str, str]:
        """What the person's browser brings back to the application."""
        response = await (await browser_of(user)).post(self.link(**changes), {"answer": answer})
        assert response.status_code == 302, response.content
        assert response["Location"].startswith(BACK)
        return {name: values[0] for name, values in parse_qs(urlsplit(response["Location"]).query).items()}

    async def tokens(self, user: User, **changes: str | None) -> dict[str, Any]:
        """The whole walk: consent, code, tokens."""
        response = await self.exchanged((await self.agreed(user, "allow", **changes))["code"])
        assert response.status_code == 200, response.content
        found: dict[str, Any] = response.json()
        return found

    async def exchanged(self, code: str, **changes: str) -> Any:
        body = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": self.verifier}
        return await self.token(**{**body, **changes})

    async def refreshed(self, token: str, **body: str) -> Any:
        return await self.token(grant_type="refresh_token", refresh_token=token, **body)


async def browser_of(user: User) -> AsyncClient:
    browser = AsyncClient()
    await sync_to_async(browser.force_login)(user, backend="django.contrib.auth.backends.ModelBackend")
    return browser


async def within(client: Client, work: Callable[[], Any]) -> Any:
    """What `work` returns in the scope of the client's tenant."""

    def scoped() -> Any:
        with tenant_scope(client.application):
            return work()

    return await sync_to_async(scoped)()


async def status_of(token: str, path: str = "/api/v1/conversations") -> int:
    return (await AsyncClient().get(path, headers={"Authorization": f"Bearer {token}"})).status_code
