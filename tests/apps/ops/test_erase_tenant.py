"""An erased tenant leaves nothing but the word of it, whatever happens meanwhile; the others keep every byte."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connections, transaction
from redis import Redis

from apps.conversations.models import Conversation, Message, Replica, Turn
from apps.conversations.turn import Outcome, close_turn
from apps.inference.models import Endpoint
from apps.knowledge import lease
from apps.knowledge.collections import create_collection
from apps.knowledge.models import Chunk, Document
from apps.ops import erasing
from apps.ops.belongings import KEPT, owned_models, removable
from apps.ops.export import export_tenant
from apps.tenants import audit_chain, taking_back
from apps.tenants.audit import SYSTEM
from apps.tenants.models import PLATFORM, AuditEntry, EndUser, Erasure, Tenant, User
from apps.tenants.scoping import platform_unit, tenant_scope
from apps.usage.models import UsageRecord
from chatbot.errors import InvalidRequest
from tests.apps.conversations.conftest import Api, World, api, fake, read_sse, world
from tests.apps.conversations.test_removing import asked, turned
from tests.apps.knowledge.conftest import embeddings, endpoint, patient, storage
from tests.apps.knowledge.ingesting import in_thread, until
from tests.apps.knowledge.test_bucket import bucket, names, server
from tests.apps.ops.two_tenants import dumped, files, keys, lived_in
from tests.environment import ROOT, Backends
from tests.factories import make_endpoint, make_tenant

__all__ = ["api", "bucket", "embeddings", "endpoint", "fake", "patient", "server", "storage", "world"]


@pytest.fixture
def acme(endpoint: Endpoint) -> Tenant:
    return lived_in("acme", endpoint, create_collection)


def suspended(tenant: Tenant) -> Tenant:
    taking_back.suspend_tenant(tenant, SYSTEM)
    return tenant


def erase(slug: str, manifest: Path) -> str:
    out = io.StringIO()
    call_command("erase_tenant", slug, "--slug-again", slug, "--manifest", str(manifest), stdout=out)
    return out.getvalue()


def verify(manifest: Path) -> str:
    out = io.StringIO()
    call_command("erase_tenant", "--verify", str(manifest), stdout=out)
    return out.getvalue().strip()


def left(servers: Backends, tenant_id: uuid.UUID) -> dict[str, list[str]]:
    """Rows past every policy, but for the audit log's."""
    rows = dumped(servers.superuser, tenant_id)
    del rows["tenants_auditentry"]
    return {name: found for name, found in rows.items() if found}


# --- What goes, and what stays ----------------------------------------------------------------------------------------


def test_one_of_two_that_are_alike_goes(acme: Tenant, tmp_path: Path, servers: Backends) -> None:
    globex = lived_in("globex", Endpoint.objects.get(), create_collection)
    before = dumped(servers.superuser, acme.pk), files(acme.pk)
    others = dumped(servers.superuser, globex.pk), files(globex.pk), keys(globex.pk)
    assert len(others[0].keys()) > 40
    assert len(keys(acme.pk)) >= 6
    said = erase(suspended(acme).slug, tmp_path / "erased.json")
    assert left(servers, acme.pk) == {}
    assert (files(acme.pk), keys(acme.pk)) == ({}, set())
    assert not [path for path in Path(django_settings.MEDIA_ROOT).rglob("*") if str(acme.pk) in str(path)]
    assert (dumped(servers.superuser, globex.pk), files(globex.pk), keys(globex.pk)) == others
    assert "alice@acme.example belongs to no tenant any more" in said
    assert User.objects.filter(email="alice@acme.example").exists()
    erased = json.loads((tmp_path / "erased.json").read_text())["erased"]
    gone = {name: len(found) for name, found in before[0].items() if found}
    del gone["tenants_auditentry"]  # it stays
    assert erased["gone"]["tables"] == gone
    assert erased["gone"]["files"]["bytes"] == sum(map(len, before[1].values()))
    assert erased["gone"]["files"]["names_sha256"] == hashlib.sha256("\n".join(sorted(before[1])).encode()).hexdigest()
    assert erased["tenant"] == {"id": str(acme.pk), "slug": "acme"}
    assert verify(tmp_path / "erased.json").endswith("and is gone.")


