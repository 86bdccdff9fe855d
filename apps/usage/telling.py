"""Tells of limits that were reached: the tenant's owners by mail, the operators by their webhook.

Rows say what is still to be told, and when to try next. Who dies between sending and saying so has it sent again, with
the same id: mail programs and receivers show it once.
"""

from __future__ import annotations

import datetime as dt
import uuid
from itertools import groupby
from typing import Any, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.template.loader import render_to_string
from django.urls import reverse

from apps.tenants.models import Membership, Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage.models import QuotaAlert
from apps.webhooks import operators
from apps.webhooks.models import Event

log = structlog.get_logger(__name__)

AGAIN: Final = dt.timedelta(minutes=5)  # a mail server takes ten seconds at most
GIVEN_UP: Final = dt.timedelta(days=1)  # later nobody can do anything about it
_To = Literal["mail_at", "operators_at"]


def tell(tenant_id: uuid.UUID) -> None:
    """Tell of all that is due."""
    for row in _claim(tenant_id, "operators_at"):
        if operators.hand_over(row.pk, Event.QUOTA_REACHED, _told_to_operators(row), at=row.created):
            _done(tenant_id, "operators_at", [row])
    with tenant_scope(tenant_id):
        tenant = Tenant.objects.get(pk=tenant_id)
        owners = Membership.objects.for_tenant(tenant).filter(role=Membership.Role.OWNER, user__is_active=True)
        addresses = list(owners.order_by("created").values_list("user__email", flat=True))
    # What was found at one look is one mail, and the same mail whenever it is sent.
    for moment, rows in groupby(_claim(tenant_id, "mail_at"), lambda row: row.created):
        together = list(rows)
        try:
            if addresses and tenant.is_active and settings.PARLEY_MAIL:
                _mail(tenant, addresses, together, moment)
        except OSError as error:  # smtplib's errors are such
            log.warning("quota.not_mailed", tenant=tenant.slug, error=type(error).__name__)
        else:
            _done(tenant_id, "mail_at", together)


def _claim(tenant_id: uuid.UUID, to: _To) -> list[QuotaAlert]:
    """What is due, for this worker alone until AGAIN has passed."""
    now = Now()  # PostgreSQL's, as in the rows
    with tenant_scope(tenant_id):
        due = QuotaAlert.objects.for_tenant(tenant_id).filter(**{f"{to}__lte": now})
        due.filter(created__lt=now - GIVEN_UP).update(**{to: None})
        rows = list(
            due.select_for_update(of=("self",)).select_related("tenant").order_by("created", "-threshold", "pk")
        )
        _of(tenant_id, rows).update(**{to: now + AGAIN})
    return rows


def _done(tenant_id: uuid.UUID, to: _To, rows: list[QuotaAlert]) -> None:
    with tenant_scope(tenant_id):
        _of(tenant_id, rows).update(**{to: None})


def _of(tenant_id: uuid.UUID, rows: list[QuotaAlert]) -> QuerySet[Any]:
    found: QuerySet[Any] = QuotaAlert.objects.for_tenant(tenant_id).filter(pk__in=[row.pk for row in rows])
    return found


def _told_to_operators(row: QuotaAlert) -> dict[str, Any]:
    return {"tenant": row.tenant.slug, **row.told_to_webhooks}


def _mail(tenant: Tenant, addresses: list[str], rows: list[QuotaAlert], moment: dt.datetime) -> None:
    """Raises OSError where no mail leaves."""
    name = " ".join(tenant.name.split())
    worst = max(row.threshold for row in rows)
    words = {
        "tenant": name,
        "rows": rows,
        "at": f"{moment.astimezone(ZoneInfo(tenant.time_zone)):%d %b %Y, %H:%M}",
        "link": settings.PARLEY_BASE_URL + reverse("admin:usage_quotaalert_changelist"),
    }
    how_much = "all" if worst == QuotaAlert.Threshold.ALL else "most"
    EmailMessage(
        f"{name} has used {how_much} of a limit on Parley",
        render_to_string("admin/usage/limits_mail.txt", words),
        None,
        addresses,
        headers={"Message-ID": f"<limits.{tenant.pk.hex}.{moment.timestamp():.6f}@{_domain()}>"},
    ).send()
    log.info("quota.mailed", tenant=tenant.slug, limits=len(rows), to=len(addresses))


def _domain() -> str:
    return urlsplit(settings.PARLEY_BASE_URL).hostname or "parley.invalid"
