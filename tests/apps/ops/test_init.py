"""`manage.py init` takes an empty database to a Parley that starts, from the environment or from a person's answers."""

from __future__ import annotations

import os
import pty
import re
import select
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from apps.ops import first_start
from local import postgres
from local.home import free_port
from tests.environment import ENVIRONMENT, PASSWORDS, POSTGRES_PORT, REDIS_PASSWORD, REDIS_PORT, ROOT, Backends

ADMIN = "root@acme.com"
PASSWORD = "a long horse and a battery"


def address(role: str) -> str:
    return f"postgres://{role}:{PASSWORDS[role]}@127.0.0.1:{POSTGRES_PORT}/fresh"


@pytest.fixture(scope="module")
def models() -> Iterator[str]:
    """A model server in a process of its own; its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.serving", "--port", str(port)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.readline()
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)
    process.stdout.close()


@pytest.fixture(scope="module")
def migrated(servers: Backends) -> Iterator[psycopg.Connection[Any]]:
    """A database with the extensions and nothing else, at first."""
    servers.superuser.execute("DROP DATABASE IF EXISTS fresh")
    postgres.prepare(POSTGRES_PORT, PASSWORDS, "fresh")
    with postgres.connect(POSTGRES_PORT, PASSWORDS[postgres.SUPERUSER], "fresh") as connection:
        yield connection
    servers.superuser.execute("DROP DATABASE fresh WITH (FORCE)")  # a test that failed may have left a process


@pytest.fixture
def fresh(migrated: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Without people, tenants and endpoints."""
    if migrated.execute("SELECT to_regclass('tenants_user') IS NOT NULL").fetchone() == (True,):
        migrated.execute("TRUNCATE tenants_user, tenants_tenant, inference_endpoint, usage_plan CASCADE")
    return migrated


@pytest.fixture
def environment(models: str, tmp_path: Path) -> dict[str, str]:
    """All that a start without questions needs, and nothing of the tests' own settings."""
    inherited = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    return {
        **inherited,
        "PARLEY_HOME": str(tmp_path / "home"),
        "ALLOWED_HOSTS": "chat.acme.com",
        "DATABASE_URL": address(postgres.APP),
        "OWNER_DATABASE_URL": address(postgres.OWNER),
        "REDIS_URL": f"redis://:{REDIS_PASSWORD}@127.0.0.1:{REDIS_PORT}/0",
        "INIT_ADMIN_EMAIL": ADMIN,
        "INIT_ADMIN_PASSWORD": PASSWORD,
        "INIT_TENANT": "acme",
        "INIT_CHAT_URL": models,
        "INIT_CHAT_MODEL": "fake",
        "INIT_CHAT_KEY": "hf_secret",
        "INIT_EMBEDDING_URL": models,
        "INIT_EMBEDDING_MODEL": "fake",
    }


def manage(*arguments: str, env: dict[str, str]) -> tuple[int, str]:
    process = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = process.stdout + process.stderr
    assert "Traceback" not in said, said
    return process.returncode, said


def assigned(path: Path) -> dict[str, str]:
    return first_start._assigned(path)


