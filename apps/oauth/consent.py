"""The page on which a member lets an application act in their name, or does not (RFC 6749, 4.1, with PKCE)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.utils.cache import add_never_cache_headers
from django.views.generic import View
from oauth2_provider.exceptions import FatalClientError, OAuthToolkitError
from oauth2_provider.http import OAuth2ResponseRedirect
from oauth2_provider.views.mixins import OAuthLibMixin

from apps.edge.request_ids import current_request_id
from apps.oauth import lookups
from apps.oauth.models import Application
from apps.oauth.scopes import permitted
from apps.tenants import audit, rights
from apps.tenants.models import Membership
from apps.tenants.scoping import tenant_scope

SCHEMES = ("https", "http")


class Consent(LoginRequiredMixin, OAuthLibMixin, View):  # type: ignore[misc]
    """Asks members of the application's tenant; to others it answers as for an application that does not exist."""

    http_method_names = ["get", "post"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return self.handle_no_permission()
        found = lookups.client_of(request.GET.get("client_id", ""))
        if found is None:
            return _unknown()
        with tenant_scope(found):
            application = Application.objects.for_tenant(found.tenant_id).select_related("tenant").get(pk=found.id)
            members = Membership.objects.for_tenant(found.tenant_id)
            if not application.tenant.is_active or not members.filter(user=request.user.pk).exists():
                return _unknown()
            self.application = application
            # Rendered here, since what the page shows is the tenant's.
            response = super().dispatch(request, *args, **kwargs)
            return response.render() if isinstance(response, TemplateResponse) else response

    def get(self, request: HttpRequest) -> HttpResponseBase:
        try:
            scopes, credentials = self.validate_authorization_request(request)
        except OAuthToolkitError as error:
            return self._refused(error)
        return self._page(request, scopes, credentials["redirect_uri"])

    def post(self, request: HttpRequest) -> HttpResponseBase:
        """The form comes back to the same address, query and all, which is checked anew."""
        allow = request.POST.get("answer") == "allow"
        try:
            scopes, credentials = self.validate_authorization_request(request)
            address, *_ = self.create_authorization_response(request, " ".join(scopes), credentials, allow)
        except OAuthToolkitError as error:
            return self._refused(error)
        if allow:
            granted = permitted(self.application, request.user).intersection(scopes)  # type: ignore[arg-type]
            audit.record(
                self.application, "application.allowed", audit.actor_of(request), self.application, scopes=granted
            )
        return _redirect(address)

    def _page(self, request: HttpRequest, scopes: list[str], redirect_uri: str) -> HttpResponseBase:
        granted = permitted(self.application, request.user).intersection(scopes)  # type: ignore[arg-type]
        context = {
            **admin.site.each_context(request),
            "title": f"Let {self.application.name} in?",
            "application": self.application,
            "granted": [words for scope, words in rights.SCOPES.items() if scope in granted],
            "withheld": [words for scope, words in rights.SCOPES.items() if scope in set(scopes) - granted],
            "comes_back_to": urlsplit(redirect_uri).netloc,
        }
        response = TemplateResponse(request, "oauth/consent.html", context)
        add_never_cache_headers(response)
        # Browsers hold the redirect that answers the form against form-action, too.
        response._csp_update = {"form-action": [_source(redirect_uri)]}  # type: ignore[attr-defined]
        return response

    def _refused(self, error: OAuthToolkitError) -> HttpResponseBase:
        """Told to the application where its address is known to be its own, and to the person where it is not."""
        wrong = error.oauthlib_error
        if isinstance(error, FatalClientError) or not wrong.redirect_uri:
            return _told(400, "This link does not work", wrong.description or "The application sent a malformed link.")
        separator = "&" if "?" in wrong.redirect_uri else "?"
        said = f"{wrong.urlencoded}&{urlencode({'iss': settings.PARLEY_BASE_URL})}"
        return _redirect(f"{wrong.redirect_uri}{separator}{said}")


def _redirect(address: str) -> HttpResponse:
    response: HttpResponse = OAuth2ResponseRedirect(address, SCHEMES)
    return response


def _source(address: str) -> str:
    """Its origin as CSP writes one, which has no way to write an IPv6 address."""
    parts = urlsplit(address)
    return f"{parts.scheme}:" if "[" in parts.netloc else f"{parts.scheme}://{parts.netloc}"


def _unknown() -> HttpResponse:
    return _told(404, "There is nothing here", "No such application is registered with a tenant of yours.")


def _told(status: int, title: str, message: str) -> HttpResponse:
    context = {"title": title, "message": message, "request_id": current_request_id()}
    return HttpResponse(render_to_string("error.html", context), status=status)
