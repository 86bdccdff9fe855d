"""From the address of a PostgreSQL database to one of Django's aliases."""

from __future__ import annotations

from typing import Any

import environ
from psycopg import ProgrammingError
from psycopg.conninfo import make_conninfo

from config.env import refuse


def database(name: str, url: str) -> dict[str, Any]:
    """The alias for `url`, which the variable `name` gave."""
    try:
        config: dict[str, Any] = environ.Env.db_url_config(url)
        options = {key: str(value) for key, value in config.get("OPTIONS", {}).items()}
        make_conninfo(**options)
    except (ValueError, ProgrammingError) as error:
        refuse(f"{name} has an address that PostgreSQL's client does not understand ({_told(error, url)}).")
    if not config["NAME"]:
        refuse(f"{name} names no database: postgres://user:password@host:5432/database.")
    return {
        **config,
        "ENGINE": "django.db.backends.postgresql",
        "OPTIONS": {**options, "application_name": "parley"},
    }


def pooled(config: dict[str, Any], *, size: int, sql_timeout_ms: int, pgbouncer: bool) -> dict[str, Any]:
    """At most `size` connections a process, a second's wait for one, and the time budgets of ordinary work.

    pgbouncer: where each transaction may get another session, no session is told anything, and none is asked to
    remember: budgets are the role's own then, no statement is prepared, and no cursor outlives its transaction.
    """
    options = {**config["OPTIONS"], "pool": {"min_size": 1, "max_size": size, "timeout": 1.0}}
    if pgbouncer:
        return {**config, "OPTIONS": {**options, "prepare_threshold": None}, "DISABLE_SERVER_SIDE_CURSORS": True}
    options["options"] = (
        f"-c statement_timeout={sql_timeout_ms} -c lock_timeout=2000 -c idle_in_transaction_session_timeout=15000"
    )
    return {**config, "OPTIONS": options}


def owning(config: dict[str, Any]) -> dict[str, Any]:
    """Sessions of the tables' owner, which migrates, backs up, restores and indexes the rows of all tenants.

    The policy that lets it asks for `app.maintenance` (apps/tenants/row_security.py). A tenant must be named even so:
    PostgreSQL may ask either policy first, and the other's is an error without one.
    """
    options = "-c app.maintenance=on -c app.tenant=ffffffff-ffff-ffff-ffff-ffffffffffff"
    return {**config, "OPTIONS": {**config["OPTIONS"], "options": options}}


def _told(error: Exception, url: str) -> str:
    """What is wrong, unless that repeats a piece of the address, which holds a password."""
    said = str(error).strip()
    return said if isinstance(error, ProgrammingError) and url not in said else "it cannot be taken apart"