def test_the_accounts_keep_the_sums_and_nobodys_name(acme: Tenant, tmp_path: Path) -> None:
    erase(suspended(acme).slug, tmp_path / "erased.json")
    text = (tmp_path / "erased.json").read_text()
    assert {
        "month": "2026-03",
        "kind": "turn",
        "model": "fake",
        "bill": "once",
        "records": 1,
        "prompt_tokens": 70,
        "completion_tokens": 7,
        "pages": 0,
        "cost": "0.12500000",
    } in json.loads(text)["erased"]["usage"]
    assert "person-" not in text
    assert "alice@" not in text


def test_the_audit_log_outlives_it_and_tells(acme: Tenant, tmp_path: Path) -> None:
    erase(suspended(acme).slug, tmp_path / "erased.json")
    assert audit_chain.verify(acme.pk).bad is None
    assert audit_chain.verify(acme.pk).length > 0
    told = AuditEntry.objects.filter(tenant=PLATFORM).order_by("seq")
    assert [entry.action for entry in told] == ["tenant.erasure_began", "tenant.erased"]
    digest = hashlib.sha256((tmp_path / "erased.json").read_bytes()).hexdigest()
    assert told[1].facts["manifest_sha256"] == digest
    assert told[1].facts["tenant"] == str(acme.pk)


def test_an_endpoint_of_the_tenant_alone_serves_nobody_else_then(acme: Tenant, tmp_path: Path) -> None:
    globex = make_tenant("globex")
    own, shared = make_endpoint(name="own"), make_endpoint(name="shared")
    own.tenants.add(acme)
    shared.tenants.add(acme, globex)
    assert "'own' served it alone" in erase(suspended(acme).slug, tmp_path / "erased.json")
    assert not Endpoint.objects.get(name="own").enabled
    assert Endpoint.objects.get(name="shared").enabled
    assert list(shared.tenants.all()) == [globex]


def test_its_slug_is_free_again(acme: Tenant, tmp_path: Path) -> None:
    erase(suspended(acme).slug, tmp_path / "erased.json")
    again = make_tenant("acme")
    assert verify(tmp_path / "erased.json")
    erase(suspended(again).slug, tmp_path / "again.json")
    assert [one.finished is not None for one in Erasure.objects.filter(slug="acme")] == [True, True]


def test_what_is_removed_in_portions_is_referred_to_by_nothing_that_is_left() -> None:
    order = removable()
    assert {Chunk, Document, UsageRecord} < set(order)
    assert KEPT not in order
    done: set[Any] = set()
    for model in order:
        related = [one for one in model._meta.get_fields(include_hidden=True) if one.auto_created]
        referring = {one.related_model for one in related if one.one_to_many or one.one_to_one}
        assert referring & set(owned_models()) <= done, model
        done.add(model)


# --- Aiming -----------------------------------------------------------------------------------------------------------


def test_an_active_tenant_is_left_alone(acme: Tenant, tmp_path: Path, servers: Backends) -> None:
    before = left(servers, acme.pk)
    with pytest.raises(CommandError, match=r"Suspend it first: manage\.py suspend_tenant acme"):
        erase("acme", tmp_path / "erased.json")
    assert left(servers, acme.pk) == before
    assert not Erasure.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["acme", "--slug-again", "acmee"], "'acmee' is not 'acme'"),
        (["acme", "--slug-again", ""], "'' is not 'acme'"),
        (["acme"], "--slug-again"),
        (["acme", "globex", "--slug-again", "acme"], "unrecognized arguments"),
        (["acme", "--verify", "x"], "not allowed with"),
        ([], "required"),
        (["initech", "--slug-again", "initech"], "There is no tenant 'initech'"),
        (["ACME", "--slug-again", "ACME"], "There is no tenant 'ACME'"),
        (["acme", "--slug-again", "acme", "--manifest", "/nowhere/at/all"], "cannot be written"),
    ],
)
def test_it_is_aimed_at_one_and_twice(
    database: None, arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("acme\n"))
    for slug in ("acme", "globex"):
        suspended(make_tenant(slug))
    with pytest.raises(CommandError, match=complaint):
        call_command("erase_tenant", *arguments)
    assert Tenant.objects.count() == 2
    assert not Erasure.objects.exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "erased"), [("acme\n", True), ("acm\n", False), ("\n", False)])
