"""What can happen to a webhook: it is registered, changed, given another secret, switched off and deleted."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from apps.tenants.models import Tenant, User
from apps.tenants.scoping import tenant_scope
from apps.webhooks import signing
from apps.webhooks.models import Delivery, Webhook
from chatbot.addresses import check_url
from chatbot.errors import InvalidRequest, NotFound

log = structlog.get_logger(__name__)

# Each of them gets each event, so one question could set off any number of requests.
MOST_WEBHOOKS = 20
# Long enough to change the secret at the receiver, whenever somebody gets round to it.
ROTATION = datetime.timedelta(hours=24)
# A webhook's log takes longer to delete than an ordinary statement may.
DELETE_TIMEOUT = "60s"
# Of upper apps, so by name.
_MODELS = {"assistants": "assistants.Assistant", "collections": "knowledge.Collection"}


def check_address(url: str) -> str:
    """Return an address that events may be sent to. Raises InvalidRequest; names are looked up when it is sent to."""
    allowed = settings.PARLEY_PRIVATE_WEBHOOK_HOSTS
    check_url(url, allowed=allowed)
    parts = urlsplit(url)
    if parts.scheme != "https" and not settings.LOCAL and parts.hostname not in allowed:
        raise InvalidRequest("Events are sent over https:// only.")
    return url


def choices(tenant: Tenant, kind: str) -> QuerySet[Any]:
    """The tenant's "assistants" or "collections", which a webhook can be restricted to."""
    rows: QuerySet[Any] = apps.get_model(_MODELS[kind])._default_manager.filter(tenant=tenant).order_by("name")
    return rows


def own(tenant: Tenant, kind: str, ids: Iterable[uuid.UUID], *, known: Iterable[uuid.UUID] = ()) -> list[uuid.UUID]:
    """These ids of assistants or collections, once each. Raises InvalidRequest for one that is neither the tenant's nor
    `known`: what was chosen earlier may have been deleted since."""
    wanted = list(dict.fromkeys(ids))
    new = set(wanted) - set(known)
    if choices(tenant, kind).filter(pk__in=new).count() != len(new):
        raise InvalidRequest(fields={kind: f"These are not all {kind} of yours."})
    return wanted


def register(tenant: Tenant, *, created_by: User | None = None, **fields: Any) -> Webhook:
    """A new webhook with a secret. Raises InvalidRequest (with fields) for an address, ids or a number too many."""
    with tenant_scope(tenant):
        checked = _checked(tenant, None, fields)
        # The tenant's row keeps those out who count at the same time.
        Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
        if Webhook.objects.for_tenant(tenant).count() >= MOST_WEBHOOKS:
            raise InvalidRequest(f"There can be {MOST_WEBHOOKS} webhooks. Delete one first.")
        made: Webhook = Webhook.objects.create(
            tenant=tenant, secret=signing.new_secret(), created_by=created_by, **checked
        )
    return made


def change(webhook: Webhook, **fields: Any) -> None:
    """Change what its owner decides; switched on, it starts with a clean slate.

    Raises as register() does, and NotFound.
    """
    tenant = webhook.tenant
    with tenant_scope(tenant):
        checked = _checked(tenant, webhook, fields)
        current = _locked(webhook)
        if checked.get("enabled") and not current.enabled:
            checked |= {"failures": 0, "failing_since": None, "disabled_at": None, "disabled_reason": ""}
        if checked:
            Webhook.objects.for_tenant(tenant).filter(pk=webhook.pk).update(**checked)
        if checked.get("enabled") is False:
            _drop_pending(current)
        webhook.refresh_from_db()


def _locked(webhook: Webhook) -> Webhook:
    """The row as it is now, locked. Raises NotFound where it was deleted meanwhile."""
    current: Webhook | None = (
        Webhook.objects.for_tenant(webhook.tenant_id).select_for_update().filter(pk=webhook.pk).first()
    )
    if current is None:
        raise NotFound
    return current


def _checked(tenant: Tenant, webhook: Webhook | None, fields: dict[str, Any]) -> dict[str, Any]:
    checked = dict(fields)
    try:
        if "url" in fields:
            check_address(fields["url"])
    except InvalidRequest as error:
        raise InvalidRequest(fields={"url": error.message}) from error
    for kind in _MODELS.keys() & fields.keys():
        checked[kind] = own(tenant, kind, fields[kind], known=getattr(webhook, kind, ()))
    return checked


def rotate_secret(webhook: Webhook) -> None:
    """Give it a new secret; for ROTATION, messages are signed with both."""
    with tenant_scope(webhook):
        # Under a lock, or of two at once the second would end the secret that the receiver knows.
        current = _locked(webhook)
        webhook.secret, webhook.previous_secret = signing.new_secret(), current.secret
        webhook.previous_secret_until = timezone.now() + ROTATION
        webhook.save(update_fields=["secret", "previous_secret", "previous_secret_until"])


def disable(webhook: Webhook, reason: str) -> None:
    """Switch it off because of what its receiver does; call it in the transaction that says what that was."""
    now = timezone.now()
    rows = Webhook.objects.for_tenant(webhook.tenant_id).filter(pk=webhook.pk, enabled=True)
    if rows.update(enabled=False, disabled_at=now, disabled_reason=reason):
        _drop_pending(webhook)
        log.warning("webhook.disabled", webhook=str(webhook.pk), reason=reason)


def _drop_pending(webhook: Webhook) -> None:
    """What still waits fails: days later nobody would expect it. Its log keeps it, to be delivered again."""
    waiting = Delivery.objects.for_tenant(webhook.tenant_id).filter(webhook=webhook, status=Delivery.Status.PENDING)
    waiting.update(status=Delivery.Status.FAILED, error="The webhook was switched off before this was delivered.")


def delete(webhook: Webhook) -> None:
    """Delete it with its log."""
    rows = Webhook.objects.for_tenant(webhook.tenant_id).filter(pk=webhook.pk)
    with tenant_scope(webhook):
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [DELETE_TIMEOUT])
        # Locked, so that nothing is announced to it between the two deletions.
        if rows.select_for_update().exists():
            Delivery.objects.for_tenant(webhook.tenant_id).filter(webhook=webhook).order_by()._raw_delete("default")
            rows.delete()
