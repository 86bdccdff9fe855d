"""The admin of people: users for operators, tenants with their members, end users. Keys are in admin_keys."""

from __future__ import annotations

import zoneinfo
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminSelect2Widget

from apps.tenants import admin_audit as admin_audit  # noqa: PLC0414 - registers the audit log
from apps.tenants import admin_keys as admin_keys  # noqa: PLC0414 - registers the admin of keys
from apps.tenants import lookups, taking_back
from apps.tenants.admin_access import ANALYSTS, is_operator
from apps.tenants.admin_acting import acting_of
from apps.tenants.admin_base import OperatorAdmin, Page, ReadOnlyTenantAdmin
from apps.tenants.admin_members import MemberInline
from apps.tenants.admin_words import ago, number
from apps.tenants.audit import actor_of
from apps.tenants.models import PLATFORM, EndUser, Membership, Tenant, User
from apps.tenants.scoping import tenant_scope
from chatbot.errors import ParleyError

admin.site.unregister(Group)  # rights follow from memberships

OPERATOR_HELP = "Runs the platform: sees every tenant, all users and the inference endpoints."


class NewUserForm(UserCreationForm):
    class Meta:
        model = User
        fields = ("email", "name")
        field_classes: dict[str, Any] = {}


class UserForm(UserChangeForm):
    class Meta:
        model = User
        fields = ("email", "name", "is_active", "is_superuser")
        field_classes: dict[str, Any] = {}
        labels = {"is_superuser": "Operator"}
        help_texts = {"is_superuser": OPERATOR_HELP, "is_active": "Without this, they cannot log in."}


