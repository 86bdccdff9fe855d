"""The members of a tenant, as a part of its page: they come by invitation, and once there was an owner one stays."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.decorators import display
from unfold.forms import PaginationInlineFormSet

from apps.tenants.admin_base import TenantTabularInline
from apps.tenants.admin_words import ago
from apps.tenants.models import Membership


class MemberFormSet(PaginationInlineFormSet):
    def clean(self) -> None:
        super().clean()
        if any(self.errors) or self.instance._state.adding:
            return
        kept = [form for form in self.forms if form not in self.deleted_forms]
        owners = Membership.objects.for_tenant(self.instance).filter(role=Membership.Role.OWNER)
        if owners.exists() and all(form.cleaned_data["role"] != Membership.Role.OWNER for form in kept):
            raise forms.ValidationError("A tenant needs an owner: make somebody else an owner first.")


class MemberInline(TenantTabularInline):
    model = Membership
    formset = MemberFormSet
    fields = ("person", "role", "since")
    readonly_fields = ("person", "since")
    verbose_name = "member"
    verbose_name_plural = "Members"

    def has_add_permission(self, request: Any, obj: Any = None) -> bool:
        return False  # nobody is made a member without agreeing

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).select_related("user")

    @display(description="E-mail")
    def person(self, membership: Membership) -> str:
        return membership.user.email

    @display(description="Member since")
    def since(self, membership: Membership) -> str:
        return ago(membership.created)