def test_whoever_sits_there_types_the_slug_again(
    database: None, typed: str, erased: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    suspended(make_tenant("acme"))
    if erased:
        call_command("erase_tenant", "acme", stdout=io.StringIO())
        assert verify(tmp_path / "erased-acme.json")
    else:
        with pytest.raises(CommandError, match="nothing was erased"):
            call_command("erase_tenant", "acme")
    assert Tenant.objects.exists() is not erased


# --- Meanwhile --------------------------------------------------------------------------------------------------------


def test_killed_in_the_middle_it_goes_on(acme: Tenant, tmp_path: Path, servers: Backends) -> None:
    before = dumped(servers.superuser, suspended(acme).pk)
    command = [sys.executable, "manage.py", "erase_tenant", "acme", "--slug-again", "acme"]
    command += ["--manifest", str(tmp_path / "killed.json")]
    with servers.superuser.transaction():
        # It comes to the end users last, when the rest is gone.
        servers.superuser.execute("SELECT FROM tenants_enduser WHERE tenant_id = %s FOR UPDATE", [acme.pk])
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PARLEY_HOME": str(tmp_path)}, stdout=subprocess.DEVNULL
        )
        try:
            until(lambda: not Message.objects.exists() and not Document.objects.exists(), 60)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
    assert EndUser.objects.filter(tenant=acme).exists()
    assert Erasure.objects.get().finished is None
    erase("acme", tmp_path / "erased.json")
    assert left(servers, acme.pk) == {}
    assert (files(acme.pk), keys(acme.pk)) == ({}, set())
    told = json.loads((tmp_path / "erased.json").read_text())["erased"]["gone"]["tables"]
    assert told == {name: len(rows) for name, rows in before.items() if rows and name != KEPT._meta.db_table}


