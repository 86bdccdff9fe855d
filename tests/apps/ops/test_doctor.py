"""doctor finds what is wrong, each thing broken for real where that is cheap, and says what to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from celery import signals
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from apps.edge import alive, broker
from apps.edge.findings import Finding
from apps.knowledge import doctor as knowledge
from apps.knowledge import reading
from apps.knowledge.management.commands.move_layouts import Command as MoveLayouts
from apps.ops import doctor, roles
from apps.ops.demo import ADMIN
from apps.ops.doctor import data
from apps.tenants.models import User
from apps.usage.models import Plan
from apps.usage.standard_plan import create_standard_plan
from config import celery
from config import run as processes
from local import postgres, redis_server
from local.processes import spawn, stop, wait_until
from tests import factories
from tests.environment import HOME, PASSWORDS, POSTGRES_PORT, REDIS_PASSWORD, REDIS_PORT, Backends
from tests.factories import make_endpoint, make_user

both_roles = pytest.mark.django_db(transaction=True, databases=["default", "owner"])
Check = Callable[[], Iterator[Finding]]


def run(output: StringIO | None = None) -> str:
    output = output or StringIO()
    call_command("doctor", stdout=output)
    return output.getvalue()


def worst(check: Check) -> Finding:
    """Of what it finds; each that is not fine says what to do."""
    found = list(check())
    assert all(finding.advice for finding in found if finding.level != "ok")
    return max(found, key=lambda finding: ("ok", "warn", "fail").index(finding.level))


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "LOCAL", False)


@contextmanager
def redis_set(**options: Any) -> Iterator[None]:
    with redis_server.client(REDIS_PORT, REDIS_PASSWORD) as client:
        names = {name: name.replace("_", "-") for name in options}
        before = {name: client.config_get(given)[given] for name, given in names.items()}
        for name, value in options.items():
            client.config_set(names[name], value)
        yield
        for name, value in before.items():
            client.config_set(names[name], value)


@both_roles
def test_it_approves_of_the_local_stack(redis: None) -> None:
    said = run()
    assert f"ok   parley      {settings.VERSION}\n" in said
    for line in ("ok   python", "ok   packages", "ok   storage", "ok   postgres", "ok   extensions", "ok   role"):
        assert line in said
    assert "fail" not in said
    assert "-> Start one, or documents stay queued" in said  # no worker runs beside this test


@both_roles
def test_it_refuses_a_role_that_owns_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "connection", connections["owner"])
    [finding] = data._role()
    assert finding.level == "fail"
    assert "owns" in finding.says


@both_roles
def test_it_exits_with_an_error_and_advice(redis: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:9/0")
    output = StringIO()
    with pytest.raises(SystemExit) as stopped:
        run(output)
    assert stopped.value.code == 1
    assert "-> Check REDIS_URL" in output.getvalue()


def test_it_finds_the_demo_s_administrator_in_production(database: None, production: None) -> None:
    assert list(doctor.demo()) == []
    make_user(ADMIN)
    [finding] = doctor.demo()
    assert finding.level == "fail"
    User.objects.update(is_active=False)
    assert list(doctor.demo()) == []


def test_it_warns_of_tenants_that_may_use_everything(database: None) -> None:
    factories.make_tenant("acme")
    plan = create_standard_plan()
    assert plan is None  # for tenants that are there nobody decides but operators
    [finding] = doctor.limits()
    said = "1 tenant may use everything, as no limit holds for them."
    assert (finding.level, finding.says) == ("warn", said)
    factories.make_quota(tenant=factories.make_tenant("globex"))
    [finding] = doctor.limits()
    assert finding.says == said
    plan = Plan.objects.create(name="Empty", is_default=True)
    [finding] = doctor.limits()
    assert finding.says == said
    plan.limits.create(level="user", metric="requests", window="day", amount=5)
    [finding] = doctor.limits()
    assert finding.level == "ok"


def test_it_misses_static_files_in_production(
    production: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(settings, "STATIC_ROOT", tmp_path)
    [finding] = doctor.static_files()
    assert "collectstatic" in finding.advice
    (tmp_path / "staticfiles.json").touch()
    assert list(doctor.static_files()) == []


def test_it_logs_in_to_the_mail_server(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.level for finding in doctor.mail()] == ["ok"]
    monkeypatch.setattr(settings, "EMAIL_BACKEND", "django.core.mail.backends.smtp.EmailBackend")
    monkeypatch.setattr(settings, "EMAIL_HOST", "127.0.0.1")
    monkeypatch.setattr(settings, "EMAIL_PORT", 9)
    [finding] = doctor.mail()
    assert (finding.level, "refused" in finding.says) == ("fail", True)
    monkeypatch.setattr(settings, "PARLEY_MAIL", False)
    assert [finding.level for finding in doctor.mail()] == ["warn"]


def test_it_lets_endpoints_work(database: None) -> None:
    make_endpoint(name="Nobody's")
    [found] = [finding for finding in doctor.endpoints() if finding.subject == "endpoint"]
    assert found.level == "fail"
    assert found.says.startswith("Nobody's: ")


# --- Redis and the processes ------------------------------------------------------------------------------------------


def test_it_refuses_a_redis_that_evicts_or_is_nearly_full(redis: None) -> None:
    assert worst(doctor.shared_state).says == "forgets on a restart"
    with redis_set(maxmemory_policy="allkeys-lru"):
        assert (worst(doctor.shared_state).level, worst(doctor.shared_state).says) == ("fail", "evicts (allkeys-lru)")
    with redis_set(appendonly="yes"):
        assert worst(doctor.shared_state).level == "ok"
    with redis_set(maxmemory=1):
        assert any("of its memory is in use" in finding.says for finding in doctor.shared_state())


def test_it_misses_a_cache_that_takes_nothing(redis: None) -> None:
    assert worst(doctor.cache_server).level == "ok"
    with redis_set(maxmemory=1):
        assert worst(doctor.cache_server).level == "fail"


def test_it_misses_beat_and_sees_it_at_work(redis: None) -> None:
    assert worst(doctor.beat).says == "shows no sign of life"
    beat = spawn(processes.beat(state=HOME), log=HOME / "beat.log", env=os.environ)
    try:
        wait_until(lambda: worst(doctor.beat).level == "ok", name="beat", process=beat, log=HOME / "beat.log")
    finally:
        stop(beat)
    with redis_server.client(REDIS_PORT, REDIS_PASSWORD) as client:
        client.expire("alive:beat", alive.KEPT_SECONDS - 600)
    assert worst(doctor.beat).says == "has sent nothing for 10 minutes"
    assert "config.run beat" in worst(doctor.beat).advice


def test_beat_shows_that_it_lives_with_all_that_it_sends(redis: None) -> None:
    receivers = list(signals.after_task_publish.receivers)
    celery.tell_that_beat_lives()
    try:
        with redis_server.client(REDIS_PORT, REDIS_PASSWORD) as client:
            client.delete("alive:beat")
        broker.send("usage.sweep_reservations", expires=1)
        assert worst(doctor.beat).level == "ok"
    finally:
        signals.after_task_publish.receivers = receivers


@both_roles
def test_it_misses_layouts_and_sees_them_at_work(redis: None, servers: Backends) -> None:
    assert worst(doctor.layouts).says == "shows no sign of life"
    with postgres.connect(POSTGRES_PORT, PASSWORDS[postgres.SUPERUSER], "postgres") as another:
        another.execute("SELECT pg_advisory_lock(1431519563, hashtext('layouts'))")
        assert worst(doctor.layouts).says == "shows no sign of life"
    servers.superuser.execute("SELECT pg_advisory_lock(1431519563, hashtext('layouts'))")
    assert worst(doctor.layouts).says == "at work"
    servers.superuser.execute("SELECT pg_advisory_unlock(1431519563, hashtext('layouts'))")
    MoveLayouts()._round()
    assert worst(doctor.layouts).says == "worked 0 s ago"


@both_roles
@pytest.mark.parametrize(("ahead", "said"), [(90.0, "90 s ahead of"), (-90.0, "90 s behind")])
def test_it_sees_a_clock_that_differs(redis: None, ahead: float, said: str) -> None:
    assert worst(doctor.clocks).level == "ok"
    found = list(doctor.clocks(lambda: time.time() + ahead))
    assert [finding.says for finding in found] == [f"{said} PostgreSQL's", f"{said} Redis's"]


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@both_roles
def test_it_knows_a_database_of_a_newer_release(servers: Backends) -> None:
    assert worst(data._migrations).level == "ok"
    servers.superuser.execute(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('knowledge', '9999_later', now())"
    )
    try:
        assert worst(data._migrations).says == "1 are of another release, such as knowledge.9999_later"
    finally:
        servers.superuser.execute("DELETE FROM django_migrations WHERE name = '9999_later'")


@both_roles
def test_it_counts_pending_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MIGRATION_MODULES", {"widget": "tests.apps.ops.migrations.heavy"})
    assert (worst(data._migrations).level, worst(data._migrations).says) == ("fail", "2 are pending")


@both_roles
def test_it_wants_extensions_as_new_as_the_product_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worst(data._extensions).level == "ok"
    monkeypatch.setitem(data.EXTENSIONS, "vector", data.Version("99"))
    monkeypatch.setitem(data.EXTENSIONS, "hstore", data.Version("0"))
    missing, old = data._extensions()
    assert (missing.level, missing.says) == ("fail", "hstore is missing")
    assert (old.level, old.advice) == ("fail", "Upgrade it to 99: security fixes.")


# --- Disks, readers and settings --------------------------------------------------------------------------------------


def test_it_sees_a_storage_that_nobody_may_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "media").touch()
    monkeypatch.setattr(settings, "MEDIA_ROOT", tmp_path / "media")
    assert (worst(doctor.storage).level, "Make it writable" in worst(doctor.storage).advice) == ("fail", True)


def test_it_sees_that_uploads_would_find_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(doctor.scratch()) == []
    monkeypatch.setattr(settings, "PARLEY_MAX_UPLOAD_BYTES", 2**60)
    assert worst(doctor.scratch).level == "warn"


def test_it_asks_tesseract_for_its_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PARLEY_OCR_ENGINE", "tesseract")
    if not reading.recognition().found():
        pytest.skip("needs Tesseract's library")
    assert {finding.level for finding in doctor.readers() if finding.subject == "ocr"} == {"ok"}
    monkeypatch.setattr(settings, "PARLEY_OCR_LANGUAGES", ["eng", "tlh"])
    [found] = [finding for finding in doctor.readers() if finding.subject == "ocr"]
    assert (found.level, found.says) == ("fail", "Tesseract does not know tlh")


def test_a_reader_that_takes_too_long_ends_no_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "SECONDS", 0.001)
    assert [finding.subject for finding in doctor.readers()] == ["readers", "ocr"]


def test_it_tells_of_settings_that_may_contradict_one_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert worst(doctor.contradictions).level == "ok"
    monkeypatch.setattr(settings, "SECURE_SSL_REDIRECT", True)
    monkeypatch.setattr(settings, "PARLEY_SOURCE_FOLDERS", str(tmp_path / "lost"))
    advice = [finding.advice for finding in doctor.contradictions()]
    assert advice[0].startswith("Set PARLEY_BEHIND_PROXY=on")
    assert advice[1].startswith("Give the whole path")
