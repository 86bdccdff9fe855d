"""deploy/Dockerfile against the code: every path, command, port and variable in it exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.conf import settings
from django.urls import resolve

from config.run import command_line
from tests.deploy.dockerfile import Instruction, Stage, stages
from tests.deploy.proxy import START
from tests.environment import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
STAGES = stages(DOCKERFILE)
PARLEY, NGINX, BUILD = STAGES["parley"], STAGES["nginx"], STAGES["build"]
COPIES = [(stage.name, copy) for stage in STAGES.values() for copy in stage.all("COPY")]


def environment(stage: Stage) -> dict[str, str]:
    words = (word for line in stage.all("ENV") for word in shlex.split(line.text))
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def port_in(text: str) -> int:
    return int(re.findall(r"[: ](\d{4})\b", text)[-1])


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    checked = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize(("stage", "copy"), COPIES, ids=lambda value: getattr(value, "text", value))
def test_what_is_copied_is_there_and_is_sent_to_the_builder(stage: str, copy: Instruction) -> None:
    *sources, _ = copy.operands()
    if source_stage := copy.options().get("from"):
        assert source_stage in STAGES
        made = " ".join(run.text for run in STAGES[source_stage].all("RUN")) + STAGES[source_stage].last("WORKDIR").text
        assert all(source in made for source in sources)
        return
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in sources:
        assert (ROOT / source).exists()
        assert any(source == entry or source.startswith(f"{entry}/") for entry in sent)


def test_nothing_secret_or_needless_is_sent_to_the_builder() -> None:
    first, *lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    assert first == "*"
    sent = {line[1:] for line in lines if line.startswith("!")}
    copied = {source for _, copy in COPIES if "from" not in copy.options() for source in copy.operands()[:-1]}
    assert sent == copied


def test_dependencies_are_those_that_are_locked_and_nothing_is_compiled() -> None:
    runs = " ".join(run.text for stage in STAGES.values() for run in stage.all("RUN"))
    installs = re.findall(r"(?:pip|uv pip) install .*?--requirement \S+", runs)
    assert len(installs) == 2
    for install in installs:
        assert "--require-hashes" in install
        assert "--only-binary :all:" in install
    installed = {f"requirements/{name}.txt" for name in ("bootstrap", "base", "ocr")}
    assert set(re.findall(r"requirements/[\w.]+", runs)) == installed
    assert not re.search(r"apt-get|apk |gcc|curl |wget ", runs)


def test_images_are_pinned_and_python_is_the_one_of_the_lock() -> None:
    pins = {stage.image for stage in STAGES.values()}
    assert all(re.fullmatch(r"(python|nginx):\d+\.\d+\.\d+(-slim)?-bookworm", pin) for pin in pins)
    assert PARLEY.image == BUILD.image
    assert PARLEY.image.startswith("python:3.11.")


@pytest.mark.parametrize("stage", [PARLEY, NGINX], ids=lambda stage: stage.name)
def test_an_image_runs_as_nobody_in_particular_and_stops_when_it_is_told(stage: Stage) -> None:
    user, _, group = stage.last("USER").text.partition(":")
    assert int(user) > 0 < int(group)
    assert stage.last("STOPSIGNAL").text in {"SIGTERM", "SIGQUIT"}
    assert {"interval", "timeout", "start-period", "retries"} <= set(stage.last("HEALTHCHECK").options())
    assert stage.last("CMD").exec_form()


def test_the_web_process_listens_where_it_is_looked_for() -> None:
    program, flag, module, *arguments = PARLEY.last("CMD").exec_form()
    assert (program, flag, module) == ("python", "-m", "config.run")
    port = int(PARLEY.last("EXPOSE").text)
    assert f"port={port}:interface=0.0.0.0:" in " ".join(command_line(arguments))
    check = PARLEY.last("HEALTHCHECK").exec_form()[-1]
    assert port_in(check.partition("/healthz")[0]) == port
    assert resolve(re.findall(r"/healthz/\w+", check)[0]).func.__name__ == "live"
    assert environment(NGINX)["NGINX_WEB"] == f"web:{port}"


def test_where_the_image_writes_is_where_the_product_writes() -> None:
    home = environment(PARLEY)["PARLEY_HOME"]
    assert settings.MEDIA_ROOT == settings.PARLEY_HOME / "media"
    assert f"{home}/media" in " ".join(run.text for run in PARLEY.all("RUN"))
    assert settings.STATIC_ROOT == settings.PARLEY_HOME / "static"
    assert f"{home}/static" in [copy.operands()[-1] for copy in PARLEY.all("COPY")]
    assert re.search(rf"NGINX_ROOT:={home}}}", START.read_text())


def test_nginx_starts_what_is_copied_and_is_looked_for_where_it_listens() -> None:
    [command] = NGINX.last("CMD").exec_form()
    [copy] = [copy for copy in NGINX.all("COPY") if "from" not in copy.options()]
    source, target = copy.operands()
    assert ROOT / source / Path(command).relative_to(target) == START
    script = START.read_text()
    listened = dict(re.findall(r"(NGINX_\w*PORT):=(\d+)", script))
    assert NGINX.last("EXPOSE").text.split() == [listened["NGINX_PORT"], listened["NGINX_TLS_PORT"]]
    address = NGINX.last("HEALTHCHECK").exec_form()[-1]
    assert address == f"http://127.0.0.1:{listened['NGINX_STATUS_PORT']}/healthz"
    assert all(f"${{{name}:=" in script for name in environment(NGINX))
    assert f"PARLEY_MAX_UPLOAD_BYTES:={settings.PARLEY_MAX_UPLOAD_BYTES}}}" in script


def test_every_module_that_the_image_runs_exists() -> None:
    runs = " ".join(run.text for run in BUILD.all("RUN"))
    modules = set(re.findall(r"-m ([\w.]+)", runs)) - {"pip"}
    assert modules
    assert all(find_spec(module) for module in modules)