@admin.register(User)
class UserAdmin(OperatorAdmin, DjangoUserAdmin):  # type: ignore[type-arg, misc]
    """Operators make accounts and set passwords; owners of a tenant add members by e-mail."""

    form = UserForm
    add_form = NewUserForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("email", "name", "kind", "member_of", "state", "last_seen")
    list_filter = ("is_superuser", "is_active")
    search_fields = ("email", "name")
    ordering = ("email",)
    filter_horizontal = ()
    readonly_fields = ("member_of", "last_seen")
    fieldsets = (
        (None, {"fields": ("email", "name", "password")}),
        ("Access", {"fields": ("is_active", "is_superuser", "member_of", "last_seen")}),
    )
    add_fieldsets: Any = ((None, {"fields": ("email", "name", "usable_password", "password1", "password2")}),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        rows: QuerySet[User] = super().get_queryset(request)
        return rows.prefetch_related("memberships__tenant") if acting_of(request).across else rows

    def get_list_display(self, request: HttpRequest) -> Any:
        return self._told(request, super().get_list_display(request))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        sections = super().get_fieldsets(request, obj)
        return [(title, {**rest, "fields": self._told(request, rest["fields"])}) for title, rest in sections]

    def _told(self, request: HttpRequest, fields: Any) -> list[Any]:
        """Whose members they are is asked through the operators' login."""
        return [name for name in fields if name != "member_of" or acting_of(request).across]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            return
        with tenant_scope(PLATFORM):  # which reads what was written just now
            if "is_active" in form.changed_data and not obj.is_active:
                taking_back.deactivate_user(obj, actor_of(request))
            elif "is_superuser" in form.changed_data and not obj.is_superuser:
                taking_back.sign_out_everywhere(obj, actor_of(request))

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        response: HttpResponse = super().user_change_password(request, id, form_url)
        if isinstance(response, HttpResponseRedirect) and request.method == "POST":
            self._sign_out(request, self.row(request, id))
        return response

    def _sign_out(self, request: HttpRequest, user: User) -> None:
        with tenant_scope(PLATFORM):
            user.refresh_from_db()
            taking_back.sign_out_everywhere(user, actor_of(request))
        if user == request.user:
            update_session_auth_hash(request, user)

    @display(description="Kind", label={"Operator": "primary"}, ordering="is_superuser")
    def kind(self, user: User) -> str:
        return "Operator" if user.is_superuser else "Member"

    @display(description="Member of", empty_value="no tenant")
    def member_of(self, user: User) -> str | None:
        return ", ".join(sorted(membership.tenant.name for membership in user.memberships.all())) or None

    @display(description="State", label={"Active": "success", "No password yet": "warning", "Deactivated": "danger"})
    def state(self, user: User) -> str:
        if not user.is_active:
            return "Deactivated"
        return "Active" if user.has_usable_password() else "No password yet"

    @display(description="Last login", ordering="last_login")
    def last_seen(self, user: User) -> str:
        return ago(user.last_login, "never")


class TenantFieldsForm(ModelForm):  # type: ignore[type-arg]
    time_zone = forms.ChoiceField(
        choices=[(name, name.replace("_", " ")) for name in sorted(zoneinfo.available_timezones())],
        initial="UTC",
        widget=UnfoldAdminSelect2Widget,
        help_text="In which its days begin and end.",
    )

    class Meta:
        model = Tenant
        fields = ("name", "slug", "time_zone", "conversation_days", "is_active")

    def clean_slug(self) -> str:
        slug: str = self.cleaned_data["slug"]
        # Other tenants' rows cannot be seen from here.
        own = None if self.instance._state.adding else self.instance.pk
        if lookups.tenant_named(slug) not in (None, own):
            raise forms.ValidationError("A tenant with this slug exists already.")
        return slug


class TenantsAdmin(Page):
    """Operators see all tenants; members see their own, and its owners change it. ops.admin registers it, with counts
    of what only the upper apps know."""

    form = TenantFieldsForm
    inlines = (MemberInline,)
    empty_hint = "A tenant is a customer of the platform: everything else belongs to one. Add the first."
    list_display: tuple[str, ...] = ("name", "state", "members", "since")
    list_filter = ("is_active",)
    search_fields = ("name", "slug")
    fields = ("name", "slug", "time_zone", "conversation_days", "is_active")
    prepopulated_fields = {"slug": ("name",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        rows: QuerySet[Tenant] = super().get_queryset(request)
        acting = acting_of(request)
        if not acting.across:
            rows = rows.filter(pk=acting.tenant_id) if acting.tenant_id else rows.none()
        # As a subquery, which Django leaves out where it only counts tenants.
        members = Membership.objects.filter(tenant=OuterRef("pk")).order_by().values("tenant")
        return rows.annotate(member_count=Coalesce(Subquery(members.annotate(count=Count("pk")).values("count")), 0))

    def has_add_permission(self, request: HttpRequest, _obj: Any = None) -> bool:
        return is_operator(request)

    def has_delete_permission(self, *_: Any) -> bool:
        # Deactivating stops a tenant at once and can be undone; its rows are too many for one request.
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if is_operator(request) else ("slug", "state")

    def get_fields(self, request: HttpRequest, _obj: Any = None) -> Any:
        return self.fields if is_operator(request) else ("name", "slug", "time_zone", "conversation_days", "state")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.pk = acting_of(request).tenant_id  # in whose scope the page runs already
        switched = change and "is_active" in form.changed_data
        if switched:
            obj.is_active = not obj.is_active  # as it is until the deed
        super().save_model(request, obj, form, change)
        if switched:
            switch = taking_back.suspend_tenant if obj.is_active else taking_back.resume_tenant
            switch(obj, actor_of(request))

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        formset.save(commit=False)
        # Owners come before owners go: a tenant always has one.
        changed = [membership for membership, _ in formset.changed_objects]
        for membership in sorted(changed, key=lambda each: each.role != Membership.Role.OWNER):
            taking_back.change_role(membership, membership.role, actor_of(request))
        for membership in formset.deleted_objects:
            taking_back.remove_member(membership, actor_of(request))
        # The deeds have written these down.
        formset.changed_objects, formset.deleted_objects = [], []

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except ParleyError as error:  # the last owner went between the form's check and the deed
            messages.error(request, error.message)
            return HttpResponseRedirect(request.get_full_path())

    def get_prepopulated_fields(self, _request: HttpRequest, obj: Any = None) -> Any:
        return {} if obj else self.prepopulated_fields  # a slug is in use once it was given

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        messages.info(request, f"{obj.name} has no members yet: invite its owner under Invitations.")
        response: HttpResponse = super().response_add(request, obj, post_url_continue)
        return response

    @display(description="State", label={"Active": "success", "Suspended": "danger"}, ordering="is_active")
    def state(self, tenant: Tenant) -> str:
        return "Active" if tenant.is_active else "Suspended"

    @display(description="Members", ordering="member_count")
    def members(self, tenant: Any) -> str:
        return number(tenant.member_count)

    @display(description="Since", ordering="created")
    def since(self, tenant: Tenant) -> str:
        return ago(tenant.created)


@admin.register(EndUser)
class EndUserAdmin(ReadOnlyTenantAdmin):
    read_by = ANALYSTS
    list_display = ("name", "first_seen")
    search_fields = ("external_id",)
    fields = ("name", "first_seen")
    readonly_fields = fields
    empty_hint = "People appear here with their first question: your application names them in `user`."

    @display(description="Name in your application", ordering="external_id")
    def name(self, end_user: EndUser) -> str:
        return end_user.external_id

    @display(description="First seen", ordering="created")
    def first_seen(self, end_user: EndUser) -> str:
        return ago(end_user.created)
