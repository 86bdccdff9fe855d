"""Two tenants that have the same of everything, and what there is of each."""

from __future__ import annotations

import datetime
import uuid
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.utils import timezone
from psycopg import sql
from redis import Redis

from apps.access.models import IdempotencyKey
from apps.inference.models import Endpoint
from apps.knowledge.models import Collection
from apps.tenants import audit
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage.models import UsageRecord
from apps.webhooks.models import Webhook
from apps.widget import logos
from apps.widget.models import Widget
from tests.apps.conversations.test_removing import asked, turned_alone
from tests.apps.knowledge.ingesting import added, ingested, manual
from tests.factories import make_key, make_member, make_quota, make_tenant, make_upload

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def lived_in(slug: str, endpoint: Endpoint, create_collection: Any) -> Tenant:
    """A tenant with something in most tables, in the storage, and in both Redis."""
    tenant = make_tenant(slug, name='用户 "quoted"\n\\N')
    collection: Collection = create_collection(tenant, name="Manuals")
    ingested(tenant, added(tenant, collection, manual(3)))
    make_upload(tenant=tenant, collection=collection)
    now = timezone.now()
    conversation = asked(tenant, at=now)
    turned_alone(conversation, at=now)
    make_member(tenant=tenant, email=f"alice@{slug}.example")
    make_key(tenant=tenant)
    make_quota(tenant=tenant, level="tenant", metric="requests")
    Webhook.objects.create(tenant=tenant, url="https://hooks.example/", secret="whsec_secret", events=["turn.finished"])
    IdempotencyKey.objects.create(tenant=tenant, key="again", fingerprint="f" * 64)
    with tenant_scope(tenant):
        widget = Widget(tenant=tenant, assistant=conversation.assistant, identity_secret="identity_secret")
        logos.put(widget, PNG)
        widget.save()
    UsageRecord.objects.create(
        tenant=tenant,
        model="fake",
        state="settled",
        bill="once",
        settled_at=now,
        prompt_tokens=70,
        completion_tokens=7,
        cost="0.125",
        created=datetime.datetime(2026, 3, 31, 12, tzinfo=datetime.UTC),
    )
    audit.record(tenant, "key.issued", audit.SYSTEM, tenant)
    _fill_redis(tenant)
    return tenant


def _fill_redis(tenant: Tenant) -> None:
    with Redis.from_url(settings.REDIS_URL) as shared, Redis.from_url(settings.CACHES["default"]["LOCATION"]) as cache:
        shared.xadd(f"parley:journal:{tenant.pk}:{uuid.uuid4()}", {"e": "[1, []]"})
        shared.set(f"quota:{tenant.pk}:1:since", "1")
        shared.zadd("quota:open", {f"{tenant.pk}|{uuid.uuid4()}": 1.0})
        shared.zadd("quota:refused", {f"{tenant.pk}|tenant|requests|day|0": 1.0})
        shared.set(f"visitor:{uuid.uuid4().hex}", f'{{"tenant_id": "{tenant.pk}"}}')
        cache.set(f"parley:question:{tenant.pk}:{uuid.uuid4().hex}", b"0000")


def dumped(superuser: psycopg.Connection[Any], tenant_id: uuid.UUID) -> dict[str, list[str]]:
    """Every row of a tenant as text, by table, past every policy."""
    tables = superuser.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE a.attname = 'tenant_id'"
        " AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace ORDER BY 1"
    ).fetchall()
    found = {"tenants_tenant": _texts(superuser, "tenants_tenant", "id", tenant_id)}
    return found | {name: _texts(superuser, name, "tenant_id", tenant_id) for (name,) in tables}


def _texts(superuser: psycopg.Connection[Any], table: str, column: str, tenant_id: uuid.UUID) -> list[str]:
    statement = sql.SQL("SELECT r::text FROM {} r WHERE {} = %s ORDER BY 1")
    rows = superuser.execute(statement.format(sql.Identifier(table), sql.Identifier(column)), [tenant_id])
    return [text for (text,) in rows]


def files(tenant_id: uuid.UUID) -> dict[str, bytes]:
    root = Path(settings.MEDIA_ROOT)
    paths = [path for path in root.rglob("*") if str(tenant_id) in str(path) and path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def keys(tenant_id: uuid.UUID) -> set[str]:
    """Names of keys and members, and values, that name the tenant."""
    found: set[str] = set()
    for url in (settings.REDIS_URL, settings.CACHES["default"]["LOCATION"]):
        with Redis.from_url(url, decode_responses=True) as client:
            for key in client.scan_iter():
                held = [key]
                if client.type(key) == "zset":
                    held += client.zrange(key, 0, -1)
                elif client.type(key) == "string":
                    held.append(client.get(key))
                found |= {f"{key} {one}" for one in held if str(tenant_id) in one}
    return found
