"""An OpenID Connect provider on a socket: discovery, keys, authorization and tokens, each open to being wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.fakes.site import Site, running_site

CLIENT, SECRET = "parley", "what-parley-proves-itself-with"
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Provider:
    """claims: what the next id_token says beside or in place of the right things; None leaves a claim out.
    forged: signed with a key that the provider does not have. algorithm: what it is signed with. userinfo: what that
    address answers. endpoints: what discovery says in place of the truth."""

    site: Site
    claims: dict[str, Any] = field(default_factory=dict)
    forged: bool = False
    algorithm: str = "RS256"
    userinfo: dict[str, Any] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def issuer(self) -> str:
        return self.site.url

    def let_in(self, location: str) -> str:
        """What the provider does once its user has logged in there: the address that the browser is sent back to."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert location.startswith(f"{self.issuer}/authorize?")
        assert (query["client_id"], query["response_type"], query["code_challenge_method"]) == (CLIENT, "code", "S256")
        assert set(query["scope"].split()) == {"openid", "email", "profile"}
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def discovery(self, _: web.Request) -> web.Response:
        named = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }
        return web.json_response({**named, **self.endpoints})

    def keys(self, _: web.Request) -> web.Response:
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(_KEY.public_key()))
        return web.json_response({"keys": [{**key, "kid": "one", "use": "sig", "alg": "RS256"}]})

    async def token(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        asked = self.codes.pop(str(form.get("code")), None)
        verifier = hashlib.sha256(str(form.get("code_verifier", "")).encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
        proven = (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
        if asked is None or not proven or asked["code_challenge"] != challenge:
            return web.json_response({"error": "invalid_grant"}, status=400)
        assert form["redirect_uri"] == asked["redirect_uri"]
        return web.json_response(
            {"access_token": "opaque", "token_type": "Bearer", "id_token": self._id_token(asked["nonce"])}
        )

    def _id_token(self, nonce: str) -> str:
        now = int(time.time())
        right = {"iss": self.issuer, "aud": CLIENT, "sub": "dave-1", "iat": now, "exp": now + 300, "nonce": nonce}
        right |= {"email": "dave@example.com", "email_verified": True, "name": "Dave"}
        said = {name: value for name, value in {**right, **self.claims}.items() if value is not None}
        key: Any = _OTHER_KEY if self.forged else _KEY
        if self.algorithm == "none":
            key = None
        elif self.algorithm == "HS256":
            key = SECRET.ljust(32)
        return jwt.encode(said, key, algorithm=self.algorithm, headers={"kid": "one"})

    def about(self, _: web.Request) -> web.Response:
        return web.json_response(self.userinfo)


@contextmanager
def running_provider() -> Iterator[Provider]:
    with running_site() as site:
        provider = Provider(site)
        site.pages = {
            "/.well-known/openid-configuration": provider.discovery,
            "/keys": provider.keys,
            "/token": provider.token,
            "/userinfo": provider.about,
        }
        yield provider
