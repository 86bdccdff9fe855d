"""The usage page: what a period came to, day by day, who used most, what the month will come to, and tables to take."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from apps.tenants.admin_acting import acting_of
from apps.tenants.admin_words import number
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage import download
from apps.usage.forecast import Forecast, first_day_needed, forecast
from apps.usage.keeping import kept
from apps.usage.most_used import of_all_tenants, who_used_most
from apps.usage.naming import OF_TENANTS, names_of
from apps.usage.refusals import of_bytes
from apps.usage.reports import add_up, add_up_by

URL = "admin:usage_overview"
PERIODS = {
    "month": "This month",
    "last_month": "Last month",
    "30": "30 days",
    "90": "90 days",
    "365": "12 months",
}
MEASURES = {"tokens": "Tokens", "requests": "Requests", "cost": "Cost"}
EXPORTS = {
    "day": "by day",
    "tenant": "by tenant",
    "assistant": "by assistant",
    "key": "by API key",
    "client": "by application",
    "user": "by end user",
    "model": "by model",
    "kind": "by kind",
}
MOST = 5  # consumers of a kind
# Title, what it is added up by, and what is meant by none.
CONSUMERS = (
    ("Tenants", "tenant", ""),
    ("Models", "model", "No model answered"),
    ("Assistants", "assistant", "No assistant"),
    ("API keys", "key", "No key, or a deleted one"),
    ("End users", "user", ""),
)
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Period:
    """today: where the days are those of the tenant, or of UTC for all of them."""

    name: str
    first: dt.date
    last: dt.date
    now: dt.datetime

    @property
    def label(self) -> str:
        return f"{self.first:%-d %B %Y} to {self.last:%-d %B %Y}"


@dataclass(frozen=True, slots=True)
class Consumer:
    """share: of the period's tokens, in percent."""

    name: str
    tenant: str
    tokens: str
    requests: str
    cost: str
    share: float


def overview_page(admin: Any, request: HttpRequest) -> HttpResponse:
    """admin: the page of the ledger, which says who may look."""
    if not admin.has_view_permission(request):
        raise PermissionDenied
    tenant = acting_of(request).tenant
    period = _period(request)
    measure = request.GET.get("show", "")
    measure = measure if measure in MEASURES else "tokens"
    # One question for the page's days and for those that the forecast needs.
    since = min(period.first, first_day_needed(period.now.date()))
    days = {
        dt.date.fromisoformat(day["key"]): day
        for day in add_up(tenant, since, max(period.last, period.now.date()), "day").groups
    }
    shown = [period.first + n * _DAY for n in range((period.last - period.first).days + 1)]
    total = _total(days[day] for day in shown if day in days)
    context = {
        **admin.admin_site.each_context(request),
        "title": "Usage",
        "kept": _kept(tenant),
        "period": period,
        "periods": [
            _link(name, label, period.name, {"period": name, "show": measure}) for name, label in PERIODS.items()
        ],
        "measures": [
            _link(name, label, measure, {"period": period.name, "show": name}) for name, label in MEASURES.items()
        ],
        "measure": MEASURES[measure],
        "exports": [
            (label, f"{reverse('admin:usage_export')}?{urlencode({'period': period.name, 'by': by})}")
            for by, label in EXPORTS.items()
            if _is_told(by, tenant)
        ],
        "total": total,
        "cost": money(total["cost"]),
        "chart": json.dumps(_chart(shown, days, measure)),
        "consumers": _consumers(tenant, period, total["total_tokens"]) if total["requests"] else [],
        "forecast": _in_words(forecast(days, period.now)),
        "month": f"{period.now:%B}",
        "zone": tenant.time_zone if tenant else "in each tenant's own zone",
        "across": tenant is None,
        "ledger_url": reverse("admin:usage_usagerecord_changelist"),
    }
    return TemplateResponse(request, "admin/usage/overview.html", context)


def export_page(admin: Any, request: HttpRequest) -> HttpResponseBase:
    """The same period as CSV, by whatever is asked for."""
    if not admin.has_view_permission(request):
        raise PermissionDenied
    tenant = acting_of(request).tenant
    by = request.GET.get("by", "day")
    if by not in EXPORTS or not _is_told(by, tenant):
        raise BadRequest
    period = _period(request)
    return download.as_csv(tenant, period.first, period.last, by)


def money(amount: Decimal) -> str:
    """Two decimals, and as many as it takes where it is less than one of them."""
    if amount and abs(amount) < Decimal("0.01"):
        return f"{amount:.8f}".rstrip("0")
    return f"{amount:,.2f}"