def test_from_the_environment_and_again(
    fresh: psycopg.Connection[Any], environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    status, said = manage("init", "--no-input", "--file", str(file), env=environment)
    assert status == 0, said
    assert PASSWORD not in said
    assert "hf_secret" not in said
    kept = assigned(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert kept["PARLEY_ENV"] == "production"
    assert kept["PARLEY_PRIVATE_ENDPOINT_HOSTS"] == "127.0.0.1"
    assert not [name for name in kept if name.startswith("INIT_")]
    assert len({kept[name] for name in first_start.SECRETS}) == 3
    assert fresh.execute("SELECT email, is_superuser FROM tenants_user").fetchall() == [(ADMIN, True)]
    assert fresh.execute("SELECT kind, dimension FROM inference_endpoint ORDER BY 1").fetchall() == [
        ("chat", None),
        ("embedding", 384),
    ]
    assert fresh.execute("SELECT api_key FROM inference_endpoint WHERE kind = 'chat'").fetchone() != ("hf_secret",)
    assert fresh.execute("SELECT role FROM tenants_membership").fetchall() == [("owner",)]
    assert "Plan Standard: what a tenant may use without a plan of its own." in said
    assert fresh.execute("SELECT name, is_default FROM usage_plan").fetchall() == [("Standard", True)]

    # With these settings alone the product starts, is fit for production, and has no demo.
    bare = {"PATH": os.environ["PATH"], **kept}
    assert manage("check", "--deploy", "--fail-level", "WARNING", env=bare)[0] == 0
    status, said = manage("create_demo", env={**bare, "DEMO_CHAT_URL": "http://127.0.0.1:9"})
    assert status != 0
    assert "only where PARLEY_ENV=local" in said

    before = file.read_text()
    status, said = manage("init", "--no-input", "--file", str(file), env=environment)
    assert status == 0, said
    assert "Plan Standard" not in said
    for known in (f"{file} is there", f"Administrator {ADMIN} is there", "Endpoint Chat model is there", "up to date"):
        assert known in said
    assert file.read_text() == before
    assert fresh.execute("SELECT count(*) FROM tenants_user").fetchone() == (1,)


WRONG = [
    ("ALLOWED_HOSTS", "https://chat.acme.com", "without https://"),
    ("DATABASE_URL", "mysql://db/parley", "postgres://"),
    (
        "DATABASE_URL",
        f"postgres://{postgres.APP}:wrong@127.0.0.1:{POSTGRES_PORT}/fresh",
        "password authentication failed",
    ),
    ("OWNER_DATABASE_URL", address(postgres.APP), "same role"),
    ("REDIS_URL", "redis://127.0.0.1:9/0", "does not take it"),
    ("REDIS_URL", "http://127.0.0.1", "does not take it"),
    ("EMAIL_URL", "smtp://127.0.0.1:9", "Connection refused"),
    ("EMAIL_URL", "carrier-pigeon://loft", "smtp+tls://"),
    ("INIT_CHAT_URL", "http://127.0.0.1:9", ""),
    ("INIT_CHAT_URL", "ftp://models", ""),
    ("INIT_CHAT_PROTOCOL", "smoke-signals", "no such protocol"),
    ("INIT_ADMIN_EMAIL", "root", "valid"),
    ("INIT_ADMIN_PASSWORD", "short", "12 characters"),
    ("INIT_TENANT", "Acme & Sons", "lower-case"),
]


def test_what_is_wrong_is_named_and_nothing_is_kept(
    fresh: psycopg.Connection[Any], environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    for name, value, says in WRONG:
        status, said = manage("init", "--no-input", "--file", str(file), env={**environment, name: value})
        last = said.strip().splitlines()[-1]
        assert status != 0, name
        assert name in last, (name, said)
        assert says in last, (name, said)
        assert not file.exists()
    assert fresh.execute("SELECT count(*) FROM tenants_user").fetchone() == (0,)
    for name in ("ALLOWED_HOSTS", "DATABASE_URL", "REDIS_URL", "INIT_ADMIN_EMAIL"):
        without = {key: value for key, value in environment.items() if key != name}
        status, said = manage("init", "--no-input", "--file", str(file), env=without)
        assert status != 0
        assert f"{name} is not set" in said.strip().splitlines()[-1]


def test_a_file_that_lacks_something_is_completed_only_by_force(
    fresh: psycopg.Connection[Any], environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.write_text("PARLEY_KEY_PEPPER=Hq7Zb2Xw9Lm4Rt6Yk1Vp8Nc3Js5Gf0DaEuIoTyWz\nLOG_LEVEL=WARNING\nWEB_REPLICAS=4\n")
    status, said = manage("init", "--no-input", "--file", str(file), env=environment)
    assert status != 0
    assert "lacks ALLOWED_HOSTS" in said
    assert manage("init", "--no-input", "--force", "--file", str(file), env=environment)[0] == 0
    kept = assigned(file)
    assert kept["PARLEY_KEY_PEPPER"].startswith("Hq7Zb2")
    assert (kept["LOG_LEVEL"], kept["WEB_REPLICAS"]) == ("WARNING", "4")
    assert (tmp_path / ".env.old").read_text().startswith("PARLEY_KEY_PEPPER")


def test_the_demo_s_database_is_refused_in_production(
    fresh: psycopg.Connection[Any], environment: dict[str, str], tmp_path: Path
) -> None:
    status, _said = manage("init", "--no-input", "--file", str(tmp_path / "1"), env=environment)
    assert status == 0
    fresh.execute("UPDATE tenants_user SET email = 'admin@parley.example'")
    status, said = manage("init", "--no-input", "--file", str(tmp_path / "2"), env=environment)
    assert status != 0
    assert "admin@parley.example can log in" in said


def test_no_secrets_are_made_up_for_a_database_that_knows_others(
    fresh: psycopg.Connection[Any], environment: dict[str, str], tmp_path: Path
) -> None:
    assert manage("init", "--no-input", "--file", str(tmp_path / "1"), env=environment)[0] == 0
    status, said = manage("init", "--no-input", "--file", str(tmp_path / "lost"), env=environment)
    assert status != 0
    assert "SECRET_KEY, PARLEY_KEY_PEPPER, PARLEY_ENCRYPTION_KEYS" in said
    assert not (tmp_path / "lost").exists()


class Terminal:
    """A person at the terminal: waits for a question, then types."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.mine, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.said = ""

    def read(self, until: str, seconds: float = 250) -> None:
        deadline = time.monotonic() + seconds
        while until not in self.said:
            assert time.monotonic() < deadline, self.said
            if select.select([self.mine], [], [], 1)[0]:
                self.said += os.read(self.mine, 4096).decode()

    def answer(self, question: str, text: str) -> None:
        self.read(question)
        self.said = self.said.partition(question)[2]
        os.write(self.mine, f"{text}\n".encode())

    def end(self) -> int:
        status = self.process.wait(120)
        os.close(self.mine)
        return status


def test_a_person_s_answers_are_tried_and_asked_for_again(
    fresh: psycopg.Connection[Any], environment: dict[str, str], models: str, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    asked = {
        name: value for name, value in environment.items() if not re.match(r"INIT_|ALLOWED|.*DATABASE_URL|REDIS", name)
    }
    terminal = Terminal([sys.executable, "manage.py", "init", "--file", str(file)], asked)
    terminal.answer("The domain", "https://chat.acme.com")
    terminal.answer("The domain", "chat.acme.com")
    terminal.answer("behind a proxy", "")
    terminal.answer("restricted role", "postgres://nobody:nothing@127.0.0.1:9/fresh")
    terminal.answer("restricted role", environment["DATABASE_URL"])
    terminal.answer("owns the tables", environment["OWNER_DATABASE_URL"])
    terminal.answer("role of operators", "")
    terminal.answer("Redis:", environment["REDIS_URL"])
    terminal.answer("The mail server", "")
    terminal.answer("The chat model's server", "http://127.0.0.1:9")
    terminal.answer("Its protocol", "")
    terminal.answer("The model, as", "fake")
    terminal.answer("Its API key", "")
    terminal.answer("The chat model's server", models)
    terminal.answer("Its protocol", "openai")
    terminal.answer("The model, as", "fake")
    terminal.answer("Its API key", "hf_secret")
    terminal.answer("The embedding model's server", "")
    terminal.answer("The administrator's e-mail", ADMIN)
    terminal.answer("The administrator's password", PASSWORD)
    terminal.answer("The first tenant", "")
    terminal.read("Parley is set up")
    assert "hf_secret" not in terminal.said
    assert PASSWORD not in terminal.said
    assert terminal.end() == 0
    assert assigned(file)["PARLEY_BEHIND_PROXY"] == "on"
    assert fresh.execute("SELECT email FROM tenants_user").fetchall() == [(ADMIN,)]
    assert fresh.execute("SELECT kind, model FROM inference_endpoint").fetchall() == [("chat", "fake")]


def test_leaving_in_between_keeps_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    asked = {name: value for name, value in environment.items() if name != "ALLOWED_HOSTS"}
    terminal = Terminal([sys.executable, "manage.py", "init", "--file", str(tmp_path / ".env")], asked)
    terminal.read("The domain")
    os.write(terminal.mine, b"\x04")  # the end of input
    terminal.read("Nothing was written")
    assert terminal.end() != 0
    assert not (tmp_path / ".env").exists()


@pytest.mark.parametrize("value", ["plain", "with $dollar and # hash", "it's", 'a "b" \\ c', 'it\'s "$x"'])
def test_the_file_is_read_back_as_it_was_written(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_FROM_EMAIL", value)
    first_start.write(tmp_path / ".env", force=False)
    assert assigned(tmp_path / ".env")["DEFAULT_FROM_EMAIL"] == value


def test_a_complaint_about_an_address_does_not_repeat_its_password() -> None:
    complaint = first_start._postgres("postgres://parley:50%-secret@127.0.0.1/parley")
    assert "percent-encoded" in complaint
    assert "secret" not in complaint