@pytest.mark.parametrize("step", ["_remove_rows", "_remove_rest", "_remove_files", "remove_keys", "_finish"])
def test_what_dies_at_any_step_goes_on(
    acme: Tenant, tmp_path: Path, servers: Backends, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    suspended(acme)

    def die(*_: Any) -> None:
        raise OSError("the storage is away")

    with monkeypatch.context() as patch:
        patch.setattr(erasing, step, die)
        with pytest.raises(CommandError, match=r"the storage is away\. Run the same command again"):
            erase("acme", tmp_path / "erased.json")
    erase("acme", tmp_path / "erased.json")
    assert left(servers, acme.pk) == {}
    assert verify(tmp_path / "erased.json")


def test_a_manifest_that_got_lost_is_written_again(acme: Tenant, tmp_path: Path) -> None:
    erase(suspended(acme).slug, tmp_path / "erased.json")
    call_command("erase_tenant", "acme", "--manifest", str(tmp_path / "again.json"), stdout=io.StringIO())
    assert (tmp_path / "again.json").read_text() == (tmp_path / "erased.json").read_text()
    with pytest.raises(CommandError, match="cannot be written"):
        erase("acme", tmp_path / "again.json")


def test_two_at_once_are_one(acme: Tenant, tmp_path: Path, servers: Backends) -> None:
    before = dumped(servers.superuser, suspended(acme).pk)
    turn = running(acme)
    with in_thread(lambda: erase("acme", tmp_path / "erased.json")):
        until(lambda: Erasure.objects.exists() and is_alone(acme, servers))
        with pytest.raises(CommandError, match="Somebody is erasing it at this moment"):
            erase("acme", tmp_path / "second.json")
        with tenant_scope(acme):
            assert close(turn)
    assert left(servers, acme.pk) == {}
    told = json.loads((tmp_path / "erased.json").read_text())["erased"]["gone"]["tables"]
    assert told.keys() >= {name for name, rows in before.items() if rows} - {KEPT._meta.db_table}
    assert AuditEntry.objects.filter(action="tenant.erased").count() == 1


def is_alone(tenant: Tenant, servers: Backends) -> bool:
    held = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 1431519565 AND objid = hashtext(%s)::oid"
    return servers.superuser.execute(held, [str(tenant.pk)]).fetchone() is not None


def test_its_slug_is_given_to_nobody_until_it_is_over(
    acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise OSError("Redis is away")

    other = make_tenant("other")
    with monkeypatch.context() as patch:
        patch.setattr(erasing, "remove_keys", die)
        with pytest.raises(CommandError, match="Redis is away"):
            erase(suspended(acme).slug, tmp_path / "erased.json")
    with pytest.raises(CommandError, match="erasure of a tenant with this slug has not come to its end"):
        call_command("create_tenant", "acme")
    with pytest.raises(IntegrityError, match="has not come to its end"):
        make_tenant("acme")
    with pytest.raises(IntegrityError, match="has not come to its end"), tenant_scope(other):
        Tenant.objects.filter(pk=other.pk).update(slug="acme")
    erase("acme", tmp_path / "erased.json")
    call_command("create_tenant", "acme", stdout=io.StringIO())


def test_once_begun_it_is_not_resumed(acme: Tenant) -> None:
    erasing.begin(suspended(acme), SYSTEM)
    with pytest.raises(InvalidRequest, match="being erased"):
        taking_back.resume_tenant(acme, SYSTEM)
    with pytest.raises(CommandError, match="being erased"):
        call_command("suspend_tenant", "acme", "--resume")
    with pytest.raises(IntegrityError, match="not resumed"):  # as a release does that knows of no erasure
        Tenant.objects.filter(pk=acme.pk).update(is_active=True)
    assert not Tenant.objects.get().is_active


def running(tenant: Tenant) -> Turn:
    """A turn whose process is alive."""
    conversation = asked(tenant, at=Conversation.objects.latest("created").created, state="finished")
    turn = turned(conversation, at=conversation.created, state="running")
    Replica.objects.create(pk=turn.replica, name="web-1:7")
    return turn


def test_an_answer_under_way_is_waited_for(acme: Tenant, tmp_path: Path, servers: Backends) -> None:
    turn = running(suspended(acme))
    with in_thread(lambda: erase("acme", tmp_path / "erased.json")):
        until(Erasure.objects.exists)
        assert Message.objects.exists()
        with tenant_scope(acme):
            assert close(turn)
    assert left(servers, acme.pk) == {}


def test_an_answer_that_does_not_end_is_told_of(acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "PATIENCE", 0.0)
    running(suspended(acme))
    with pytest.raises(CommandError, match=r"still being written by web-1:7"):
        erase("acme", tmp_path / "erased.json")
    assert Message.objects.exists()


def test_an_answer_of_a_dead_process_is_not(acme: Tenant, tmp_path: Path, servers: Backends) -> None:
    running(suspended(acme))
    servers.superuser.execute("UPDATE conversations_replica SET beat = now() - interval '1 hour'")
    erase("acme", tmp_path / "erased.json")
    assert left(servers, acme.pk) == {}


def close(turn: Turn) -> bool:
    outcome = Outcome(state=Turn.State.FINISHED, text="So.")
    return close_turn(
        turn.tenant, turn.pk, turn.epoch, outcome, conversation_id=turn.conversation_id, answer_id=uuid.uuid4()
    )


async def test_an_answer_that_is_being_written_leaves_nothing(
    world: World, api: Api, tmp_path: Path, servers: Backends
) -> None:
    """It runs in this process, and is ended by the suspension."""
    world.script(*["word "] * 2000, delay=0.02)
    seen, erased = 0, None
    async for _ in read_sse(await api.ask(world.turns, "Tell me everything", Accept="text/event-stream")):
        seen += 1
        if seen == 5:
            await platform_unit(suspended, world.tenant)
            erased = asyncio.create_task(asyncio.to_thread(apart, world.tenant.slug, tmp_path / "erased.json"))
    assert erased is not None
    await erased
    assert left(servers, world.tenant.pk) == {}
    assert keys(world.tenant.pk) == set()


def apart(slug: str, manifest: Path) -> None:
    """On connections of its own, as a command in a process of its own has."""
    try:
        erase(slug, manifest)
    finally:
        connections.close_all()


def test_whoever_comes_too_late_writes_nothing(acme: Tenant, tmp_path: Path, servers: Backends) -> None:
    turn = running(suspended(acme))
    servers.superuser.execute("DELETE FROM conversations_replica")
    erase("acme", tmp_path / "erased.json")
    with tenant_scope(acme):
        assert not close(turn)
    with pytest.raises(IntegrityError), transaction.atomic(), tenant_scope(acme):
        EndUser.objects.create(tenant=acme, external_id="late")
    assert left(servers, acme.pk) == {}


def test_what_is_written_meanwhile_goes_too(
    acme: Tenant, tmp_path: Path, servers: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest, remove = erasing._remove_rest, erasing.remove_keys
    written: list[str] = []

    def with_a_row(erasure: Erasure) -> None:
        asked(acme, at=erasure.began)
        rest(erasure)

    def and_a_file(tenant_id: uuid.UUID) -> None:
        remove(tenant_id)
        if not written:
            written.append(default_storage.save(f"documents/{tenant_id}/late", ContentFile(b"late")))
            with Redis.from_url(django_settings.REDIS_URL) as client:
                client.set(f"quota:{tenant_id}:1:since", 1)

    monkeypatch.setattr(erasing, "_remove_rest", with_a_row)
    monkeypatch.setattr(erasing, "remove_keys", and_a_file)
    erase(suspended(acme).slug, tmp_path / "erased.json")
    assert written
    assert (left(servers, acme.pk), files(acme.pk), keys(acme.pk)) == ({}, {}, set())


def test_a_worker_loses_what_it_ingests(acme: Tenant, tmp_path: Path) -> None:
    with tenant_scope(acme):
        Document.objects.update(status=Document.Status.QUEUED)
        held = lease.claim(acme.pk, Document.objects.get().pk)
    assert held is not None
    erasing.begin(suspended(acme), SYSTEM)
    erasing._quieten(acme.pk)
    with tenant_scope(acme):
        with pytest.raises(lease.SupersededError):
            lease.write(held, progress_done=1)
        assert lease.claim(acme.pk, held.pk) is None
    erase("acme", tmp_path / "erased.json")
    with pytest.raises(lease.SupersededError), tenant_scope(acme):
        lease.write(held, progress_done=1)


def test_a_bucket_is_emptied_as_a_disk_is(bucket: Any, endpoint: Endpoint, tmp_path: Path, servers: Backends) -> None:
    acme, globex = (lived_in(slug, endpoint, create_collection) for slug in ("acme", "globex"))
    stored = [name for name in names(bucket) if str(acme.pk) in name]
    assert len(stored) == 2
    assert export_tenant(acme, tmp_path / "export").files == 2
    for name in stored:
        assert (tmp_path / "export/files" / name.removeprefix("site/")).read_bytes()
    erase(suspended(acme).slug, tmp_path / "erased.json")
    assert len(names(bucket)) == 2
    assert all(str(globex.pk) in name for name in names(bucket))
    assert verify(tmp_path / "erased.json")
    back_as_a_file(acme.pk)
    with pytest.raises(CommandError, match="1 files"):
        verify(tmp_path / "erased.json")


# --- Verifying --------------------------------------------------------------------------------------------------------


def back_as_a_file(tenant_id: uuid.UUID) -> None:
    default_storage.save(f"widget/{tenant_id}/logo", ContentFile(b"back"))


def back_as_a_key(tenant_id: uuid.UUID) -> None:
    with Redis.from_url(django_settings.CACHES["default"]["LOCATION"]) as client:
        client.set(f"parley:question:{tenant_id}:x", b"")


def back_as_a_row(tenant_id: uuid.UUID) -> None:
    Tenant.objects.create(pk=tenant_id, slug="acme", name="Acme", is_active=False)


@pytest.mark.parametrize(
    ("bring_back", "told"),
    [(back_as_a_file, "1 files"), (back_as_a_key, "1 keys in Redis"), (back_as_a_row, "tenants_tenant: 1 rows")],
)
def test_what_is_back_is_found(
    acme: Tenant, tmp_path: Path, bring_back: Callable[[uuid.UUID], None], told: str
) -> None:
    erase(suspended(acme).slug, tmp_path / "erased.json")
    bring_back(acme.pk)
    with pytest.raises(CommandError, match=f"acme is back: {told}"):
        verify(tmp_path / "erased.json")


@pytest.mark.parametrize("bring_back", [back_as_a_file, back_as_a_key, back_as_a_row])
def test_what_came_back_is_erased_again(acme: Tenant, tmp_path: Path, bring_back: Callable[[uuid.UUID], None]) -> None:
    erase(suspended(acme).slug, tmp_path / "erased.json")
    bring_back(acme.pk)
    erase("acme", tmp_path / "again.json")
    assert verify(tmp_path / "again.json")
    assert verify(tmp_path / "erased.json")


@pytest.mark.parametrize("forgotten", [False, True], ids=["its erasure is known", "its erasure is lost"])
def test_what_is_back_of_a_tenant_whose_slug_is_anothers_is_erased_by_its_manifest(
    acme: Tenant, tmp_path: Path, forgotten: bool
) -> None:
    erase(suspended(acme).slug, tmp_path / "erased.json")
    another = make_tenant("acme")
    back_as_a_file(acme.pk)
    if forgotten:  # by a restore
        Erasure.objects.all().delete()
    with pytest.raises(CommandError, match=r"Erase it again: manage\.py erase_tenant --again .*/erased\.json"):
        verify(tmp_path / "erased.json")
    command = ["erase_tenant", "--again", str(tmp_path / "erased.json")]
    command += ["--slug-again", "acme", "--manifest", str(tmp_path / "again.json")]
    call_command(*command, stdout=io.StringIO())
    assert verify(tmp_path / "erased.json")
    told = json.loads((tmp_path / "again.json").read_text())["erased"]
    assert (told["tenant"]["id"], told["gone"]["files"]["count"]) == (str(acme.pk), 1)
    assert Tenant.objects.get() == another


def test_a_manifest_is_ours_and_whole_or_refused(database: None, tmp_path: Path, settings: Any) -> None:
    path = tmp_path / "erased.json"
    erase(suspended(make_tenant("acme")).slug, path)
    text = path.read_text()
    for changed in (text.replace('"slug": "acme"', '"slug": "other"'), text.replace('"count": 0', '"count": 1')):
        assert changed != text
        path.write_text(changed)
        with pytest.raises(CommandError, match="changed after it was signed"):
            verify(path)
    for broken in ("", "{}", "[]", '{"erased": {}, "public_key": "", "signature": "zz"}', "\x00"):
        path.write_text(broken)
        with pytest.raises(CommandError, match="no manifest"):
            verify(path)
    path.write_text(text)
    settings.PARLEY_KEY_PEPPER = "another pepper that is long enough to be accepted"
    with pytest.raises(CommandError, match="another PARLEY_KEY_PEPPER"):
        verify(path)
    with pytest.raises(CommandError, match="cannot be read"):
        verify(tmp_path / "nowhere.json")
