"""A year of ledger: hundreds of tenants, one of them big, with assistants, keys and end users of their own.

Ids are made of what they are and a number, so that rows can name each other without being looked up.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from apps.assistants.models import Assistant
from apps.tenants.models import ApiKey, Tenant
from tests import factories
from tests.environment import Backends

TENANTS = 300
BIG = 0.3  # the first tenant's share of the rows
USERS, USERS_OF_BIG = 100, 20_000  # end users of a tenant; a few of them ask much, most ask little
ASSISTANTS = 6
KEYS = 4
MODELS = ("large", "small", "old")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo")
SLICE = 500_000

_PEOPLE = """
    INSERT INTO tenants_enduser (id, tenant_id, external_id, created)
    SELECT md5('user' || t.place || '-' || n)::uuid, t.id, 'person-' || n, now() - interval '1 year'
    FROM unnest(%s::uuid[]) WITH ORDINALITY AS t(id, place)
    CROSS JOIN LATERAL generate_series(0, CASE t.place WHEN 1 THEN %s ELSE %s END - 1) AS n
"""
# A row like another, but for what is said.
_COPY = """
    INSERT INTO {0} SELECT (jsonb_populate_record(r, changed)).* FROM {0} r, unnest(%s::jsonb[]) AS changed
    WHERE id = %s
"""
_LEDGER = """
    INSERT INTO usage_usagerecord (id, tenant_id, turn_id, kind, assistant_id, end_user_id, api_key_id, oauth_client_id,
        endpoint_id, model, state, bill, prompt_tokens, completion_tokens, estimated, cost, reserved_tokens,
        reserved_cost, created, settled_at)
    SELECT gen_random_uuid(), (%(tenants)s::uuid[])[tenant], gen_random_uuid(), 'turn',
        md5('assistant' || tenant || '-' || floor(%(assistants)s * power(random(), 2)))::uuid,
        md5('user' || tenant || '-' || floor(users * power(random(), 3)))::uuid,
        CASE WHEN with_key THEN md5('key' || tenant || '-' || floor(%(keys)s * random()))::uuid END,
        CASE WHEN NOT with_key THEN md5('client' || tenant)::uuid END,
        endpoint, model, 'settled', bill,
        CASE WHEN billed THEN 1500 + floor(1000 * random()) ELSE 0 END,
        CASE WHEN billed THEN 50 + floor(300 * random()) ELSE 0 END,
        false, CASE WHEN billed THEN 0.001 + 0.001 * random() ELSE 0 END, 0, 0, created, created + interval '4 s'
    FROM (
        SELECT *, bill IN ('once', 'delivered') AS billed, (%(endpoints)s::uuid[])[served] AS endpoint,
            (%(models)s::text[])[served] AS model,
            CASE tenant WHEN 1 THEN %(users_of_big)s ELSE %(users)s END AS users
        FROM (
            SELECT
                CASE WHEN random() < %(big)s THEN 1
                ELSE 2 + floor((%(count)s - 1) * power(random(), 2))::int END AS tenant,
                random() < 0.8 AS with_key, 1 + floor(3 * power(random(), 2))::int AS served,
                CASE WHEN random() < 0.95 THEN 'once' ELSE (ARRAY['delivered', 'loss', 'none'])[1 + floor(3 * random())]
                END AS bill,
                now() - interval '365 days' * (1 - (%(first)s + n) / %(rows)s::float) AS created
            FROM generate_series(1, %(slice)s) AS n
        ) drawn
    ) given
"""
_INDEXES = """
    SELECT indexname, indexdef, conname FROM pg_indexes LEFT JOIN pg_constraint ON conname = indexname
    WHERE tablename = 'usage_usagerecord' AND coalesce(contype, '') <> 'p'
"""
# Whatever is lost is loaded again. In 64 MB an index of ten million rows is sorted on disk many times over.
_FOR_LOADING = ("ALTER TABLE usage_usagerecord SET UNLOGGED", "SET maintenance_work_mem = '1GB'")
# Test clusters have a policy more than production, which is asked for each row (tests/all_tenants.py).
_TESTS_POLICIES = """
    SELECT polrelid::regclass::text FROM pg_policy
    WHERE polname = 'tests' AND polrelid::regclass::text ~ '^(usage_|tenants_enduser|tenants_apikey)'
"""


def load(servers: Backends, rows: int) -> list[Tenant]:
    """Fill an empty database; the tenants, the biggest first."""
    tenants = [factories.make_tenant(f"usage-{n}", time_zone=ZONES[n % len(ZONES)]) for n in range(TENANTS)]
    endpoints = [factories.make_endpoint(name=f"usage {name}", model=name) for name in MODELS]
    _make_programs(servers, tenants)
    execute = servers.superuser.execute
    ids = [tenant.pk for tenant in tenants]
    execute(_PEOPLE, (ids, USERS_OF_BIG, USERS))
    given = {"tenants": ids, "endpoints": [each.pk for each in endpoints], "models": list(MODELS), "rows": rows}
    given |= {"count": TENANTS, "big": BIG, "users": USERS, "users_of_big": USERS_OF_BIG}
    given |= {"assistants": ASSISTANTS, "keys": KEYS}
    for setting in _FOR_LOADING:
        execute(setting)
    # Each row would go into each index at a place of its own; made afterwards they are sorted once.
    indexes = [(name, text) for name, text, constraint in execute(_INDEXES).fetchall() if not constraint]
    for name, _ in indexes:
        execute(f"DROP INDEX {name}")
    for first in range(0, rows, SLICE):
        execute(_LEDGER, given | {"first": first, "slice": min(SLICE, rows - first)})
        print(f"  {min(first + SLICE, rows):,} rows", flush=True)
    for _, definition in indexes:
        execute(definition)
    for (table,) in execute(_TESTS_POLICIES).fetchall():
        execute(f"DROP POLICY tests ON {table}")
    execute("VACUUM ANALYZE")
    return tenants


def _make_programs(servers: Backends, tenants: Sequence[Tenant]) -> None:
    """Assistants and keys, as copies of one that the product made."""
    assistant = factories.make_assistant(tenant=tenants[0])
    key = ApiKey.objects.get(key_id=factories.make_key(tenant=tenants[0]).split("_")[1])
    assistants, keys = [], []
    for place, tenant in enumerate(tenants, start=1):
        assistants += [
            {"id": _id("assistant", place, n), "tenant_id": str(tenant.pk), "name": f"Assistant {n}", "slug": f"a-{n}"}
            for n in range(ASSISTANTS)
        ]
        keys += [
            {"id": _id("key", place, n), "tenant_id": str(tenant.pk), "name": f"Program {n}", "key_id": f"{place}x{n}"}
            for n in range(KEYS)
        ]
    for row, changes in ((assistant, assistants), (key, keys)):
        copy(servers, row, changes)


def copy(servers: Backends, row: Assistant | ApiKey | Any, changes: Sequence[dict[str, Any]]) -> None:
    """Rows like this one, past what the database forbids."""
    statement = sql.SQL(_COPY).format(sql.Identifier(row._meta.db_table))
    servers.superuser.execute(statement, ([Jsonb(each) for each in changes], row.pk))


def _id(what: str, place: int, number: int) -> str:
    return str(uuid.UUID(hashlib.md5(f"{what}{place}-{number}".encode(), usedforsecurity=False).hexdigest()))
