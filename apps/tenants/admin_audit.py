"""The audit log in the admin, for owners and operators: one sentence for each deed, to be read and never written."""

from __future__ import annotations

import datetime as dt
import json
import zoneinfo
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.contrib.filters.admin import DropdownFilter, RangeDateFilter
from unfold.decorators import display

from apps.tenants.admin_access import acts_for_several
from apps.tenants.admin_base import ReadOnlyTenantAdmin
from apps.tenants.admin_words import NOTHING
from apps.tenants.models import PLATFORM, AuditEntry, Tenant

# Further ones are found by the filters. Counting millions would take longer than reading a page.
MOST_LISTED = 10_000

# What somebody did, where it is more than the action's last word: "Alice changed the role of member Bob".
PHRASES = {
    "member.role_changed": "changed the role of",
    "operator.entered": "entered, as an operator,",
    "operator.looked_across": "looked, as an operator, at all tenants",
    "login.succeeded": "logged in",
    "login.failed": "failed to log in",
    "invitation.accepted": "accepted the invitation and became",
    "second_factor.added": "added a second factor",
    "second_factor.removed": "removed a second factor",
    "second_factor.recovery_codes_made": "made new recovery codes",
    "webhook.secret_rotated": "made a new secret for",
    "audit.verified": "verified the audit log",
}
KINDS = {
    "key": "API keys",
    "application": "Applications",
    "login": "Logins",
    "member": "Members",
    "invitation": "Invitations",
    "second_factor": "Second factors",
    "operator": "Operators",
    "tenant": "Tenants",
    "assistant": "Assistants",
    "prompt": "Prompts",
    "collection": "Collections",
    "document": "Documents",
    "webhook": "Webhooks",
    "endpoint": "Endpoints",
    "user": "Users",
    "secrets": "Encryption",
}


def sentence(entry: AuditEntry) -> SafeString:
    """ "Alice (203.0.113.7) revoked API key Website"."""
    who = format_html("<strong>{}</strong>", entry.actor_label)
    where = f" ({entry.address})" if entry.address else ""
    noun, _, verb = entry.action.rpartition(".")
    phrase = PHRASES.get(entry.action)
    if phrase is None:
        phrase = verb.replace("_", " ") + ("" if entry.row_type else f" {noun.replace('_', ' ')}")
    return format_html("{}{} {} {} <strong>{}</strong>", who, where, phrase, _noun(entry.row_type), entry.row_label)


def _noun(row_type: str) -> str:
    """What people call such rows; a type of a former version keeps its name."""
    try:
        return str(apps.get_model(row_type)._meta.verbose_name)
    except (LookupError, ValueError):
        return row_type.rpartition(".")[2]


