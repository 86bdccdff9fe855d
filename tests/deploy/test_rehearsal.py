"""The image is built and its services are started as Docker would, without Docker: the Dockerfile's steps in a clean
directory, docker-compose.yml's own commands and variables, a user who may write only where the volumes are.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from local import postgres
from local.home import free_port
from local.processes import healthy, spawn, stop, wait_until
from tests.deploy import compose
from tests.deploy.dockerfile import Instruction
from tests.deploy.test_image import BUILD, PARLEY
from tests.deploy.test_image import environment as image_environment
from tests.environment import HOME, REDIS_PASSWORD, REDIS_PORT, ROOT, Backends

pytestmark = [pytest.mark.journey, pytest.mark.timeout(420)]

PASSWORD = "rehearsed"
_WRITTEN = subprocess.run(
    [ROOT / "deploy" / "dotenv.sh", "chat.example.com"], capture_output=True, text=True, check=True
).stdout
DOTENV = dict(re.findall(r"^(\w+)=(.+)$", _WRITTEN, re.MULTILINE)) | {
    "POSTGRES_PASSWORD": PASSWORD,
    "REDIS_PASSWORD": REDIS_PASSWORD,
}


def unprivileged() -> tuple[str, str | None]:
    """A Python, and a user other than root who can reach it: root's own may lie in a home that is closed to others."""
    user = postgres.system_user()
    for python in (sys._base_executable, "/usr/bin/python3.11"):  # type: ignore[attr-defined]
        with suppress(OSError):
            subprocess.run([python, "-c", ""], user=user, check=True)
            return python, user
    pytest.skip("needs a Python 3.11 that an unprivileged user can reach")