def _kept(tenant: Tenant | None) -> str:
    """Of one tenant: of all together they are too many to count for a page."""
    if tenant is None:
        return ""
    with tenant_scope(tenant):
        now = kept(tenant)
    return f"{number(now.documents)} documents are kept, {of_bytes(now.bytes)}"


def _is_told(by: str, tenant: Tenant | None) -> bool:
    """People are told of within their tenant: there may be millions of sums of them in all, more than a page can add
    up."""
    return by != ("tenant" if tenant else "user")


def _period(request: HttpRequest) -> Period:
    tenant = acting_of(request).tenant
    now = timezone.now().astimezone(ZoneInfo(tenant.time_zone) if tenant else dt.UTC)
    today = now.date()
    name = request.GET.get("period", "")
    match name:
        case "last_month":
            last = today.replace(day=1) - _DAY
            return Period(name, last.replace(day=1), last, now)
        case "30" | "90" | "365":
            return Period(name, today - (int(name) - 1) * _DAY, today, now)
        case _:
            return Period("month", today.replace(day=1), today, now)


def _link(name: str, label: str, chosen: str, query: dict[str, str]) -> dict[str, Any]:
    return {"label": label, "url": f"?{urlencode(query)}", "chosen": name == chosen}


def _total(days: Iterable[dict[str, Any]]) -> dict[str, Any]:
    names = ("requests", "unsettled", "prompt_tokens", "completion_tokens", "total_tokens", "pages")
    total: dict[str, Any] = {**dict.fromkeys(names, 0), "cost": Decimal(0), "loss": 0, "none": 0}
    for day in days:
        for name in (*names, "cost"):
            total[name] += day[name]
        total["loss"] += day["bills"]["loss"]
        total["none"] += day["bills"]["none"]
    return total


def _chart(shown: list[dt.date], days: dict[dt.date, dict[str, Any]], measure: str) -> dict[str, Any]:
    series = {
        "tokens": (
            ("In prompts", "prompt_tokens", "var(--color-primary-600)"),
            ("In answers", "completion_tokens", "var(--color-primary-300)"),
        ),
        "requests": (("Requests", "requests", "var(--color-primary-600)"),),
        "cost": (("Cost", "cost", "var(--color-primary-600)"),),
    }[measure]
    return {
        "labels": [f"{day:%-d %b}" for day in shown],
        "datasets": [
            {
                "label": label,
                "data": [float(days[day][name]) if day in days else 0 for day in shown],
                "backgroundColor": colour,
                "stack": "usage",
                "maxBarThickness": 32,
                "borderRadius": 2,
                "displayYAxis": True,
                "maxTicksXLimit": 12,
            }
            for label, name, colour in series
        ],
    }


def _consumers(tenant: Tenant | None, period: Period, tokens: int) -> list[tuple[str, list[Consumer]]]:
    """By title; tokens: of the whole period."""
    told = [(title, by, none) for title, by, none in CONSUMERS if _is_told(by, tenant)]
    days = period.first, period.last
    whose: dict[str, str] = {}
    if tenant:
        reports = add_up_by(tenant, *days, [by for _, by, _ in told if by != "user"], most=MOST)
        found = {by: report.groups for by, report in reports.items()}
        found["user"] = who_used_most(tenant, *days, MOST)
    else:
        found = of_all_tenants(*days, ["assistant", "key"], MOST)
        groups = [group for by, groups in found.items() if by != "tenant" for group in groups]
        whose = names_of("tenant", {group["tenant_id"] for group in groups})
    return [
        (
            title,
            [
                Consumer(
                    name=_name(group, by, none),
                    tenant=whose.get(str(group["tenant_id"]), "") if whose and by != "tenant" else "",
                    tokens=number(group["total_tokens"]),
                    requests=number(group["requests"]),
                    cost=money(group["cost"]),
                    share=100 * group["total_tokens"] / tokens if tokens else 0,
                )
                for group in found[by]
            ],
        )
        for title, by, none in told
    ]


def _name(group: dict[str, Any], by: str, none: str) -> str:
    if group["key"] is None:
        return none
    if by in OF_TENANTS and by != "user":
        return group["name"] or "Deleted"
    return str(group["key"])


def _in_words(found: Forecast | None) -> dict[str, str] | None:
    if found is None:
        return None
    return {
        "requests": number(_rounded(found.whole["requests"])),
        "tokens": number(_rounded(found.whole["total_tokens"])),
        "cost": money(found.whole["cost"]),
        "requests_a_day": number(_rounded(found.a_day["requests"])),
        "tokens_a_day": number(_rounded(found.a_day["total_tokens"])),
    }


def _rounded(estimate: Decimal) -> int:
    """To three digits: nobody knows more."""
    return int(Decimal(f"{estimate:.3g}"))
