"""A backup brings back every row and every byte, and one that is damaged or does not fit changes nothing."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.files.storage import default_storage
from psycopg import sql

from apps.conversations.models import Conversation
from apps.inference.models import Endpoint
from apps.knowledge.models import Collection, Document
from apps.ops import archive, backup, instance
from apps.ops.archive import BackupError
from apps.ops.backup import write_backup
from apps.ops.restore import restore_backup
from apps.tenants import audit, audit_chain
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.widget import logos
from apps.widget.models import Widget
from local import postgres
from tests.apps.knowledge.conftest import acme, embeddings, endpoint, manuals
from tests.apps.knowledge.ingesting import added, ingested, manual, stored_files
from tests.apps.ops.two_tenants import PNG
from tests.environment import PASSWORDS, POSTGRES_PORT, ROOT, Backends
from tests.factories import make_assistant, make_conversation, make_document, make_key, make_member

__all__ = ["acme", "embeddings", "endpoint", "manuals"]

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])

Rows = dict[str, list[str]]


def rows(connection: psycopg.Connection[Any]) -> Rows:
    """Every row of every table as text, generated columns too."""
    names = [
        name
        for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        if name not in instance.LEFT_OUT
    ]
    return {
        name: [
            row[0]
            for row in connection.execute(sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(name)))
        ]
        for name in names
    }


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def media(settings: Any, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path / "media"
    return tmp_path / "media"


@pytest.fixture
def lived_in(acme: Tenant, manuals: Collection, endpoint: Endpoint) -> Document:
    """An instance with a bit of everything, and characters that a text format could trip over."""
    document = added(acme, manuals, manual(3))
    ingested(acme, document)
    Endpoint.objects.filter(pk=endpoint.pk).update(api_key="hf_secret")
    assistant = make_assistant(
        tenant=acme, collections=(manuals,), name="Tab\there, line\nthere, back\\slash, \\N, 用户"
    )
    make_conversation(tenant=acme, assistant=assistant)
    make_member(tenant=acme, email="alice@example.com")
    make_key(tenant=acme)
    with tenant_scope(acme):
        widget = Widget(tenant=acme, assistant=assistant)
        logos.put(widget, PNG)
        widget.save()
    for _ in range(2):
        audit.record(acme, "key.issued", audit.SYSTEM, acme, name="用户")
    return document


@pytest.fixture
def made(lived_in: Document, tmp_path: Path) -> Path:
    return write_backup(tmp_path).path


@pytest.fixture
def emptied(made: Path, servers: Backends, media: Path) -> Callable[[], bool]:
    """Empties this instance; says whether it still is empty."""
    servers.empty_database()
    shutil.rmtree(media)
    seeded = rows(servers.superuser)
    return lambda: rows(servers.superuser) == seeded and not stored_files()


def test_an_emptied_instance_becomes_what_it_was(
    lived_in: Document, tmp_path: Path, media: Path, servers: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "PART", 512)  # several parts a table
    before, stored = rows(servers.superuser), files(media)
    made = write_backup(tmp_path)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert (made.files, made.missing, made.size) == (2, [], made.path.stat().st_size)
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    servers.empty_database()
    shutil.rmtree(media)
    manifest = restore_backup(made.path)
    assert sum("knowledge_chunk/" in part["name"] for part in manifest["parts"]) > 1
    assert rows(servers.superuser) == before
    assert files(media) == stored
    assert len(before["knowledge_embedding"]) >= 3
    assert Endpoint.objects.get().api_key == "hf_secret"
    assert audit_chain.verify(lived_in.tenant_id).bad is None
    audit.record(lived_in.tenant_id, "key.revoked", audit.SYSTEM)
    verdict = audit_chain.verify(lived_in.tenant_id)
    assert (verdict.length, verdict.bad) == (3, None)


@pytest.fixture
def second(servers: Backends) -> Iterator[psycopg.Connection[Any]]:
    """Another database of the same server, without tables."""
    servers.superuser.execute("DROP DATABASE IF EXISTS second")
    postgres.prepare(POSTGRES_PORT, PASSWORDS, "second")
    with postgres.connect(POSTGRES_PORT, PASSWORDS[postgres.SUPERUSER], "second") as connection:
        yield connection
    servers.superuser.execute("DROP DATABASE second")


def test_the_commands_move_an_instance_to_another_database(
    lived_in: Document, tmp_path: Path, media: Path, servers: Backends, second: psycopg.Connection[Any]
) -> None:
    def command(*arguments: str, database: str, home: Path) -> str:
        urls = {
            name: os.environ[name].rpartition("/")[0] + f"/{database}"
            for name in ("DATABASE_URL", "OWNER_DATABASE_URL")
        }
        process = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**os.environ, **urls, "PARLEY_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in process.stderr
        return process.stdout + process.stderr

    file = tmp_path / "parley.tar"
    assert "2 files" in command("backup", str(file), database=postgres.DATABASE, home=tmp_path)
    assert "exists" in command("backup", str(file), database=postgres.DATABASE, home=tmp_path)
    assert "no tables yet" in command("restore", str(file), database="second", home=tmp_path / "second")
    command("setup_database", database="second", home=tmp_path / "second")
    assert "Restored" in command("restore", str(file), database="second", home=tmp_path / "second")
    assert rows(second) == rows(servers.superuser)
    assert files(tmp_path / "second" / "media") == files(media)
    # Numbers go on where they were.
    sequences = "SELECT sequencename, coalesce(last_value, 0) FROM pg_sequences ORDER BY 1"
    before, after = (dict(one.execute(sequences).fetchall()) for one in (servers.superuser, second))
    assert before == after
    assert "not empty" in command("restore", str(file), database="second", home=tmp_path / "second")


def test_a_change_of_any_byte_is_seen(emptied: Callable[[], bool], made: Path) -> None:
    content = made.read_bytes()
    places = [*range(0, len(content), max(1, len(content) // 60)), *range(len(content) - 70, len(content))]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        made.write_bytes(damaged)
        with pytest.raises(BackupError, match=r"damaged|end is missing"):
            restore_backup(made)
    assert emptied()
    made.write_bytes(content)
    restore_backup(made)
    assert not emptied()


def test_what_was_cut_off_and_what_is_something_else_is_refused(
    emptied: Callable[[], bool], made: Path, tmp_path: Path
) -> None:
    content = made.read_bytes()
    for damaged in (b"", b"x", b"\n" * 100, content[:-1], content[: len(content) // 2], content + b"\n", content[:-65]):
        made.write_bytes(damaged)
        with pytest.raises(BackupError):
            restore_backup(made)
    with pytest.raises(BackupError, match="cannot be read"):
        restore_backup(tmp_path / "nowhere.tar")
    assert emptied()


def repacked(made: Path, change: Callable[[dict[str, Any]], None], add: Callable[[tarfile.TarFile], None]) -> None:
    """The same backup with another manifest and more members, its digest set right: what a forger would do."""
    out = io.BytesIO()
    with tarfile.open(made) as source, tarfile.open(fileobj=out, mode="w") as target:
        for member in source:
            content = source.extractfile(member)
            assert content
            if member.name != archive.MANIFEST:
                target.addfile(member, content)
        add(target)
        manifest = json.load(source.extractfile(archive.MANIFEST))  # type: ignore[arg-type]
        change(manifest)
        text = json.dumps(manifest).encode()
        info = tarfile.TarInfo(archive.MANIFEST)
        info.size = len(text)
        target.addfile(info, io.BytesIO(text))
    made.write_bytes(out.getvalue() + sha256(out.getvalue()).hexdigest().encode() + b"\n")


def with_part(name: str) -> tuple[Callable[[dict[str, Any]], None], Callable[[tarfile.TarFile], None]]:
    info = tarfile.TarInfo(name)
    info.size = 4
    part = {"name": name, "size": 4, "sha256": sha256(b"evil").hexdigest()}
    return (
        lambda manifest: manifest["parts"].append(part),
        lambda tar: tar.addfile(info, io.BytesIO(b"evil")),
    )


def nothing(_: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda manifest: manifest.update(format=2), "format 2"),
        (lambda manifest: manifest["migrations"].append("knowledge.9999_later"), "newer .* knowledge.9999_later"),
        (lambda manifest: manifest["migrations"].remove("knowledge.0001_initial"), "older .* knowledge.0001_initial"),
        (lambda manifest: manifest["secrets"].update(pepper="other"), "PARLEY_KEY_PEPPER"),
        (lambda manifest: manifest["secrets"].update(encryption_keys=["other"]), "PARLEY_ENCRYPTION_KEYS"),
        (lambda manifest: manifest["tables"].pop("tenants_user"), "tables"),
        (lambda manifest: manifest["tables"]["tenants_user"].update(rows=7), "tenants_user came out"),
        (lambda manifest: manifest["parts"].pop(), "parts"),
        (lambda manifest: manifest["parts"][0].update(sha256="0" * 64), "not what the manifest says"),
        (lambda manifest: manifest["parts"][-1].update(sha256="0" * 64), "not what the manifest says"),
        (lambda manifest: manifest.clear(), "no backup that Parley made"),
    ],
)
def test_a_backup_that_does_not_fit_is_refused(
    emptied: Callable[[], bool], made: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    repacked(made, change, nothing)
    with pytest.raises(BackupError, match=says):
        restore_backup(made)
    assert emptied()


@pytest.mark.parametrize(
    "name",
    ["files/../../escaped", "/etc/escaped", "files//etc/escaped", "tables/../x", "files/a\\..\\b", "files/", "other"],
)
def test_no_name_in_a_backup_leads_out_of_the_storage(
    emptied: Callable[[], bool], made: Path, tmp_path: Path, name: str
) -> None:
    repacked(made, *with_part(name))
    with pytest.raises(BackupError, match="no backup of Parley holds"):
        restore_backup(made)
    assert emptied()
    assert not list(tmp_path.rglob("escaped"))


def test_a_link_in_a_backup_is_refused(emptied: Callable[[], bool], made: Path) -> None:
    link = tarfile.TarInfo("files/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    repacked(made, nothing, lambda tar: tar.addfile(link))
    with pytest.raises(BackupError, match="no plain file"):
        restore_backup(made)
    assert emptied()


def test_rows_that_break_a_constraint_leave_nothing_behind(
    lived_in: Document, made: Path, servers: Backends, media: Path
) -> None:
    servers.superuser.execute("DELETE FROM tenants_tenant")  # past every foreign key
    broken = write_backup(made.parent / "broken.tar").path
    servers.empty_database()
    shutil.rmtree(media)
    with pytest.raises(BackupError, match="violates foreign key"):
        restore_backup(broken)
    assert Document.objects.count() == 0
    assert stored_files() == []


def test_other_secrets_are_accepted_when_asked_for(emptied: Callable[[], bool], made: Path, settings: Any) -> None:
    settings.PARLEY_KEY_PEPPER = "another pepper that is long enough to be accepted"
    with pytest.raises(BackupError, match="--other-secrets"):
        restore_backup(made)
    restore_backup(made, other_secrets=True)
    assert Conversation.objects.count() == 1


def test_a_rotated_keyring_still_reads_the_backup(emptied: Callable[[], bool], made: Path, settings: Any) -> None:
    newer = "bmV3ZXIga2V5IHRoYXQgb25seSB0ZXN0cyB1c2UgbWU="
    settings.PARLEY_ENCRYPTION_KEYS = [newer, *settings.PARLEY_ENCRYPTION_KEYS]
    restore_backup(made)
    assert Endpoint.objects.get().api_key == "hf_secret"


def test_an_instance_or_a_storage_in_use_is_left_alone(made: Path, servers: Backends) -> None:
    before = rows(servers.superuser)
    with pytest.raises(BackupError, match="not empty"):
        restore_backup(made)
    assert rows(servers.superuser) == before
    servers.empty_database()
    with pytest.raises(BackupError, match="storage is not empty"):
        restore_backup(made)


def test_a_local_stack_s_backup_stays_out_of_production(emptied: Callable[[], bool], made: Path, settings: Any) -> None:
    settings.LOCAL = False
    with pytest.raises(BackupError, match="demo"):
        restore_backup(made)
    assert emptied()


def test_a_file_that_is_gone_is_told_of(lived_in: Document, tmp_path: Path) -> None:
    default_storage.delete(lived_in.stored)
    made = write_backup(tmp_path)
    assert (made.missing, made.files) == ([lived_in.stored], 1)


def test_a_backup_that_fails_leaves_no_file(lived_in: Document, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="cannot be written"):
        write_backup(tmp_path / "nowhere" / "parley.tar")
    make_document(tenant=lived_in.tenant, collection=lived_in.collection, stored="../outside")
    with pytest.raises(BackupError, match="outside"):
        write_backup(tmp_path)
    assert not list(tmp_path.glob("*.tar*"))


def test_every_table_can_be_filled_in_any_order(servers: Backends) -> None:
    """Foreign keys wait for the end of the transaction; and no migration leaves rows that a restore takes for use."""
    fixed = servers.superuser.execute(
        "SELECT conname FROM pg_constraint WHERE contype = 'f' AND NOT condeferrable"
        " AND connamespace = 'public'::regnamespace"
    ).fetchall()
    assert fixed == []
    servers.empty_database()
    filled = {name for name, found in rows(servers.superuser).items() if found}
    assert filled <= set(instance.SEEDED)
