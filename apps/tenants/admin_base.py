"""The base of every admin page about a tenant's rows: people meet their own tenants' rows, and nothing tells of others.

A row of a foreign tenant answers exactly as an unknown id does, in pages, drop-downs, filters, searches and actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.db.models import Field, ForeignKey, ManyToManyField, Model, QuerySet
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.text import capfirst
from unfold.admin import ModelAdmin, StackedInline, TabularInline
from unfold.views import ChangeList

from apps.tenants.admin_access import Access, acts_for_several, tenants_of
from apps.tenants.admin_acting import acting_of
from apps.tenants.admin_auditing import Audited
from apps.tenants.admin_choices import offered_filters, within
from apps.tenants.admin_deletion import delete_for_all_tenants, summary_of_deletion
from apps.tenants.models import Tenant

__all__ = [
    "OperatorAdmin",
    "ReadOnlyTenantAdmin",
    "TenantAdmin",
    "TenantForm",
    "TenantStackedInline",
    "TenantTabularInline",
    "tenants_of",
]


MOST_OFFERED = 500  # tenants in a drop-down


class TenantForm(ModelForm):  # type: ignore[type-arg]
    """A form for a tenant's row. The tenant is no field of it: the page sets it before the row is validated."""

    tenant: Tenant | None = None  # set on the class, of which each request gets its own

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.tenant is not None and self.instance._state.adding:
            self.instance.tenant = self.tenant

    def _get_validation_exclusions(self) -> set[str]:
        # Django skips a constraint that names a field outside the form; most of ours name the tenant.
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        return excluded - {"tenant"}


