"""PostgreSQL, and what in it must not be there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from packaging.version import Version

from apps.edge.encryption import keyring
from apps.edge.findings import Finding, fail, ok, warn
from apps.ops import roles, rotation
from apps.ops.demo import ADMIN as DEMO_ADMIN
from apps.tenants.models import User

LEAST_POSTGRES = 16
EXTENSIONS = {"vector": Version("0.8.2"), "btree_gin": Version("0"), "pg_trgm": Version("0"), "unaccent": Version("0")}

OURS = {config.label for config in apps.get_app_configs() if config.name.startswith("apps.")}


def postgres() -> Iterator[Finding]:
    try:
        connection.ensure_connection()
    except DatabaseError as error:
        yield fail("postgres", str(error).strip().splitlines()[0], "Check DATABASE_URL, and that the server runs.")
        return
    try:
        yield from _server()
        yield from _extensions()
        yield from _role()
        yield from _migrations()
    except DatabaseError as error:
        yield fail("postgres", str(error).strip().splitlines()[0], "Run manage.py setup_database.")
    finally:
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]  # of the PostgreSQL backend


def _rows(query: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def _server() -> Iterator[Finding]:
    [(name, number)] = _rows("SELECT current_setting('server_version'), current_setting('server_version_num')::int")
    if number // 10_000 < LEAST_POSTGRES:
        yield fail("postgres", name, f"Upgrade to PostgreSQL {LEAST_POSTGRES} or newer.")
    else:
        yield ok("postgres", name)


def _extensions() -> Iterator[Finding]:
    installed = {name: Version(number) for name, number in _rows("SELECT extname, extversion FROM pg_extension")}
    missing = [name for name in EXTENSIONS if name not in installed]
    old = [name for name, least in EXTENSIONS.items() if name not in missing and installed[name] < least]
    for name in missing:
        yield fail("extensions", f"{name} is missing", f"As a superuser: CREATE EXTENSION {name};")
    for name, newer in _rows(
        "SELECT name, default_version FROM pg_available_extensions WHERE default_version <> installed_version"
    ):
        if name in EXTENSIONS and name not in old:
            said = f"{name} {installed[name]}, and the server has {newer}"
            yield warn("extensions", said, f"As a superuser: ALTER EXTENSION {name} UPDATE;")
    for name in old:
        yield fail("extensions", f"{name} {installed[name]}", f"Upgrade it to {EXTENSIONS[name]}: security fixes.")
    if not missing and not old:
        yield ok("extensions", ", ".join(f"{name} {installed[name]}" for name in EXTENSIONS))


def _role() -> Iterator[Finding]:
    name, faults = roles.of_the_product()
    if faults:
        yield fail("role", f"{name} {' and '.join(faults)}", roles.ADVICE)
    else:
        yield ok("role", f"{name} owns nothing, bypasses nothing and is a member of nothing")


def _migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    known = executor.loader.disk_migrations
    if pending := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        yield fail("migrations", f"{len(pending)} are pending", "Run manage.py setup_database with OWNER_DATABASE_URL.")
    elif newer := [key for key in executor.loader.applied_migrations if key not in known and key[0] in OURS]:
        said = f"{len(newer)} are of another release, such as {'.'.join(max(newer))}"
        yield warn("migrations", said, "Run the release that migrated the database, or a newer one.")
    else:
        yield ok("migrations", "all applied")


def demo() -> Iterator[Finding]:
    """Its password lies about in a file of the local stack."""
    if settings.LOCAL:
        return
    try:
        if User.objects.filter(email=DEMO_ADMIN, is_active=True).exists():
            yield fail("demo", f"{DEMO_ADMIN} can log in", "Deactivate this user, and delete the tenant demo.")
    except DatabaseError:
        return  # told of above
    finally:
        connection.close()


def encryption() -> Iterator[Finding]:
    """Whether the keyring has the keys that stored secrets need."""
    try:
        used = rotation.keys_in_use()
    except DatabaseError:
        return  # postgres() tells of it
    first, *others = keyring()
    foreign = sorted(key for key in used if key not in (first, *others, rotation.UNLABELLED))
    if foreign:
        yield fail(
            "encryption",
            f"{sum(used[key] for key in foreign)} stored secrets need keys that PARLEY_ENCRYPTION_KEYS lacks:"
            f" {', '.join(foreign)}.",
            "Put these keys back behind the others, or enter the secrets anew.",
        )
    elif older := used.total() - used[first]:
        yield warn(
            "encryption", f"{older} stored secrets still need an older key.", "Run manage.py rotate_keys, at any time."
        )
    else:
        yield ok("encryption", f"{used.total()} stored secrets, all with key {first}")
