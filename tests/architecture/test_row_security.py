"""PostgreSQL's own catalogue shows that no tenant-owned table is without its policy, nor any role above its station."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db.models import Model

from apps.tenants.scoping import TenantOwned
from local import postgres
from tests.environment import Backends

# Tables that name a tenant and are not its own, each with its reason.
OF_THE_PLATFORM = {
    "inference_endpoint_tenants": "operators say which tenants may use an endpoint, and the pool is every tenant's",
}
# Those whose tenant stands in another column.
ELSEWHERE = {"tenants_tenant": "id", "tenants_audithead": "chain"}
# Functions that work as the owner of the tables, each with its reason.
OF_THE_OWNER = {"audit_append": "it writes what the app's role may only read, in the chain of app.tenant alone"}
# What functions tell beside whose a row is.
TOLD = {
    "key_of": {"digest"},
    "ranked_passages": {"near", "worded"},
    "hybrid_passages": {"near", "distance", "worded", "weight", "alike", "similarity"},
    "near_passages": {"distance"},
    "recall_of_layouts": {"lowest", "mean"},  # of all tenants together
    # How many stand before one, and nothing of them.
    "queued_documents": {"large", "documents"},
    "documents_in_line": {"large", "documents", "weight"},
    "tenants_without_a_worker": {"large"},
}
ANSWERS = {"tenant_id", "id"}
TENANT = "({column} = (current_setting('app.tenant'::text))::uuid)"
MAINTENANCE = "(current_setting('app.maintenance'::text, true) = 'on'::text)"


def rows(servers: Backends, query: str, *values: Any) -> list[tuple[Any, ...]]:
    return servers.superuser.execute(query, values).fetchall()


@pytest.fixture(scope="module")
def protected(servers: Backends) -> set[str]:
    found = rows(
        servers, "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relrowsecurity AND relforcerowsecurity"
    )
    return {name for (name,) in found}


def test_every_table_that_names_a_tenant_is_protected(servers: Backends, protected: set[str]) -> None:
    naming = rows(
        servers,
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relkind IN ('r', 'p', 'm') AND c.relnamespace = 'public'::regnamespace AND a.attname = 'tenant_id'",
    )
    assert {name for (name,) in naming} - OF_THE_PLATFORM.keys() | ELSEWHERE.keys() == protected


def test_every_tenant_owned_model_is_protected(protected: set[str]) -> None:
    def is_owned(model: type[Model]) -> bool:
        return issubclass(model, TenantOwned)

    assert {model._meta.db_table for model in apps.get_models() if is_owned(model)} <= protected


def test_policies_are_as_they_should_be(servers: Backends, protected: set[str]) -> None:
    found: dict[str, dict[str, Any]] = {table: {} for table in protected}
    for table, name, permissive, roles, command, using, check in rows(
        servers, "SELECT tablename, policyname, permissive, roles, cmd, qual, with_check FROM pg_policies"
    ):
        assert permissive == "PERMISSIVE"
        if table not in protected and name == "search":
            continue  # a function reads the platform's own rows, too: without row-level security it does nothing
        found[table][name] = (*roles, command, using, check)
    for table, policies in found.items():
        mine = TENANT.format(column=ELSEWHERE.get(table, "tenant_id"))
        assert policies.pop("tenant") == ("public", "ALL", mine, mine), table
        assert policies.pop("maintenance") == (postgres.OWNER, "ALL", MAINTENANCE, MAINTENANCE), table
        operators = policies.pop(f"operator {postgres.OPERATOR}")
        assert operators == (postgres.OPERATOR, "SELECT", "true", None), table
        assert policies.pop("search", None) in (None, (settings.PARLEY_SEARCH_ROLE, "SELECT", "true", None)), table
        assert policies.pop("tests")[0] == postgres.APP  # in test clusters alone: tests/all_tenants.py
        assert not policies, table


def test_rows_of_a_tenant_refer_to_its_own_alone(servers: Backends, protected: set[str]) -> None:
    keys = rows(
        servers,
        """
        SELECT conrelid::regclass::text, confrelid::regclass::text,
            (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)),
            condeferrable AND condeferred AND confdeltype = 'a'
        FROM pg_constraint WHERE contype = 'f'
        """,
    )
    inner = [key for key in keys if key[1] in protected - {"tenants_tenant"}]
    bound = {(table, column) for table, _, columns, _ in inner for column in columns}
    assert {("conversations_turn", "end_user_id"), ("knowledge_embedding", "chunk_id")} <= bound
    for table, target, columns, deferred in inner:
        assert table in protected, f"{table} refers to {target}, and could to any tenant's row"
        assert "tenant_id" in columns, (table, columns)
        assert deferred, (table, columns)


def test_no_reference_is_checked_twice(servers: Backends) -> None:
    keys = rows(
        servers,
        """
        SELECT conrelid::regclass::text, confrelid::regclass::text, (
            SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = conrelid AND attnum = ANY (conkey) AND (attname <> 'tenant_id' OR cardinality(conkey) = 1)
        )
        FROM pg_constraint WHERE contype = 'f'
        """,
    )
    counted = Counter((table, target, *columns) for table, target, columns in keys)
    assert [key for key, times in counted.items() if times > 1] == []


def test_views_show_what_their_reader_may_see(servers: Backends) -> None:
    views = rows(
        servers,
        "SELECT relname, coalesce(reloptions, '{}') FROM pg_class WHERE relkind = 'v'"
        " AND relnamespace = 'public'::regnamespace",
    )
    assert [name for name, options in views if "security_invoker=true" not in options] == []


def test_functions_that_see_all_tenants_tell_no_more_than_whose_a_row_is(servers: Backends) -> None:
    functions = rows(
        servers,
        """
        SELECT p.proname, p.proowner::regrole::text, p.proconfig, p.proacl::text[],
            coalesce(p.proargnames[cardinality(p.proargnames) - cardinality(array_positions(p.proargmodes, 't')) + 1:],
                     '{}')
        FROM pg_proc p WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace
        """,
    )
    assert {"key_of", "all_tenants", "ranked_passages"} <= {name for name, *_ in functions}
    for name, owner, options, rights, answers in functions:
        assert owner == (postgres.OWNER if name in OF_THE_OWNER else settings.PARLEY_SEARCH_ROLE), name
        assert options == ["search_path=pg_catalog, public, pg_temp"], name
        assert rights == [f"{owner}=X/{owner}", f"{postgres.APP}=X/{owner}"], name
        assert set(answers) <= ANSWERS | TOLD.get(name, set()) or name in OF_THE_OWNER, name


@pytest.mark.parametrize("role", [postgres.OWNER, postgres.APP, postgres.OPERATOR, postgres.SEARCH])
def test_no_role_is_above_its_station(servers: Backends, role: str) -> None:
    [(logs_in, *may)] = rows(
        servers,
        "SELECT rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication"
        " FROM pg_roles WHERE rolname = %s",
        role,
    )
    assert not any(may)
    assert logs_in == (role != postgres.SEARCH)
    memberships = rows(
        servers,
        "SELECT roleid::regrole::text, inherit_option, set_option, admin_option FROM pg_auth_members"
        " WHERE member = %s::regrole",
        role,
    )
    assert memberships == ([(postgres.SEARCH, False, True, False)] if role == postgres.OWNER else [])
    # A connection's own tables are seen by nobody else: vectors are copied into one.
    lasting = "SELECT count(*) FROM pg_class WHERE relowner = %s::regrole AND relpersistence <> 't'"
    owned = rows(servers, lasting, role)[0][0]
    assert (owned > 0) == (role == postgres.OWNER)
    [(creates,)] = rows(servers, "SELECT has_schema_privilege(%s, 'public', 'CREATE')", role)
    assert creates == (role == postgres.OWNER)


@pytest.mark.parametrize("role", [postgres.OPERATOR, postgres.SEARCH])
def test_who_sees_all_tenants_writes_nothing(servers: Backends, role: str) -> None:
    writable = rows(
        servers,
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND ("
        " has_any_column_privilege(%s, oid, 'INSERT, UPDATE') OR has_table_privilege(%s, oid, 'DELETE, TRUNCATE'))",
        role,
        role,
    )
    assert writable == []


def test_the_search_role_reads_no_more_than_its_functions_name(servers: Backends) -> None:
    whole = rows(
        servers,
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND relnamespace = 'public'::regnamespace"
        " AND has_table_privilege(%s, oid, 'SELECT')",
        settings.PARLEY_SEARCH_ROLE,
    )
    assert whole == []
    for table, column in [
        ("knowledge_chunk", "heading"),
        ("conversations_message", "text"),
        ("webhooks_webhook", "secret"),
    ]:
        [(readable,)] = rows(
            servers, "SELECT has_column_privilege(%s, %s, %s, 'SELECT')", settings.PARLEY_SEARCH_ROLE, table, column
        )
        assert not readable, (table, column)
