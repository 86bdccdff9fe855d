"""Single sign-on: whose account a person of the OpenID Connect provider is, and who of them has none here."""

from __future__ import annotations

from typing import Any

import structlog
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from requests import RequestException

from apps.access import invitations
from apps.access.logins import proof
from apps.access.logins.frame import frame_of, later
from apps.access.logins.guesses import refuse_flood
from apps.access.logins.provider import Adapter, Callback, Provider, Session, app
from apps.edge.errors import ServiceUnavailable
from apps.tenants.models import User
from chatbot.errors import RateLimited

log = structlog.get_logger(__name__)


def name() -> str:
    """What the login page calls the provider; empty where there is none."""
    return settings.PARLEY_OIDC.name if settings.PARLEY_OIDC.issuer else ""


@never_cache
@require_safe
def start(request: HttpRequest) -> HttpResponse:
    """To the provider."""
    if not name():
        raise Http404
    try:
        refuse_flood(request)
        return Provider(request, app()).redirect_from_request(request)
    except (RateLimited, ServiceUnavailable) as error:
        return later(request, error)
    except (OAuth2Error, RequestException) as error:
        return refused(request, str(error))


@never_cache
@require_safe
def callback(request: HttpRequest) -> HttpResponse:
    """And back."""
    if not name():
        raise Http404
    view = Callback.adapter_view(Adapter)  # type: ignore[no-untyped-call]
    response: HttpResponse = view(request)
    return response


def refused(request: HttpRequest, reason: str) -> HttpResponse:
    """The same page whatever the reason, which is for the operator's log: it may tell who has an account."""
    log.warning("single_sign_on.refused", reason=reason[:200])
    context = {**frame_of(request), "title": "You were not logged in", "provider": name()}
    return TemplateResponse(request, "admin/security/refused.html", context, status=403).render()


def is_welcome(email: str) -> bool:
    domains = [domain.lower() for domain in settings.PARLEY_OIDC.domains]
    return not domains or email.rpartition("@")[2].lower() in domains


class SingleSignOnAdapter(DefaultSocialAccountAdapter):
    def list_apps(self, request: Any, provider: Any = None, client_id: Any = None) -> list[SocialApp]:
        return [app()] if name() else []

    def get_provider(self, request: Any, provider: Any, client_id: Any = None) -> Provider:
        return Provider(request, app())

    def get_requests_session(self) -> Session:
        return Session()

    def on_authentication_error(
        self, request: HttpRequest, provider: Any, error: Any = None, exception: Any = None, extra_context: Any = None
    ) -> None:
        raise ImmediateHttpResponse(refused(request, str(exception or error or "no reason given")))

    def authenticate_by_email(self, sociallogin: Any) -> Any:
        """The account with the address that the provider has verified; any other spelling of it is the same one."""
        for address in sociallogin.email_addresses:
            user = User.objects.filter(email__iexact=address.email).first() if address.verified else None
            if user is not None:
                return user, address.email
        return None

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        email = next((address.email for address in sociallogin.email_addresses if address.verified), "")
        if not email:
            raise ImmediateHttpResponse(refused(request, "no verified e-mail address"))
        if not is_welcome(email):
            raise ImmediateHttpResponse(refused(request, "not a domain of PARLEY_OIDC_DOMAINS"))
        user = sociallogin.user
        if not sociallogin.is_existing:
            if not self.is_open_for_signup(request, sociallogin):
                raise ImmediateHttpResponse(refused(request, "no account here"))
        elif not (user.is_active and user.is_staff):
            raise ImmediateHttpResponse(refused(request, "the account is closed"))
        elif sociallogin._did_authenticate_by_email:
            proof.prove(user, keep_password=False)

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        """Whoever holds an invitation to this address, or anybody where the settings say so."""
        if settings.PARLEY_OIDC.sign_up:
            return True
        offer = invitations.offered(request)
        emails = {address.email.lower() for address in sociallogin.email_addresses if address.verified}
        return offer is not None and offer.email in emails

    def new_user(self, request: HttpRequest, sociallogin: Any) -> User:
        return User()

    def populate_user(self, request: HttpRequest, sociallogin: Any, data: dict[str, Any]) -> User:
        user: User = sociallogin.user
        user.email = str(data.get("email") or "").lower()
        user.name = str(data.get("name") or "")[:150].replace("\0", "")
        return user

    def save_user(self, request: HttpRequest, sociallogin: Any, form: Any = None) -> User:
        user: User = sociallogin.user
        user.set_unusable_password()
        sociallogin.save(request)
        return user

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """As in AccountAdapter."""
