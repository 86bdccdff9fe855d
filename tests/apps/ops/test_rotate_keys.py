"""rotate_keys: every stored secret ends up encrypted with the first key, while others go on reading and saving."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import connection, connections

from apps.edge.encryption import Undecryptable, key_id
from apps.inference.models import Endpoint
from apps.ops import rotation
from apps.ops.doctor import encryption
from apps.tenants.models import PLATFORM, AuditEntry
from apps.tenants.scoping import tenant_scope
from apps.webhooks.models import Webhook
from apps.webhooks.registration import register, rotate_secret
from tests import factories
from tests.apps.access.logging_in import code_of, give_app

OLD, NEW = (base64.urlsafe_b64encode(bytes([number]) * 32).decode() for number in (201, 202))


@pytest.fixture(autouse=True)
def old_key(settings: Any, database: None) -> None:
    settings.PARLEY_ENCRYPTION_KEYS = [OLD]


def rotate(*arguments: str, code: int = 0) -> str:
    out = StringIO()
    if code:
        with pytest.raises(SystemExit) as stopped:
            call_command("rotate_keys", *arguments, stdout=out, stderr=out)
        assert stopped.value.code == code
    else:
        call_command("rotate_keys", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def stored(table: str, column: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {table} WHERE {column} <> ''")
        return [row[0] for row in cursor.fetchall()]


def test_secrets_of_the_platform_and_of_every_tenant_get_the_first_key(settings: Any) -> None:
    endpoint = factories.make_endpoint(api_key="sk-1")
    empty = factories.make_endpoint()
    hooks = []
    for slug in ("acme", "globex"):
        tenant = factories.make_tenant(slug)
        hook = register(tenant, name="hook", url="https://hooks.example/x", events=["turn.finished"])
        rotate_secret(hook)
        hooks.append((hook, hook.secret, hook.previous_secret))
    settings.PARLEY_ENCRYPTION_KEYS = [NEW, OLD]
    assert f"key {key_id(OLD)}  only reads           5 secrets" in rotate("--check", code=1)
    said = rotate()
    assert f"key {key_id(OLD)}  only reads           0 secrets: it can be removed" in said
    settings.PARLEY_ENCRYPTION_KEYS = [NEW]
    rotate("--check")
    endpoint.refresh_from_db()
    empty.refresh_from_db()
    assert (endpoint.api_key, empty.api_key) == ("sk-1", "")
    for hook, secret, previous in hooks:
        with tenant_scope(hook):
            read = Webhook.objects.for_tenant(hook.tenant_id).get(pk=hook.pk)
        assert (read.secret, read.previous_secret) == (secret, previous)
    with tenant_scope(PLATFORM):
        entry = AuditEntry.objects.for_tenant(PLATFORM).get()
    assert (entry.action, entry.facts) == ("secrets.rotated", {"key": key_id(NEW), "secrets": 5})


def test_doctor_tells_what_the_keyring_lacks(settings: Any) -> None:
    factories.make_endpoint(api_key="sk-1")
    assert [finding.level for finding in encryption()] == ["ok"]
    settings.PARLEY_ENCRYPTION_KEYS = [NEW, OLD]
    (finding,) = encryption()
    assert (finding.level, "rotate_keys" in finding.advice) == ("warn", True)
    settings.PARLEY_ENCRYPTION_KEYS = [NEW]
    (finding,) = encryption()
    assert (finding.level, key_id(OLD) in finding.says) == ("fail", True)


def test_more_rows_than_a_batch_holds(settings: Any) -> None:
    for number in range(2 * rotation.BATCH + 1):
        factories.make_endpoint(api_key=f"sk-{number}")
    settings.PARLEY_ENCRYPTION_KEYS = [NEW, OLD]
    rotate()
    assert {text.split(":")[0] for text in stored("inference_endpoint", "api_key")} == {key_id(NEW)}


def test_tokens_from_before_key_ids_are_read_and_rotated(settings: Any) -> None:
    endpoint = factories.make_endpoint(api_key="sk-1")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE inference_endpoint SET api_key = %s", [Fernet(OLD).encrypt(b"sk-old").decode()])
    settings.PARLEY_ENCRYPTION_KEYS = [NEW, OLD]
    endpoint.refresh_from_db()
    assert endpoint.api_key == "sk-old"
    assert "can be removed" not in rotate("--check", code=1)
    rotate()
    settings.PARLEY_ENCRYPTION_KEYS = [NEW]
    endpoint.refresh_from_db()
    assert endpoint.api_key == "sk-old"


def test_what_no_key_reads_stays_and_is_told(settings: Any) -> None:
    lost, kept = factories.make_endpoint(api_key="sk-lost"), factories.make_endpoint()
    settings.PARLEY_ENCRYPTION_KEYS = [NEW]
    kept.api_key = "sk-kept"
    kept.save()
    before = stored("inference_endpoint", "api_key")
    said = rotate(code=1)
    assert "1 that no key of PARLEY_ENCRYPTION_KEYS can read" in said
    assert f"key {key_id(OLD)}  is missing from the keyring" in said
    assert stored("inference_endpoint", "api_key") == before
    with pytest.raises(Undecryptable, match=key_id(OLD)):
        lost.refresh_from_db()


def test_a_row_that_is_locked_is_left_to_a_later_pass(settings: Any) -> None:
    endpoint = factories.make_endpoint(api_key="sk-1")
    settings.PARLEY_ENCRYPTION_KEYS = [NEW, OLD]
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with tenant_scope(PLATFORM):
                Endpoint.objects.select_for_update().get(pk=endpoint.pk)
                held.set()
                release.wait(20)
        finally:
            connections.close_all()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(20)
    try:
        rotate(code=1)
    finally:
        release.set()
        holder.join()
    rotate()


class Crowd:
    """Threads that repeat their work until the end; what one of them raises is raised there."""

    def __init__(self, *works: Callable[[], None]) -> None:
        self.works, self.stopped = works, threading.Event()

    def __enter__(self) -> None:
        self.pool = ThreadPoolExecutor(len(self.works))
        self.running = [self.pool.submit(self._repeat, work) for work in self.works]

    def _repeat(self, work: Callable[[], None]) -> None:
        try:
            while not self.stopped.is_set():
                work()
        finally:
            connections.close_all()

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.pool.shutdown()
        for one in self.running:
            one.result()


def test_readers_and_writers_go_on_meanwhile(settings: Any) -> None:
    """Each writer owns a row, so that what it saved last must be what is there in the end."""
    endpoints = [factories.make_endpoint(api_key="sk-0") for _ in range(3 * rotation.BATCH)]
    settings.PARLEY_ENCRYPTION_KEYS = [NEW, OLD]
    saved: dict[Any, int] = dict.fromkeys((endpoint.pk for endpoint in endpoints[:3]), 0)

    def write(endpoint: Endpoint) -> None:
        endpoint.api_key = f"sk-{saved[endpoint.pk] + 1}"
        endpoint.save(update_fields=["api_key"])
        saved[endpoint.pk] += 1

    def read() -> None:
        assert all(endpoint.api_key.startswith("sk-") for endpoint in Endpoint.objects.all())

    with Crowd(read, read, *(partial(write, endpoint) for endpoint in endpoints[:3])):
        rotate()
    assert all(saved.values())
    settings.PARLEY_ENCRYPTION_KEYS = [NEW]
    now = dict(Endpoint.objects.values_list("pk", "api_key"))
    assert now == {pk: f"sk-{saved.get(pk, 0)}" for pk in now}


def test_second_factors_work_after_their_key_is_gone(settings: Any) -> None:
    alice = factories.make_user()
    secret = give_app(alice)
    codes = RecoveryCodes.activate(alice).generate_codes()
    settings.PARLEY_ENCRYPTION_KEYS = [NEW, OLD]
    rotate("--check", code=1)
    rotate()
    settings.PARLEY_ENCRYPTION_KEYS = [NEW]
    app, recovery = (Authenticator.objects.get(user=alice, type=kind) for kind in ("totp", "recovery_codes"))
    assert app.data["secret"].startswith(f"{key_id(NEW)}:")
    assert app.wrap().validate_code(code_of(secret))
    assert recovery.wrap().generate_codes() == codes
    assert recovery.data["used_mask"] == 0
