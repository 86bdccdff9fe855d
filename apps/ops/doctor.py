"""Looks at everything that Parley stands on, and says what to do about what is wrong."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import redis
from amqp.exceptions import AMQPError
from asgiref.sync import async_to_sync
from celery import Celery
from django.conf import settings
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage, storages
from django.core.mail import get_connection
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from kombu.exceptions import OperationalError
from packaging.version import Version

from apps.edge.encryption import keyring
from apps.edge.queues import QUEUES
from apps.inference.models import Endpoint
from apps.inference.probe import probe
from apps.knowledge.bucket import Bucket
from apps.ops import roles, rotation
from apps.ops.demo import ADMIN as DEMO_ADMIN
from apps.tenants.models import User
from apps.widget import bundle

LEAST_PYTHON = (3, 11)
LEAST_POSTGRES = 16
LEAST_REDIS = Version("6.2")
LEAST_FREE_BYTES = 1024**3
# Below these are known holes that reach Parley.
LEAST_PACKAGES = {"Django": "5.2.14", "celery": "5.2.2"}
EXTENSIONS = {"vector": Version("0.8.2"), "btree_gin": Version("0"), "pg_trgm": Version("0"), "unaccent": Version("0")}
BROKEN_REDIS_CLIENT = Version("8.0.0")
SECONDS = 3.0


@dataclass(frozen=True)
class Finding:
    level: Literal["ok", "warn", "fail"]
    subject: str
    says: str
    advice: str = ""


def ok(subject: str, says: str) -> Finding:
    return Finding("ok", subject, says)


def warn(subject: str, says: str, advice: str) -> Finding:
    return Finding("warn", subject, says, advice)


def fail(subject: str, says: str, advice: str) -> Finding:
    return Finding("fail", subject, says, advice)


# --- The process ------------------------------------------------------------------------------------------------------


def parley() -> Iterator[Finding]:
    yield ok("parley", settings.VERSION)


def python() -> Iterator[Finding]:
    running = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < LEAST_PYTHON:
        yield fail("python", running, "Install Python 3.11 or newer.")
    else:
        yield ok("python", running)


def packages() -> Iterator[Finding]:
    """Against the lock file and against known holes."""
    pins = _pins(settings.BASE_DIR / "requirements" / "base.txt")
    wrong = [f"{name} {_installed(name) or 'missing'} (locked {pin})" for name, pin in pins if _installed(name) != pin]
    if wrong:
        listed = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        yield warn("packages", f"not as locked: {listed}", "Install requirements/base.txt with its hashes.")
    else:
        yield ok("packages", f"{len(pins)} as locked, Django {_installed('Django')}")
    for name, least in LEAST_PACKAGES.items():
        if Version(_installed(name) or "0") < Version(least):
            yield fail("packages", f"{name} {_installed(name)}", f"Install {name} {least} or newer: security fixes.")
    if Version(redis.__version__) == BROKEN_REDIS_CLIENT:
        yield fail("packages", "redis 8.0.0", "Install another release: this one breaks blocking reads.")


def _pins(lock: Path) -> list[tuple[str, str]]:
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.exists() else []
    pinned = (line.split(" ")[0].split("==") for line in lines if "==" in line and line[:1].isalnum())
    return [(name.partition("[")[0], pin.rstrip("\\").strip()) for name, pin in pinned]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def storage() -> Iterator[Finding]:
    return _bucket() if isinstance(storages["default"], Bucket) else _disk()


def _bucket() -> Iterator[Finding]:
    try:
        name = default_storage.save(f"doctor/{secrets.token_hex(8)}", ContentFile(b"doctor"))
        with default_storage.open(name) as file:
            file.read()
        default_storage.delete(name)
    except OSError as error:
        advice = "Look at PARLEY_STORAGE_URL, and whether its key may read, write and delete below the prefix."
        yield fail("storage", error.strerror or "The bucket does not answer.", advice)
    else:
        yield ok("storage", "the bucket can be written, read and emptied")


def _disk() -> Iterator[Finding]:
    root = Path(settings.MEDIA_ROOT)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(b"doctor")
    except OSError as error:
        yield fail("storage", f"{root}: {error.strerror}", "Make it writable, or set PARLEY_HOME to another directory.")
        return
    free = shutil.disk_usage(root).free
    said = f"{root} is writable, {free / 1024**3:.1f} GiB free"
    yield ok("storage", said) if free > LEAST_FREE_BYTES else warn("storage", said, "Free at least 1 GiB.")


def static_files() -> Iterator[Finding]:
    if not settings.LOCAL and not (Path(settings.STATIC_ROOT) / "staticfiles.json").exists():
        yield fail("static", "not collected: the admin's pages fail", "Run manage.py collectstatic --no-input.")


def widget() -> Iterator[Finding]:
    if bundle.is_there():
        yield ok("widget", "built")
    else:
        yield warn("widget", "the built files in static/widget/ are missing or not whole", bundle.MISSING)


def mail() -> Iterator[Finding]:
    """Connects and logs in; sends nothing."""
    if not settings.PARLEY_MAIL:
        yield warn("mail", "off", "Set EMAIL_URL, or forgotten passwords are for an operator to mend.")
        return
    try:
        with get_connection():
            yield ok("mail", f"{settings.EMAIL_HOST or settings.EMAIL_BACKEND.split('.')[-2]} takes us")
    except OSError as error:  # smtplib's errors are such
        yield fail("mail", str(error), "Check EMAIL_URL, and that the server runs.")


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


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
    if pending := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        yield fail("migrations", f"{len(pending)} are pending", "Run manage.py setup_database with OWNER_DATABASE_URL.")
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


def limits() -> Iterator[Finding]:
    """Whether anybody may use everything."""
    try:
        [(without,)] = _rows("SELECT count(*) FROM tenants_without_limits()")
    except DatabaseError:
        return  # told of above
    finally:
        connection.close()
    if without:
        yield warn(
            "limits",
            f"{without} tenant{'' if without == 1 else 's'} may use everything, as no limit holds for them.",
            "Mark a plan with limits as the default in the admin under Plans.",
        )
    else:
        yield ok("limits", "every tenant has some")


# --- Redis and the worker ---------------------------------------------------------------------------------------------


def shared_state() -> Iterator[Finding]:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)
    try:
        info: dict[str, Any] = client.info()
    except redis.RedisError as error:
        yield fail("redis", str(error), "Check REDIS_URL, and that the server runs.")
        return
    finally:
        client.close()
    if Version(info["redis_version"]) < LEAST_REDIS:
        yield fail("redis", info["redis_version"], f"Upgrade to {LEAST_REDIS} or newer.")
    else:
        yield ok("redis", info["redis_version"])
    if info["maxmemory_policy"] != "noeviction":
        yield fail(
            "redis", f"evicts ({info['maxmemory_policy']})", "Set maxmemory-policy noeviction: this is no cache."
        )
    if not info["aof_enabled"]:
        yield warn("redis", "forgets on a restart", "Set appendonly yes, or queued work is lost with the process.")


def cache_server() -> Iterator[Finding]:
    try:
        cache.set("doctor", 1, timeout=10)
    except (redis.RedisError, OSError) as error:
        yield fail("cache", str(error), "Check CACHE_URL, and that the server runs.")
    else:
        yield ok("cache", "takes a value")


def worker() -> Iterator[Finding]:
    try:
        with Celery("doctor", broker=settings.CELERY_BROKER_URL) as app:
            replies = app.control.inspect(timeout=SECONDS).active_queues()
    except (OperationalError, redis.RedisError, AMQPError) as error:
        yield fail("worker", str(error), "Check CELERY_BROKER_URL, and that the broker runs.")
        return
    if not replies:
        yield warn("worker", "none answers", "Start one, or documents stay queued: python -m config.run worker")
        return
    served = {queue["name"] for queues in replies.values() for queue in queues}
    if missing := [name for name in QUEUES if name not in served]:
        listed = " ".join(missing)
        advice = f"Start one, or what is sent there stays: python -m config.run worker --queues {listed}"
        yield warn("worker", f"{len(replies)} answering, but none takes from {', '.join(missing)}", advice)
    else:
        yield ok("worker", f"{len(replies)} answering")


# --- Model servers ----------------------------------------------------------------------------------------------------


def endpoints() -> Iterator[Finding]:
    try:
        rows = list(Endpoint.objects.filter(enabled=True))
    except DatabaseError:
        return  # told of above
    finally:
        connection.close()
    for kind in (Endpoint.Kind.CHAT, Endpoint.Kind.EMBEDDING):
        if not any(row.kind == kind for row in rows):
            yield warn("endpoints", f"no {kind.label.lower()} endpoint", "Add one in the admin under Endpoints.")
    for row in rows:
        yield _reach(row)


def _reach(row: Endpoint) -> Finding:
    """By a small piece of work, as "Test now" in the admin does it."""
    result = async_to_sync(probe)(row)
    if result.error:
        return fail(
            "endpoint", f"{row.name}: {result.error}", "Mend it in the admin under Endpoints, and test it there."
        )
    said = f"{row.name} answers in {result.total_ms / 1000:.1f} s"
    return warn("endpoint", said, result.advice) if result.advice else ok("endpoint", said)


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


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    parley,
    python,
    packages,
    storage,
    static_files,
    widget,
    postgres,
    demo,
    encryption,
    limits,
    shared_state,
    cache_server,
    worker,
    mail,
    endpoints,
)
