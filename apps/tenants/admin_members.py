"""The members of a tenant, as a part of its page: added by e-mail, never fewer than one owner once there was one."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.decorators import display
from unfold.forms import PaginationInlineFormSet
from unfold.widgets import UnfoldAdminEmailInputWidget

from apps.tenants.admin_base import TenantForm, TenantTabularInline
from apps.tenants.admin_words import ago
from apps.tenants.models import Membership, User


class MemberForm(TenantForm):
    """An unknown address gets an account without a password. Whether one was known is not told: that is not the
    tenant's business."""

    email = forms.EmailField(label="E-mail", max_length=254, widget=UnfoldAdminEmailInputWidget())

    class Meta:
        model = Membership
        fields = ("role",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.fields["email"].initial = self.instance.user.email
            self.fields["email"].disabled = True

    def clean_email(self) -> str:
        email = str(self.cleaned_data["email"]).lower()
        if self.instance._state.adding:
            members = Membership.objects.for_tenant(self.instance.tenant_id)
            if members.filter(user__email__iexact=email).exists():
                raise forms.ValidationError("This person is a member already.")
        return email

    def save(self, commit: bool = True) -> Any:
        if self.instance._state.adding:
            email = self.cleaned_data["email"]
            self.instance.user = User.objects.filter(email__iexact=email).first() or User.objects.create_user(email)
        return super().save(commit)


class MemberFormSet(PaginationInlineFormSet):
    def clean(self) -> None:
        super().clean()
        if any(self.errors):
            return
        kept = [form for form in self.forms if form not in self.deleted_forms and form.cleaned_data.get("email")]
        emails = [form.cleaned_data["email"] for form in kept]
        if len(set(emails)) < len(emails):
            raise forms.ValidationError("The same person cannot be added twice.")
        if self.instance._state.adding:
            return
        owners = Membership.objects.for_tenant(self.instance).filter(role=Membership.Role.OWNER)
        if owners.exists() and all(form.cleaned_data["role"] != Membership.Role.OWNER for form in kept):
            raise forms.ValidationError("A tenant needs an owner: make somebody else an owner first.")


class MemberInline(TenantTabularInline):
    model = Membership
    form = MemberForm
    formset = MemberFormSet
    fields = ("email", "role", "since")
    readonly_fields = ("since",)
    verbose_name = "member"
    verbose_name_plural = "Members"

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).select_related("user")

    @display(description="Member since")
    def since(self, membership: Membership) -> str:
        return "" if membership._state.adding else ago(membership.created)
