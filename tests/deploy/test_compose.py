"""docker-compose.yml against the code and against what a host on the Internet needs of it."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from typing import Any

import pytest
from django.core.management import get_commands

from apps.edge.queues import QUEUES
from apps.knowledge import pipeline
from chatbot.supervising import Limits
from config.run import command_line
from tests.deploy.compose import COMPOSE, SERVICES, TEXT, environment, filled, passed_on, variables
from tests.deploy.proxy import START
from tests.deploy.test_image import PARLEY, STAGES
from tests.deploy.test_image import environment as image_environment
from tests.environment import ROOT

WORKERS = ("worker", "worker-large", "worker-rest")
OURS = ("web", *WORKERS, "beat", "layouts", "migrate")
MODEL_SERVERS = ("tgi", "vllm", "llamacpp", "tei")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
# Set by the image, by compose itself, or of no use in a container.
NOT_TAKEN_OVER = {"PARLEY_HOME", "PROMETHEUS_MULTIPROC_DIR", "PORT"}
# https://github.com/compose-spec/compose-spec/blob/main/05-services.md: those in use here.
KEYS = {
    *("build", "cap_add", "cap_drop", "command", "depends_on", "deploy", "environment", "healthcheck", "image", "init"),
    *("logging", "networks", "ports", "profiles", "read_only", "restart", "security_opt", "shm_size"),
    *("stop_grace_period", "tmpfs", "user", "volumes"),
}
each_service = pytest.mark.parametrize("name", SERVICES)


def known(text: str = EXAMPLE) -> dict[str, str]:
    """The variables of .env.example and their defaults."""
    return dict(re.findall(r"^(?:# )?([A-Z][A-Z_]+)=(.*)$", text, re.MULTILINE))


def example_env() -> dict[str, str]:
    """A .env with nothing but what has to be there."""
    return {name: "secret" for name, _, required in variables() if required}


# --- Variables --------------------------------------------------------------------------------------------------------


def test_every_variable_is_in_the_example_with_the_same_default() -> None:
    for name, default, required in variables():
        assert name in known(), name
        if required:
            assert re.search(rf"^{name}=$", EXAMPLE, re.MULTILINE), name
        elif default and name != "PARLEY_PRIVATE_ENDPOINT_HOSTS":  # compose knows hosts of its own
            assert known()[name] == default, name


def test_every_setting_of_the_example_reaches_the_product() -> None:
    product, _, compose = EXAMPLE.partition("--- Docker compose")
    for service in ("web", *WORKERS, "beat"):
        taken = set(SERVICES[service]["environment"])
        # What begins with INIT_ is for one command alone, and holds a password.
        lasting = {name for name in known(product) if not name.startswith("INIT_")}
        assert lasting - NOT_TAKEN_OVER - {"OWNER_DATABASE_URL"} == taken
    used = {name for name, *_ in variables()} | passed_on()
    assert set(known(compose)) <= used


def test_a_new_env_file_has_what_is_required_each_time_anew() -> None:
    script = ROOT / "deploy" / "dotenv.sh"
    one, two = (known(subprocess.check_output([script, "chat.example.com"], text=True)) for _ in range(2))
    assert set(one) == {name for name, _, required in variables() if required}
    assert one.pop("ALLOWED_HOSTS") == two.pop("ALLOWED_HOSTS") == "chat.example.com"
    assert not set(one.values()) & set(two.values())
    for name, value in one.items():
        assert re.fullmatch(r"[0-9a-f]{64}" if name != "PARLEY_ENCRYPTION_KEYS" else r"[\w-]{43}=", value)


def test_nothing_is_passed_on_that_nobody_reads() -> None:
    assert passed_on() <= set(known())
    assert all(f"${{{name}:=" in START.read_text() for name in SERVICES["nginx"]["environment"])


def test_secrets_come_from_the_environment_and_go_where_they_are_needed() -> None:
    for name, default, _ in variables():
        if re.search("PASSWORD|SECRET|PEPPER|KEYS", name):
            assert default is None
    owning = {name for name in SERVICES if "OWNER_DATABASE_URL" in SERVICES[name].get("environment", {})}
    assert owning == {"layouts", "migrate"}
    holders = {name for name, one in SERVICES.items() if "POSTGRES_PASSWORD" in str(one)}
    assert holders == {"postgres"}
    assert environment("web", example_env())["DATABASE_URL"] == "postgres://parley_app:secret@postgres:5432/parley"


def test_the_model_servers_of_every_profile_may_be_reached() -> None:
    assert environment("web", example_env())["PARLEY_PRIVATE_ENDPOINT_HOSTS"].split(",") == list(MODEL_SERVERS)
    assert environment("worker", example_env())["PARLEY_PRIVATE_ENDPOINT_HOSTS"].split(",") == list(MODEL_SERVERS)
    for name in MODEL_SERVERS:
        assert SERVICES[name]["profiles"] == [name]


# --- Commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_of_the_code(name: str) -> None:
    program, *arguments = filled(SERVICES[name]["command"], {})
    assert program == "python"
    if arguments[0] == "manage.py":
        assert arguments[1] in get_commands()
    else:
        assert arguments[:2] == ["-m", "config.run"]
        assert arguments[2] == name.partition("-")[0]
        assert command_line(arguments[2:])


def test_the_web_service_does_what_the_image_does_by_itself() -> None:
    assert SERVICES["web"]["command"] == PARLEY.last("CMD").exec_form()


def test_the_workers_health_is_asked_of_our_celery() -> None:
    check = SERVICES["worker"]["healthcheck"]["test"]
    assert check[:6] == ["CMD", "python", "-m", "celery", "-A", "config.celery"]
    assert find_spec("config.celery")


def test_each_queue_has_a_worker() -> None:
    taken = [filled(SERVICES[name]["command"], {})[-1] for name in WORKERS]
    assert taken == list(QUEUES)


@pytest.mark.parametrize("name", ["worker", "worker-large"])
def test_a_worker_has_the_memory_that_its_readers_may_take(name: str) -> None:
    command, limit = filled(SERVICES[name]["command"], {}), SERVICES[name]["deploy"]["resources"]["limits"]["memory"]
    places = int(command[command.index("--concurrency") + 1])
    readers = places * pipeline.MOST_AT_ONCE * Limits().scan_memory_mb
    assert int(limit.removesuffix("G")) * 1024 >= readers + 1024  # its own, and what lies in /tmp


def test_images_are_built_from_stages_that_exist_and_others_are_pinned() -> None:
    for one in SERVICES.values():
        if "build" in one:
            assert one["build"]["target"] in STAGES
            assert (ROOT / one["build"]["dockerfile"]).is_file()
        else:
            _, _, tag = one["image"].rpartition(":")
            assert re.search(r"\d|^server$", tag)
            assert tag != "latest"


# --- Walls ------------------------------------------------------------------------------------------------------------


@each_service
def test_a_service_has_no_rights_that_it_does_not_need(name: str) -> None:
    one = SERVICES[name]
    assert set(one) <= KEYS
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["init"] is True
    assert set(one["logging"]["options"]) == {"max-size", "max-file"}
    assert one["restart"] == ("on-failure:3" if name == "migrate" else "unless-stopped")
    if name not in MODEL_SERVERS:
        assert one["read_only"] is True
    if name != "postgres":
        assert "cap_add" not in one


def test_only_nginx_is_reached_from_outside() -> None:
    assert [name for name, one in SERVICES.items() if "ports" in one] == ["nginx"]
    assert "docker.sock" not in TEXT
    assert COMPOSE["networks"]["data"] == {"internal": True}
    assert {name: set(one["networks"]) for name, one in SERVICES.items()} == {
        "nginx": {"front"},
        "web": {"front", "data", "models"},
        **{name: {"data", "models"} for name in WORKERS},
        "beat": {"data"},
        "layouts": {"data"},
        "migrate": {"data"},
        "postgres": {"data"},
        "redis": {"data"},
        "cache": {"data"},
        **{name: {"models"} for name in MODEL_SERVERS},
    }


@pytest.mark.parametrize("name", OURS)
def test_what_the_product_writes_has_a_place(name: str) -> None:
    assert any(mount.startswith("/tmp:") for mount in SERVICES[name]["tmpfs"])
    volumes = SERVICES[name].get("volumes", [])
    media = f"media:{image_environment(PARLEY)['PARLEY_HOME']}/media"
    assert volumes == ([] if name in ("beat", "layouts") else [media])


# --- Order ------------------------------------------------------------------------------------------------------------


def has_health(name: str) -> bool:
    check: dict[str, Any] = SERVICES[name].get("healthcheck", {})
    return "test" in check or ("build" in SERVICES[name] and not check.get("disable"))


@each_service
def test_whoever_is_waited_for_can_be_seen_to_be_ready(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        if other == "migrate":
            assert wanted["condition"] == "service_completed_successfully"
        else:
            assert wanted["condition"] == "service_healthy"
            assert has_health(other), other
        # A model server may be elsewhere, and a dead one stops nobody from starting.
        assert other not in MODEL_SERVERS


def test_everything_but_short_work_is_watched() -> None:
    assert {name for name in SERVICES if not has_health(name)} == {"beat", "layouts", "migrate"}


def test_redis_forgets_nothing_and_the_cache_may() -> None:
    said = {name: " ".join(SERVICES[name]["command"]) for name in ("redis", "cache")}
    assert "--maxmemory-policy noeviction --appendonly yes" in said["redis"]
    assert "allkeys-lru" in said["cache"]
    env = environment("web", example_env())
    assert (env["REDIS_URL"], env["CACHE_URL"]) == ("redis://:secret@redis:6379/0", "redis://:secret@cache:6379/0")


def test_two_replicas_are_the_default_and_beat_is_alone() -> None:
    assert filled(SERVICES["web"]["deploy"]["replicas"], {}) == "2"
    assert SERVICES["beat"]["deploy"]["replicas"] == 1
