"""The doors of programs: tokens, revocation (RFC 7009), introspection (RFC 7662) and the server's metadata (RFC 8414).

Each runs wholly in the scope of the tenant whose client asks, so that nothing of another's is there to be found.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from django.conf import settings
from django.core.exceptions import BadRequest, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import View
from oauth2_provider.views.mixins import OAuthLibMixin

from apps.edge.errors import translate
from apps.oauth import bearers, lookups, texts
from apps.oauth.models import AccessToken, Application
from apps.tenants import rights
from apps.tenants.scoping import tenant_scope

FORM = "application/x-www-form-urlencoded"
AUTHENTICATION_METHODS = ["client_secret_basic", "client_secret_post"]


def refusal(error: str, status: int = 400, description: str = "") -> JsonResponse:
    """An error as RFC 6749, 5.2, writes it."""
    return JsonResponse({"error": error, **({"error_description": description} if description else {})}, status=status)


def client_id_in(request: HttpRequest) -> str:
    """Which client says that it asks: by HTTP Basic, or in the body. Empty where none does."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Basic":
        return request.POST.get("client_id", "")
    try:
        decoded = base64.b64decode(credentials).decode()
    except ValueError:
        return ""
    return unquote_plus(decoded.partition(":")[0])


@method_decorator([csrf_exempt, sensitive_post_parameters()], name="dispatch")
class ClientView(OAuthLibMixin, View):  # type: ignore[misc]
    """A POST of a form by a client, answered in its tenant's scope and never kept by a cache."""

    http_method_names = ["post"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = self._answer(request)
        response["Cache-Control"] = "no-store"
        response["Pragma"] = "no-cache"
        if response.status_code == 401:
            response["WWW-Authenticate"] = 'Basic realm="parley"'
        return response

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        if request.method != "POST":
            response = refusal("invalid_request", 405, "This address answers POST.")
            response["Allow"] = "POST"
            return response
        if request.content_type != FORM or request.META["QUERY_STRING"]:
            return refusal("invalid_request", 400, f"Parameters are sent in the body, as {FORM}.")
        try:
            found = lookups.client_of(client_id_in(request))
            if found is None:
                return refusal("invalid_client", 401)
            with tenant_scope(found):
                return super().dispatch(request)
        except (SuspiciousOperation, BadRequest):  # too large, too many parameters, not UTF-8
            return refusal("invalid_request", 400, "This request cannot be read.")
        except (OperationalError, InterfaceError) as error:
            unavailable = refusal("temporarily_unavailable", 503, translate(error).message)
            unavailable["Retry-After"] = "5"
            return unavailable

    @staticmethod
    def answered(headers: Mapping[str, str], body: str | None, status: int) -> HttpResponse:
        """What oauthlib decided. A client that did not prove itself is told the same as an unknown one."""
        if status == 401:
            return refusal("invalid_client", 401)
        return HttpResponse(body or "", status=status, headers={"Content-Type": "application/json", **headers})


class Token(ClientView):
    def post(self, request: HttpRequest) -> HttpResponse:
        _, headers, body, status = self.create_token_response(request)
        return self.answered(headers, body, status)


class Revoke(ClientView):
    def post(self, request: HttpRequest) -> HttpResponse:
        _, headers, body, status = self.create_revocation_response(request)
        return self.answered(headers, body, status)


class Introspect(ClientView):
    """Tells confidential clients of a tenant about access tokens of the same tenant, and of no others."""

    def post(self, request: HttpRequest) -> HttpResponse:
        client: Application | None = self.get_oauthlib_core().authenticated_client(request)
        if client is None:
            return refusal("invalid_client", 401)
        text = request.POST.get("token", "")
        if not text:
            return refusal("invalid_request", 400, "The parameter token is missing.")
        return JsonResponse(_description(client, text))


def _description(client: Application, text: str) -> dict[str, Any]:
    tokens = AccessToken.objects.for_tenant(client.tenant_id).select_related("application__tenant", "user")
    token = tokens.filter(token_checksum=texts.checksum(text)).first()
    known = bearers.standing(token) if token else None
    if token is None or known is None:
        return {"active": False}
    described = {
        "active": True,
        "token_type": "Bearer",
        "client_id": token.application.client_id,
        "scope": " ".join(sorted(known.caller.scopes)),
        "iss": settings.PARLEY_BASE_URL,
        "sub": str(token.user_id) if token.user_id else token.application.client_id,
        "iat": int(token.created.timestamp()),
        "exp": int(token.expires.timestamp()),
    }
    return {**described, "username": token.user.email} if token.user else described


def metadata(request: HttpRequest) -> JsonResponse:
    """Where what is, for clients that find out by themselves."""
    issuer = settings.PARLEY_BASE_URL
    return JsonResponse(
        {
            "issuer": issuer,
            "authorization_endpoint": issuer + reverse("oauth:authorize"),
            "token_endpoint": issuer + reverse("oauth:token"),
            "revocation_endpoint": issuer + reverse("oauth:revoke"),
            "introspection_endpoint": issuer + reverse("oauth:introspect"),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": list(rights.SCOPES),
            "token_endpoint_auth_methods_supported": [*AUTHENTICATION_METHODS, "none"],
            "revocation_endpoint_auth_methods_supported": [*AUTHENTICATION_METHODS, "none"],
            "introspection_endpoint_auth_methods_supported": AUTHENTICATION_METHODS,
            "authorization_response_iss_parameter_supported": True,
        }
    )
