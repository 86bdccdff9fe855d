"""The pages that an invitation's link opens. Whatever is wrong with a link, the page is the same."""

from __future__ import annotations

from typing import Any

from allauth.account.internal.flows.login import perform_login, record_authentication
from allauth.account.models import Login
from django import forms
from django.contrib.auth.forms import BaseUserCreationForm
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView
from django.views.generic.edit import FormView

from apps.access import invitations
from apps.access.invitations import IN_SESSION, Offer
from apps.access.logins import proof, sso
from apps.access.logins.frame import Framed, frame_of
from apps.tenants.models import User


@never_cache
def follow(request: HttpRequest, token: str) -> HttpResponse:
    """Put the token into the session, so that no address that is shown, sent on or logged holds it."""
    offer = invitations.offer_of(token) if request.method == "GET" else None
    if offer is None or not _is_for(request, offer):
        return dead(request)
    request.session[IN_SESSION] = token
    return HttpResponseRedirect(reverse("invitation_opened"))


def _is_for(request: HttpRequest, offer: Offer) -> bool:
    user = request.user
    return not isinstance(user, User) or user.email.lower() == offer.email


def dead(request: HttpRequest) -> HttpResponse:
    context = {**frame_of(request), "title": "This invitation does not work"}
    return TemplateResponse(request, "admin/invitations/dead.html", context, status=404).render()


class Opened(Framed, TemplateView):
    """Accept as the one who is logged in; log in first, or make an account."""

    template_name = "admin/invitations/opened.html"
    offer: Offer

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        offer = invitations.offered(request)
        if offer is None or not _is_for(request, offer):
            return dead(request)
        self.offer = offer
        return super().dispatch(request, *args, **kwargs)

    def post(self, request: HttpRequest) -> HttpResponse:
        return redirect("admin:index") if invitations.accept(request, self.offer) else dead(request)

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        offer = self.offer
        return super().get_context_data(
            **{
                "title": f"Join {offer.tenant.name}",
                "offer": offer,
                "role": offer.invitation.get_role_display(),
                "has_account": invitations.has_account(offer.email),
                "single_sign_on": sso.name() if sso.is_welcome(offer.email) else "",
                **context,
            }
        )


class NewAccountForm(BaseUserCreationForm):  # type: ignore[type-arg]
    name = forms.CharField(max_length=150, required=False, label="Your name")

    class Meta:
        model = User
        fields = ("name",)
        field_classes: dict[str, Any] = {}


class NewAccount(Opened, FormView):  # type: ignore[type-arg]
    """For the address of the invitation, where nobody has an account with it."""

    form_class = NewAccountForm
    template_name = "admin/invitations/new_account.html"
    deed = "Make the account"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        offer = invitations.offered(request)
        if (
            offer is not None
            and _is_for(request, offer)
            and (request.user.is_authenticated or invitations.has_account(offer.email))
        ):
            return redirect("invitation_opened")
        return super().dispatch(request, *args, **kwargs)

    def get_form_kwargs(self) -> dict[str, Any]:
        # The address before the passwords are looked at: they must not resemble it.
        return {**super().get_form_kwargs(), "instance": User(email=self.offer.email)}

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return FormView.post(self, request, *args, **kwargs)

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            user = form.save()
            proof.doubt(user)
        record_authentication(self.request, user, "password", email=user.email)
        login = Login(user=user, redirect_url=reverse("invitation_opened"))
        response: HttpResponse = perform_login(self.request, login)
        return response
