"""An export holds every row and file of its tenant, no secret, and nothing of anybody else."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import tarfile
import tracemalloc
from contextlib import nullcontext
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.inference.models import Endpoint
from apps.knowledge.collections import create_collection
from apps.ops import export
from apps.ops.archive import BackupError
from apps.ops.belongings import left_out, owned_models
from apps.ops.export import export_tenant
from apps.tenants.models import AuditEntry, EndUser, Tenant
from tests.apps.knowledge.conftest import embeddings, endpoint, patient, storage
from tests.apps.ops.two_tenants import dumped, files, lived_in
from tests.environment import Backends
from tests.factories import make_end_user, make_tenant

__all__ = ["embeddings", "endpoint", "patient", "storage"]

# Every column that an export lacks. A new secret has to be left out, and to be on this list.
LEFT_OUT = {
    "tenants_apikey": {"digest"},
    "tenants_invitation": {"digest"},
    "oauth_application": {"client_secret"},
    "oauth_grant": {"code", "code_challenge"},
    "oauth_accesstoken": {"token", "token_checksum"},
    "oauth_refreshtoken": {"token", "token_checksum"},
    "oauth_devicegrant": {"device_code", "user_code"},
    "webhooks_webhook": {"secret", "previous_secret"},
    "widget_widget": {"identity_secret", "previous_identity_secret"},
    "knowledge_source": {"secret_key"},
    "knowledge_chunk": {"tsv"},
    "conversations_share": {"digest"},
}
# Names that sound like a secret's, and are none's.
HARMLESS = re.compile(
    r".*_tokens|tokens|.*_token_id|id_token_id|.*_until|key_id|api_key_id|key|access_key|lease_token|token_family"
    r"|.*(error|failure|status)_code|code_challenge_method|digest|logo_digest|hash|.*_token_ms"
)


@pytest.fixture
def acme(endpoint: Endpoint) -> Tenant:
    return lived_in("acme", endpoint, create_collection)


def columns() -> dict[str, list[Any]]:
    return {model._meta.db_table: list(model._meta.concrete_fields) for model in owned_models()}


def lines(directory: Path, table: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / f"tables/{table}.jsonl").read_text().splitlines()]


def test_it_holds_every_row_and_file(acme: Tenant, tmp_path: Path, servers: Backends) -> None:
    globex = lived_in("globex", Endpoint.objects.get(), create_collection)
    rows, stored = dumped(servers.superuser, acme.pk), files(acme.pk)
    find = "SELECT id::text FROM {} WHERE tenant_id = %s ORDER BY id"
    ids = {name: servers.superuser.execute(find.format(name), [acme.pk]).fetchall() for name in columns()}
    call_command("export_tenant", "acme", "--to", str(tmp_path / "acme"), stdout=StringIO())
    manifest = json.loads((tmp_path / "acme/manifest.json").read_text())
    assert {name: table["rows"] for name, table in manifest["tables"].items()} == {
        name: len(found) for name, found in rows.items() if name != "inference_endpoint_tenants"
    }
    assert {name for name, found in rows.items() if found} >= {
        "knowledge_embedding",
        "widget_widget",
        "usage_usagerecord",
    }
    for name, fields in columns().items():
        found = lines(tmp_path / "acme", name)
        assert [row["id"] for row in found] == [pk for (pk,) in ids[name]]
        kept = {field.column for field in fields} - LEFT_OUT.get(name, set())
        assert all(row.keys() == kept for row in found), name
    assert lines(tmp_path / "acme", "tenants_tenant")[0]["name"] == acme.name
    assert (
        files(acme.pk)
        == {
            str(path.relative_to(tmp_path / "acme/files")): path.read_bytes()
            for path in (tmp_path / "acme/files").rglob("*")
            if path.is_file()
        }
        == stored
    )
    assert len(stored) == 2
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert str(globex.pk).encode() not in everything
    assert AuditEntry.objects.filter(tenant=acme, action="tenant.exported").count() == 1


def test_each_part_is_what_the_manifest_says(acme: Tenant, tmp_path: Path) -> None:
    export_tenant(acme, tmp_path / "acme")
    for part in json.loads((tmp_path / "acme/manifest.json").read_text())["parts"]:
        path = tmp_path / "acme" / part["name"]
        assert (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) == (part["size"], part["sha256"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_tar_holds_the_same(acme: Tenant, tmp_path: Path) -> None:
    export_tenant(acme, tmp_path / "acme")
    made = export_tenant(acme, tmp_path / "acme.tar")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    with tarfile.open(made.path) as tar:
        held = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    unpacked = {
        str(path.relative_to(tmp_path / "acme")): path.read_bytes()
        for path in (tmp_path / "acme").rglob("*")
        if path.is_file()
    }
    assert held.keys() == unpacked.keys()
    del held["manifest.json"], unpacked["manifest.json"]
    assert held == unpacked


def test_no_secret_is_in_it(acme: Tenant, tmp_path: Path) -> None:
    found = {
        name: {field.column for field in fields if left_out(field)}
        for name, fields in columns().items()
        if any(map(left_out, fields))
    }
    assert found == LEFT_OUT
    for name, fields in columns().items():
        for field in fields:
            if re.search("secret|token|password|digest|hash|code|key", field.column) and not left_out(field):
                assert HARMLESS.fullmatch(field.column), f"{name}.{field.column} is exported: is it a secret?"
    export_tenant(acme, tmp_path / "acme")
    manifest = json.loads((tmp_path / "acme/manifest.json").read_text())
    assert manifest["tables"]["webhooks_webhook"]["left_out"]["secret"] == "a secret, stored encrypted"
    told = {name: set(table["left_out"]) for name, table in manifest["tables"].items() if table["left_out"]}
    assert told == LEFT_OUT


def test_no_table_of_tenants_is_forgotten(servers: Backends) -> None:
    named = servers.superuser.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE a.attname = 'tenant_id'"
        " AND c.relkind IN ('r', 'p') AND c.relrowsecurity"
    ).fetchall()
    assert {name for (name,) in named} == columns().keys()


def test_it_is_of_one_moment(acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, servers: Backends) -> None:
    write = export._write_table

    def meanwhile(tenant: Tenant, target: Any, model: Any) -> dict[str, Any]:
        servers.superuser.execute("DELETE FROM tenants_enduser WHERE tenant_id = %s", [tenant.pk])
        return write(tenant, target, model)

    monkeypatch.setattr(export, "_write_table", meanwhile)
    export_tenant(acme, tmp_path / "acme")
    assert len(lines(tmp_path / "acme", "tenants_enduser")) == 1


def test_many_rows_take_no_more_memory(database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acme = make_tenant("acme")
    make_end_user(tenant=acme)
    export_tenant(acme, tmp_path / "warm")
    EndUser.objects.bulk_create(
        [EndUser(tenant=acme, external_id=f"{n:06}" + "x" * 190) for n in range(20_000)], batch_size=5_000
    )
    tracemalloc.start()
    made = export_tenant(acme, tmp_path / "many")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.rows == 20_002
    assert (tmp_path / "many/tables/tenants_enduser.jsonl").stat().st_size > 6_000_000
    assert peak < 3_000_000


@pytest.mark.parametrize("name", ["there", "there.tar"])
def test_what_is_there_is_not_written_over(acme: Tenant, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(CommandError, match="exists already"):
        call_command("export_tenant", "acme", "--to", str(tmp_path / name))
    assert (tmp_path / name).read_text() == "mine"


def test_an_empty_directory_is_filled(acme: Tenant, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    export_tenant(acme, tmp_path / "empty")
    assert (tmp_path / "empty/manifest.json").exists()
    with pytest.raises(CommandError, match="exists already"):
        call_command("export_tenant", "acme", "--to", str(tmp_path / "empty"))


def test_what_fails_leaves_nothing_behind(acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("export_tenant", "acme", "--to", str(tmp_path / "nowhere/acme.tar"))
    with pytest.raises(CommandError, match="no tenant 'acmee'"):
        call_command("export_tenant", "acmee", "--to", str(tmp_path / "acme.tar"))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_write_files", full)
    for name in ("acme", "acme.tar"):
        with pytest.raises(CommandError, match="No space left"):
            call_command("export_tenant", "acme", "--to", str(tmp_path / name))
    assert not [path for path in tmp_path.iterdir() if path.name != "media"]


@pytest.mark.parametrize("name", ["acme", "acme.tar"])
def test_two_at_once_do_each_other_no_harm(
    acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Nor do they touch what is called as if it were theirs."""
    write, others = export._write_files, tmp_path / f"{name}.partial"
    others.mkdir()
    (others / "notes").write_text("mine")

    def meanwhile(tenant: Tenant, target: Any) -> Any:
        monkeypatch.setattr(export, "_write_files", write)
        export_tenant(acme, tmp_path / name)
        return write(tenant, target)

    monkeypatch.setattr(export, "_write_files", meanwhile)
    # A tar that is complete takes the place of another one, a directory does not.
    with nullcontext() if name.endswith(".tar") else pytest.raises(BackupError, match="not empty"):
        export_tenant(acme, tmp_path / name)
    assert len(held_by(tmp_path / name)) == len(columns()) + 4  # the tenant, two files and the manifest
    assert (others / "notes").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} - {"media"} == {name, others.name}


def held_by(path: Path) -> list[str]:
    if path.is_dir():
        return [str(part) for part in path.rglob("*") if part.is_file()]
    with tarfile.open(path) as tar:
        return tar.getnames()