class List(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.query and not self.has_active_filters:
            self.full_result_count = self.result_count  # so that the title does not offer to show all of what is shown


# unfold's annotations contradict Django's stubs.
class Page(Access, Audited, ModelAdmin):  # type: ignore[misc]
    """Lists and messages that are alike everywhere.

    empty_title, empty_hint: what an empty list says, and what to do about it.
    """

    empty_title = ""
    empty_hint = ""
    change_list_template = "admin/tenants/change_list.html"
    list_filter_submit = True
    show_full_result_count = False
    list_per_page = 50
    warn_unsaved_form = True

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return List

    def row(self, request: HttpRequest, object_id: str, *, to_write: bool = False) -> Any:
        """The row that an own page or action is about. Raises Http404, for an unknown id as for a foreign one, and
        PermissionDenied, whatever the id, where the person's role may not read or write such rows."""
        if not (self.permits(request, self.written_by) if to_write else self.has_view_permission(request)):
            raise PermissionDenied
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        return row

    @property
    def empty_words(self) -> tuple[str, str]:
        """Title and hint of an empty list."""
        plural = self.opts.verbose_name_plural
        return self.empty_title or f"No {plural} yet", self.empty_hint or f"{capfirst(plural)} will be listed here."

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        return offered_filters(self.model, super().get_list_filter(request))

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Only what the page offers as a filter: by default Django lets a URL probe every column."""
        column, *_ = lookup.split("__")
        if column in {field.name for field in self.opts.get_fields()}:
            paths = [entry[0] if isinstance(entry, tuple) else entry for entry in self.get_list_filter(request)]
            offered = {path.split("__")[0] for path in [*paths, self.date_hierarchy] if isinstance(path, str)}
            return column in offered and super().lookup_allowed(lookup, value, request)
        return super().lookup_allowed(lookup, value, request)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *where: Any) -> Any:
        try:
            for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(chosen)
        except ValidationError as error:  # Django would let it become a 500
            raise BadRequest from error
        return super().response_action(request, queryset, *where)

    def get_deleted_objects(self, objs: Any, _request: HttpRequest) -> Any:
        return summary_of_deletion(objs)

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, _opts: Any, _object_id: Any) -> HttpResponse:
        messages.warning(request, f"There is no such {self.opts.verbose_name} here. It may have been deleted.")
        if self.has_view_permission(request):
            return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))
        return HttpResponseRedirect(reverse("admin:index"))


class OperatorAdmin(Page):
    """The admin of what belongs to the platform and not to a tenant. Its pages read across all tenants."""

    operators_only = True

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # What tenants' rows refer to must be found among all of them.
        return acting_of(request).across and super().has_delete_permission(request, obj)

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        delete_for_all_tenants(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            self.delete_model(request, row)


class TenantScope(Access):
    """What pages and inlines of tenants' rows share: rows of these tenants, choices within the form's tenant."""

    form = TenantForm

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        acting = acting_of(request)
        if acting.across:
            return rows
        return rows.filter(tenant=acting.tenant_id) if acting.tenant_id else rows.none()

    def form_tenants(self, request: HttpRequest) -> Sequence[Tenant] | QuerySet[Tenant]:
        """Whose rows the form may refer to: its own tenant's, as soon as that is known."""
        tenant = getattr(request, "_form_tenant", None)
        return tenants_of(request) if tenant is None else [tenant]

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        kwargs.setdefault("queryset", self.choices(db_field, request))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: ManyToManyField[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        kwargs.setdefault("queryset", self.choices(db_field, request))
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def choices(self, db_field: Field[Any, Any], request: HttpRequest) -> QuerySet[Any]:
        """What a relation offers; anything else is refused as an unknown choice."""
        remote: type[Model] = db_field.remote_field.model  # type: ignore[union-attr]
        return within(remote._default_manager.all(), self.form_tenants(request))


class TenantAdmin(TenantScope, Page):  # type: ignore[misc]
    """The admin of a TenantOwned model; forms derive from TenantForm.

    An operator who looks at all tenants chooses one before the add form opens; it never changes afterwards.
    """

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        first, *others = super().get_list_display(request)
        return [first, "tenant", *others] if acts_for_several(request) else [first, *others]

    def get_list_select_related(self, request: HttpRequest) -> Any:
        related = super().get_list_select_related(request)
        if isinstance(related, bool):
            return related or (["tenant"] if acts_for_several(request) else False)
        return [*related, "tenant"]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        own = super().get_list_filter(request)
        return [*offered_filters(self.model, ["tenant"]), *own] if acts_for_several(request) else own

    def chosen_tenant(self, request: HttpRequest) -> Tenant | None:
        """Whose the row to be added will be: the one that the person acts for, or that an operator's URL names."""
        return acting_of(request).tenant

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if self.has_add_permission(request) and self.chosen_tenant(request) is None:
            return self._ask_for_tenant(request)
        response: HttpResponse = super().add_view(request, form_url, extra_context)
        return response

    def _ask_for_tenant(self, request: HttpRequest) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Add {self.opts.verbose_name}",
            "tenants": tenants_of(request).order_by("name")[:MOST_OFFERED],
            "kept": [(name, value) for name, value in request.GET.items() if name != "tenant"],
            "is_popup": "_popup" in request.GET,
        }
        return TemplateResponse(request, "admin/tenants/choose_tenant.html", context)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        tenant = obj.tenant if obj is not None else self.chosen_tenant(request)
        request._form_tenant = tenant  # type: ignore[attr-defined]
        if change and not self.has_change_permission(request, obj):
            kwargs["form"] = TenantForm  # a page's own form expects fields that are shown and not edited here
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.tenant = tenant
        return form

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*(super().get_exclude(request, obj) or ()), "tenant"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_readonly_fields(request, obj), *(["tenant"] if acts_for_several(request) else [])]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        (title, first), *others = super().get_fieldsets(request, obj)
        fields = [name for name in first["fields"] if name != "tenant"]
        if acts_for_several(request):
            fields.insert(0, "tenant")
        return [(title, {**first, "fields": fields}), *others]


class ReadOnlyTenantAdmin(TenantAdmin):
    """Rows that other doors write and people only read."""

    writable = False


class _TenantInline(TenantScope):
    """Rows of the same tenant as the one that they are edited with."""

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        formset: Any = super().get_formset(request, obj, **kwargs)  # type: ignore[misc]
        parent = getattr(request, "_form_tenant", None)
        formset.form.tenant = obj if isinstance(obj, Tenant) else getattr(obj, "tenant", parent)
        return formset


class TenantTabularInline(_TenantInline, TabularInline):  # type: ignore[misc]
    extra = 0


class TenantStackedInline(_TenantInline, StackedInline):  # type: ignore[misc]
    extra = 0
