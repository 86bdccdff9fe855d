"""Lets the statements of a test's own code see the rows of every tenant, while those of the product stay enforced.

The tables of test clusters, and of no other, have one more policy for the app's role: `app.tests` = 'on' shows all.
Before each query of a Django connection the nearest frame of ours decides: code in tests/ and bench/ is shown
everything, code in apps/, chatbot/ and config/ what production would show it, so that a query outside a tenant_scope
fails. Where no frame is ours, a test gave a function of Django's to a thread. Connections that are not Django's see
what the product sees.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from psycopg import Connection, sql
from psycopg.pq import TransactionStatus

ROOT = Path(__file__).resolve().parent.parent

# Policies are joined by OR in no fixed order, so without a scope a tenant must be set that nobody is.
NOBODY = "eeeeeeee-eeee-eeee-eeee-eeeeeeeeeeee"
POLICY = "CREATE POLICY tests ON {} TO {} USING (current_setting('app.tests', true) = 'on')"
_SEES = f"""
    SELECT set_config('app.tests', 'on', false), CASE coalesce(current_setting('app.tenant', true), '')
        WHEN '' THEN set_config('app.tenant', '{NOBODY}', false) END
""".encode()
_SEES_NOT = f"""
    SELECT set_config('app.tests', 'off', false), CASE current_setting('app.tenant', true)
        WHEN '{NOBODY}' THEN set_config('app.tenant', '', false) END
""".encode()
_OURS: dict[str, bool | None] = {
    f"{ROOT}/apps/tenants/scoping.py": None,  # runs what it is given
    **{f"{ROOT}/{name}/": False for name in ("apps", "chatbot", "config")},
    **{f"{ROOT}/{name}/": True for name in ("tests", "bench")},
}
_known: dict[CodeType, bool | None] = {}


def add_policies(superuser: Connection, app: str) -> None:
    """To every protected table of a test cluster."""
    tables = superuser.execute("SELECT oid::regclass::text FROM pg_class WHERE relrowsecurity AND relkind = 'r'")
    for (table,) in tables.fetchall():
        superuser.execute(sql.SQL(POLICY).format(sql.Identifier(table), sql.Identifier(app)))


def install() -> None:
    """On each connection to come."""
    connection_created.connect(_watch, dispatch_uid="tests.all_tenants")


def _watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if connection.alias == "default" and _show_before not in connection.execute_wrappers:
        connection.execute_wrappers.append(_show_before)


def _show_before(execute: Callable[..., Any], statement: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    connection = context["connection"]
    if connection.connection.info.transaction_status != TransactionStatus.INERROR:
        with connection.wrap_database_errors:
            # Each time: a rollback takes back what was set.
            connection.connection.execute(_SEES if _is_a_tests(sys._getframe(1)) else _SEES_NOT, prepare=True)
    return execute(statement, params, many, context)


def _is_a_tests(frame: FrameType | None) -> bool:
    while frame:
        code = frame.f_code
        if code not in _known:
            _known[code] = next((ours for path, ours in _OURS.items() if code.co_filename.startswith(path)), None)
        if (ours := _known[code]) is not None:
            return ours
        frame = frame.f_back
    return True
