"""Talks OpenID Connect to the one provider that the settings name. What differs from allauth's own: a nonce, a checked
signature, no redirects, and no request to a host that the settings do not name."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import jwt
import requests
from allauth.account.models import EmailAddress
from allauth.account.utils import get_next_redirect_url
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

ID = "sso"
# Asymmetric ones alone: with the others, whoever knows the public key could sign.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
CLOCK_SKEW = 60.0  # seconds
TIMEOUT = 5.0  # seconds
_REQUIRED = {"require": ["iss", "sub", "aud", "exp", "iat"]}


def app() -> SocialApp:
    """The settings, as allauth wants them."""
    place = f"{settings.PARLEY_OIDC.issuer.rstrip('/')}/.well-known/openid-configuration"
    return SocialApp(
        provider="openid_connect",
        provider_id=ID,
        name=settings.PARLEY_OIDC.name,
        client_id=settings.PARLEY_OIDC.client_id,
        secret=settings.PARLEY_OIDC.secret,
        settings={"server_url": place, "oauth_pkce_enabled": True},
    )


class Session(requests.Session):
    """Goes to the issuer's host and to those of PARLEY_OIDC_HOSTS, and nowhere else whatever the provider says."""

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        issuer, place = urlsplit(settings.PARLEY_OIDC.issuer), urlsplit(str(url))
        elsewhere = place.scheme == "https" and place.netloc in settings.PARLEY_OIDC.hosts
        if (place.scheme, place.netloc) != (issuer.scheme, issuer.netloc) and not elsewhere:
            raise OAuth2Error(f"the provider names {place.netloc}, which PARLEY_OIDC_HOSTS does not")
        answer = super().request(method, url, *args, **{**options, "timeout": TIMEOUT, "allow_redirects": False})
        if answer.is_redirect:
            raise OAuth2Error("the provider redirects")
        return answer


class Provider(OpenIDConnectProvider):
    def get_oauth2_adapter(self, request: HttpRequest) -> Adapter:
        return Adapter(request)

    def redirect_from_request(self, request: HttpRequest) -> HttpResponse:
        """To the provider. Raises OAuth2Error and requests' exceptions."""
        nonce = secrets.token_urlsafe(32)
        response: HttpResponse = self.redirect(
            request,
            AuthProcess.LOGIN,
            next_url=get_next_redirect_url(request),
            scope=["openid", "email", "profile"],
            auth_params={"nonce": nonce},
            nonce=nonce,
        )
        return response

    def extract_uid(self, data: dict[str, Any]) -> str:
        """Of this provider alone: another one, configured later, may give the same subject to somebody else."""
        return hashlib.sha256(f"{data['iss']}\0{data['sub']}".encode()).hexdigest()

    def extract_extra_data(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"issuer": data["iss"], "email": data.get("email", "")}

    def extract_common_fields(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"email": data.get("email"), "name": data.get("name")}

    def extract_email_addresses(self, data: dict[str, Any]) -> list[EmailAddress]:
        if not isinstance(email := data.get("email"), str):
            return []
        return [EmailAddress(email=email, verified=data.get("email_verified") is True, primary=True)]


class Adapter(OpenIDConnectOAuth2Adapter):
    nonce = ""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request, ID)

    def get_provider(self) -> Provider:
        return Provider(self.request, app())

    @cached_property
    def openid_config(self) -> dict[str, Any]:
        found = _json(Session().get(self.get_provider().server_url))
        if found.get("issuer") != settings.PARLEY_OIDC.issuer:
            raise OAuth2Error("the provider calls itself otherwise than PARLEY_OIDC_ISSUER")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not isinstance(found.get(name), str):
                raise OAuth2Error(f"the provider names no {name}")
        return found

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        return f"{settings.PARLEY_BASE_URL}{reverse('sso_callback')}"

    def complete_login(self, request: HttpRequest, app: SocialApp, token: Any, **about: Any) -> Any:
        claims = self._claims(str(about["response"].get("id_token", "")))
        if "email" not in claims and "userinfo_endpoint" in self.openid_config:
            claims = {**self._userinfo(token.token, claims["sub"]), **claims}
        return self.get_provider().sociallogin_from_response(request, claims)

    def _claims(self, id_token: str) -> dict[str, Any]:
        """What the provider vouches for. Raises OAuth2Error."""
        client = settings.PARLEY_OIDC.client_id
        try:
            claims: dict[str, Any] = jwt.decode(
                id_token,
                self._key_of(id_token),
                algorithms=ALGORITHMS,
                audience=client,
                issuer=settings.PARLEY_OIDC.issuer,
                leeway=CLOCK_SKEW,
                options=_REQUIRED,  # type: ignore[arg-type]
            )
        except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
            raise OAuth2Error(f"the id_token is refused: {error}") from error
        if not claims["sub"] or claims.get("azp", client) != client:
            raise OAuth2Error("the id_token is for somebody else")
        if not self.nonce or not hmac.compare_digest(str(claims.get("nonce")).encode(), self.nonce.encode()):
            raise OAuth2Error("the id_token answers another login")
        return claims

    def _key_of(self, id_token: str) -> jwt.PyJWK:
        named = jwt.get_unverified_header(id_token).get("kid")
        keys = jwt.PyJWKSet.from_dict(_json(Session().get(self.openid_config["jwks_uri"]))).keys
        fitting = [key for key in keys if key.key_id == named] if named else keys
        if len(fitting) != 1:
            raise OAuth2Error("the provider has no such key")
        return fitting[0]

    def _userinfo(self, access_token: str, subject: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {access_token}"}
        found = _json(Session().get(self.openid_config["userinfo_endpoint"], headers=headers))
        if found.get("sub") != subject:
            raise OAuth2Error("the userinfo is about somebody else")
        return found


def _json(answer: requests.Response) -> dict[str, Any]:
    answer.raise_for_status()
    found = answer.json()
    if not isinstance(found, dict):
        raise OAuth2Error("the provider's answer is no JSON object")
    return found


class Callback(OAuth2CallbackView):
    adapter: Adapter

    def _get_state(self, request: HttpRequest, provider: Any) -> Any:
        state, refusal = super()._get_state(request, provider)
        self.adapter.nonce = (state or {}).get("nonce", "")
        return state, refusal