@dataclass(frozen=True)
class Image:
    """The image's file system, under `root`, and where its services find their neighbours."""

    root: Path
    postgres_port: int
    system_python: str
    user: str | None

    def real(self, text: str) -> str:
        """A command or a value of the image, as it is here."""
        for inside in ("/opt/venv", "/srv/parley", "/var/lib/parley"):
            text = text.replace(inside, f"{self.root}{inside}")
        here = {
            "postgres:5432": f"127.0.0.1:{self.postgres_port}",
            "redis:6379": f"127.0.0.1:{REDIS_PORT}",
            "cache:6379": f"127.0.0.1:{REDIS_PORT}",
        }
        for name, address in here.items():
            text = text.replace(f"@{name}", f"@{address}")
        return text

    @property
    def workdir(self) -> Path:
        return self.root / "srv" / "parley"

    def environment(self, service: str) -> dict[str, str]:
        """Nothing but what the container has."""
        given = image_environment(PARLEY) | compose.environment(service, DOTENV)
        return {
            name: self.real(value).replace("$PATH", os.defpath) for name, value in given.items() if name != "HOME"
        } | {"HOME": str(self.tmp), "TMPDIR": str(self.tmp)}

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    def command(self, service: str) -> list[str]:
        program, *arguments = compose.filled(compose.SERVICES[service]["command"], {})
        return [str(self.root / "opt/venv/bin" / program), *(str(self.tmp) if a == "/tmp" else a for a in arguments)]

    def run(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run to its end as the container's user."""
        return subprocess.run(
            command,
            cwd=self.workdir,
            env=self.environment(service),
            user=self.user,
            group=self.user and pwd.getpwnam(self.user).pw_gid,
            extra_groups=[] if self.user else None,
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def started(self, service: str, *command: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
        """A process in the container's workdir, as its user, and its log."""
        log = self.root / f"{service}.log"
        shell = ["/bin/sh", "-c", f"cd {self.workdir} && exec {shlex.join(command)}"]
        process = spawn(shell, log=log, env=self.environment(service), user=self.user)
        try:
            yield process, log
        finally:
            stop(process)

    @property
    def python(self) -> str:
        return str(self.root / "opt/venv/bin/python")


@pytest.fixture(scope="module")
def database(servers: Backends) -> Iterator[int]:
    """The port of a PostgreSQL that deploy/postgres set up when it was new."""
    data, port, log = HOME / "rehearsed-postgres", free_port(), HOME / "rehearsed-postgres.log"
    postgres.initialise(data, PASSWORD, durable=False)
    process = spawn(
        postgres.command(data, port, durable=False),
        log=log,
        env=os.environ,
        user=postgres.system_user(),
        on_orphaned=signal.SIGQUIT,
    )
    wait_until(lambda: postgres.answers(port, PASSWORD), name="postgres", process=process, log=log)
    client = {"PATH": f"{postgres.binaries()}:{os.defpath}", "PGHOST": "127.0.0.1", "PGPORT": str(port)}
    given = compose.environment("postgres", DOTENV)
    [script] = (ROOT / "deploy" / "postgres").glob("*.sh")
    subprocess.run([script], env={**client, **given, "PGPASSWORD": PASSWORD}, check=True, stdout=subprocess.DEVNULL)
    yield port
    stop(process, signal.SIGQUIT)
    shutil.rmtree(data)


@pytest.fixture(scope="module")
def image(database: int) -> Image:
    """Built by the Dockerfile's own steps; afterwards only /tmp and the media may be written to."""
    root = HOME / "image"
    built = Image(root, database, *unprivileged())
    for directory in (built.workdir, built.tmp, root / "var/lib/parley/media"):
        directory.mkdir(parents=True)
    for instruction in BUILD.instructions:
        if instruction.name == "COPY":
            _copy(instruction, built.workdir)
        elif instruction.name == "RUN":
            _build(instruction, built)
    if built.user:
        shutil.chown(built.tmp, built.user)
        shutil.chown(root / "var/lib/parley/media", built.user)
    return built


def _copy(instruction: Instruction, workdir: Path) -> None:
    *sources, target = instruction.operands()
    for source in sources:
        if (ROOT / source).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(ROOT / source, workdir / target, ignore=ignored)
        else:
            into = workdir / target / Path(source).name if target.endswith("/") else workdir / target
            into.parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / source, into)


def _build(instruction: Instruction, image: Image) -> None:
    """Run a step. Unlike a builder's, its Python is made first, and packages may come from the cache."""
    builder = image.root / "builder"
    if not builder.exists():
        subprocess.run([image.system_python, "-m", "venv", builder], check=True)
    step = image.real(instruction.text).replace("/usr/local/bin/python3", image.system_python)
    step = step.replace("--no-cache-dir ", "").replace("--no-cache ", "").replace("--root-user-action ignore ", "")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PARLEY", "DJANGO", "VIRTUAL"))}
    env["PATH"] = f"{builder}/bin:{env['PATH']}"
    shell = BUILD.last("SHELL").exec_form()
    built = subprocess.run([*shell, step], cwd=image.workdir, env=env, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr


def test_the_database_is_migrated_by_its_owner(image: Image) -> None:
    migrated = image.run("migrate", *image.command("migrate"))
    assert migrated.returncode == 0, migrated.stderr
    assert "The database is up to date." in migrated.stdout
    again = image.run("migrate", *image.command("migrate"))
    assert again.stdout == "The database is up to date.\n"


def test_the_settings_are_fit_for_production(image: Image) -> None:
    checked = image.run("web", image.python, "manage.py", "check", "--deploy", "--fail-level", "WARNING")
    assert checked.returncode == 0, checked.stderr


def test_no_demo_comes_into_production(image: Image) -> None:
    refused = image.run("web", image.python, "manage.py", "create_demo")
    assert refused.returncode == 1
    assert "PARLEY_ENV=local" in refused.stderr


def test_web_worker_and_beat_run_on_a_read_only_file_system(image: Image) -> None:
    port = free_port()
    inside, outside = "0.0.0.0 --port 8000", f"127.0.0.1 --port {port}"
    web = shlex.split(shlex.join(image.command("web")).replace(inside, outside))
    before = _files(image)
    with (
        image.started("web", *web) as (process, log),
        image.started("worker", *image.command("worker")) as (worker, worker_log),
        image.started("beat", *image.command("beat")) as (beat, beat_log),
    ):
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: healthy(f"{address}/healthz/ready"), name="web", process=process, log=log)
        check = [part.replace(":8000/", f":{port}/") for part in PARLEY.last("HEALTHCHECK").exec_form()]
        assert image.run("web", image.python, *check[1:]).returncode == 0
        wait_until(lambda: any(image.tmp.glob("beat*")), name="beat", process=beat, log=beat_log)
        ping = compose.SERVICES["worker"]["healthcheck"]["test"][2:]
        wait_until(
            lambda: image.run("worker", image.python, *ping).returncode == 0,
            name="worker",
            process=worker,
            log=worker_log,
        )
    assert _files(image) == before
    assert '"level": "error"' not in log.read_text() + worker_log.read_text() + beat_log.read_text()


def test_a_backup_is_made_by_the_owner(image: Image) -> None:
    made = image.run("migrate", image.python, "manage.py", "backup", str(image.tmp))
    assert made.returncode == 0, made.stderr
    assert len([*image.tmp.glob("*.tar")]) == 1


def test_documents_are_read_by_an_unprivileged_worker(image: Image) -> None:
    program = (
        "import sys; from pathlib import Path; from chatbot.extraction import PDF, extract;"
        "print(extract(Path(sys.argv[1]), PDF).pages[0].text)"
    )
    read = image.run("worker", image.python, "-c", program, str(ROOT / "docs" / "assets" / "sample-manual.pdf"))
    assert read.returncode == 0, read.stderr
    assert read.stdout.strip()


def _files(image: Image) -> set[Path]:
    """All but what the tests write and what may be written to."""
    fixed = (image.root / "opt", image.root / "srv", image.root / "var")
    return {path for part in fixed for path in part.rglob("*")}
