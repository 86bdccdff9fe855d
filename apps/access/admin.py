"""Invitations in the admin: made and shown once, mailed where mail is set up, withdrawn. And what allauth registers for
itself, taken out again: nobody edits second factors by hand."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from unfold.decorators import action, display

from apps.access import invitations
from apps.tenants import audit
from apps.tenants.admin_base import TenantAdmin, TenantForm
from apps.tenants.admin_words import ago
from apps.tenants.models import Invitation, Membership

for model in (EmailAddress, Authenticator, SocialAccount, SocialApp, SocialToken, UserSession):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


class InvitationForm(TenantForm):
    class Meta:
        model = Invitation
        fields = ("email", "role")

    def clean_email(self) -> str:
        email = str(self.cleaned_data["email"]).lower()
        if Membership.objects.for_tenant(self.instance.tenant_id).filter(user__email__iexact=email).exists():
            self.add_error("email", "This person is a member already.")
        return email


@admin.register(Invitation)
class InvitationAdmin(TenantAdmin):
    form = InvitationForm
    empty_hint = "Members come by invitation: a link for one e-mail address that works once, for a week."
    list_display = ("email", "state", "role", "made_by", "made")
    list_select_related = ("invited_by",)
    list_filter = ("role",)
    search_fields = ("email",)
    readonly_fields = ("state", "made_by", "made")
    actions_detail: Any = ("withdraw",)
    actions_row: Any = ("withdraw",)

    def get_fields(self, _request: HttpRequest, obj: Invitation | None = None) -> Any:
        return ("email", "role", *self.readonly_fields) if obj else ("email", "role")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        own = super().get_readonly_fields(request, obj)
        return [*own, "email", "role"] if obj else own

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # withdrawn ones stay, to be seen

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        # A link made on the way to the next form would never be seen.
        context |= {"show_save_and_add_another": False, "show_save_and_continue": False, "show_save": not kwargs["obj"]}
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            return
        invited, link = invitations.invite(obj.tenant, email=obj.email, role=obj.role, by=request.user)  # type: ignore[arg-type]
        obj.__dict__.update(invited.__dict__)
        request._link = link  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: Invitation, post_url_continue: str | None = None) -> HttpResponse:
        """The only page that ever shows the link."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "The invitation",
            "link": request._link,  # type: ignore[attr-defined]
            "row": obj,
            "mailed": settings.PARLEY_MAIL,
            "list_url": reverse("admin:tenants_invitation_changelist"),
        }
        response = TemplateResponse(request, "admin/invitations/made.html", context)
        add_never_cache_headers(response)
        return response

    @action(  # type: ignore[operator]
        description="Withdraw",
        url_path="withdraw",
        icon="block",
        permissions=["change"],
        dialog={
            "title": "Withdraw this invitation?",
            "description": "Its link stops working at once. You can invite the same person again.",
            "form_class": None,
            "form_submit_text": "Withdraw",
        },
    )
    def withdraw(self, request: HttpRequest, _form: Any, object_id: str) -> HttpResponse:
        invitation = self.row(request, object_id)
        if invitations.withdraw(invitation):
            audit.record(invitation, "invitation.withdrawn", audit.actor_of(request), invitation)
            messages.success(request, f"The invitation to {invitation.email} is withdrawn.")
        else:
            messages.warning(request, f"The invitation to {invitation.email} was used or withdrawn before.")
        return HttpResponse(headers={"HX-Redirect": reverse("admin:tenants_invitation_changelist")})

    @display(
        description="State",
        label={"Pending": "warning", "Accepted": "success", "Expired": "danger", "Withdrawn": "danger"},
    )
    def state(self, invitation: Invitation) -> str:
        if invitation.accepted_at:
            return "Accepted"
        if invitation.withdrawn_at:
            return "Withdrawn"
        return "Expired" if invitation.expires_at <= timezone.now() else "Pending"

    @display(description="Invited by", ordering="invited_by__email")
    def made_by(self, invitation: Invitation) -> str:
        return str(invitation.invited_by or "–")

    @display(description="Invited", ordering="created")
    def made(self, invitation: Invitation) -> str:
        return ago(invitation.created)