class KindFilter(DropdownFilter):
    title = "what it is about"
    parameter_name = "about"

    def lookups(self, _request: HttpRequest, _page: Any) -> list[tuple[str, str]]:
        return list(KINDS.items())

    def queryset(self, _request: HttpRequest, rows: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        kind = self.value()
        # "/" follows "." in the alphabet: a range, which an index serves.
        return rows.filter(action__gt=f"{kind}.", action__lt=f"{kind}/") if kind in KINDS else rows


class DaysFilter(RangeDateFilter):
    """unfold's own compares times with naive ones, and leaves the last day out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = "day (UTC)"

    def queryset(self, _request: HttpRequest, rows: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        if since := self._midnight("from"):
            rows = rows.filter(at__gte=since)
        if until := self._midnight("to", days_later=1):
            rows = rows.filter(at__lt=until)
        return rows

    def _midnight(self, end: str, days_later: int = 0) -> dt.datetime | None:
        """None where no day was given, or none of the calendar's."""
        try:
            day = dt.date.fromisoformat(str(self.used_parameters.get(f"at_{end}", "")))
            return dt.datetime.combine(day, dt.time.min, dt.UTC) + dt.timedelta(days=days_later)
        except (ValueError, OverflowError):
            return None


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[:MOST_LISTED].count())


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyTenantAdmin):
    paginator = BoundedPaginator
    empty_title = "Nothing has been recorded yet"
    empty_hint = "Who changes keys, members, assistants, prompts, documents or webhooks is written down here."
    list_display = ("what", "action", "when")
    list_filter = (KindFilter, "actor_kind", ("at", DaysFilter))
    search_fields = ("actor_label", "action", "row_label", "address")
    search_help_text = "A name, an address, an action, or a row's id"
    sortable_by = ()
    ordering = ("-at", "-id")
    readonly_fields = (
        "what", "when", "action", "who", "address", "row", "details", "request_id", "place", "hash_hex", "previous_hex",
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": ("what", "when", "action", "who", "address", "row", "details", "request_id")}),
        ("In the chain", {"fields": ("place", "hash_hex", "previous_hex")}),
    )

    class Media:
        css = {"all": ["admin/parley/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        # Beside the row and not by a join: the platform's own entries and those of deleted tenants have no tenant.
        tenant = Tenant.objects.filter(pk=OuterRef("tenant_id"))
        named = {"tenant_name": Subquery(tenant.values("name")), "time_zone": Subquery(tenant.values("time_zone"))}
        rows: QuerySet[AuditEntry] = super().get_queryset(request)
        return rows.annotate(**named)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        first, *others = self.list_display
        return [first, "whose", *others] if acts_for_several(request) else [first, *others]

    def get_list_select_related(self, request: HttpRequest) -> Any:
        return False

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        entry: Any = super().get_object(request, object_id, from_field)
        if entry is not None:
            # What pages of tenants' rows ask for; it need not exist (any more).
            name = entry.tenant_name or _name_of(entry)
            entry.tenant = Tenant(pk=entry.tenant_id, name=name, time_zone=entry.time_zone or "UTC")
        return entry

    def get_search_results(self, request: HttpRequest, rows: QuerySet[Any], words: str) -> tuple[QuerySet[Any], bool]:
        if len(words) == len(str(PLATFORM)) and words.count("-") == 4:
            return rows.filter(row_id=words.lower()), False  # by an index
        found: tuple[QuerySet[Any], bool] = super().get_search_results(request, rows, words)
        return found

    @display(description="What happened")
    def what(self, entry: AuditEntry) -> SafeString:
        return sentence(entry)

    @display(description="Tenant")
    def whose(self, entry: Any) -> str:
        return entry.tenant_name or _name_of(entry)

    @display(description="When")
    def when(self, entry: Any) -> str:
        local = entry.at.astimezone(zoneinfo.ZoneInfo(entry.time_zone or "UTC"))
        return f"{local:%d %b %Y, %H:%M:%S %Z}"

    @display(description="Who")
    def who(self, entry: AuditEntry) -> SafeString:
        kind = str(entry.get_actor_kind_display()).lower()
        return format_html("{} ({}) {}", entry.actor_label, kind, _exact(entry.actor_id))

    @display(description="Row")
    def row(self, entry: AuditEntry) -> SafeString | str:
        if not entry.row_type:
            return NOTHING
        return format_html("{} {} {}", capfirst(_noun(entry.row_type)), entry.row_label, _exact(entry.row_id))

    @display(description="Details")
    def details(self, entry: AuditEntry) -> SafeString | str:
        lines = ((name.replace("_", " "), _told(value)) for name, value in entry.facts.items())
        return format_html_join("", '<div class="mb-1">{}: {}</div>', lines) or NOTHING

    @display(description="Entry")
    def place(self, entry: AuditEntry) -> str:
        return f"number {entry.seq:,}"

    @display(description="Hash")
    def hash_hex(self, entry: AuditEntry) -> SafeString:
        return _exact(bytes(entry.hash).hex())

    @display(description="Hash before")
    def previous_hex(self, entry: AuditEntry) -> SafeString | str:
        return _exact(bytes(entry.previous).hex()) if entry.previous else "none: it begins the chain"


def _name_of(entry: AuditEntry) -> str:
    return "The platform" if entry.tenant_id == PLATFORM else "A deleted tenant"


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def _exact(text: str) -> SafeString:
    """What is compared and searched for, and not read."""
    return format_html('<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{}</pre>', text)
