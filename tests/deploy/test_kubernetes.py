"""deploy/kubernetes against the code, against docker-compose.yml, and against Kubernetes' own schemas."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from django.core.management import call_command
from django.test import AsyncClient
from django.urls import resolve
from prometheus_client.parser import text_string_to_metric_families

from apps.conversations.draining import LAST_SECONDS, SPREAD_SECONDS
from apps.edge.queues import QUEUES
from chatbot.inference.load import FIGURES
from config import reference
from config.run import command_line
from tests.deploy.compose import SERVICES, environment, filled
from tests.deploy.kubernetes import (
    KUBERNETES,
    OVERLAYS,
    Thing,
    component,
    container,
    matches,
    named,
    needs_kubectl,
    of_kind,
    overlay,
    pods,
    probes,
    rendered,
    settings,
)
from tests.deploy.proxy import START
from tests.deploy.test_compose import MODEL_SERVERS, OURS, WORKERS, example_env
from tests.deploy.test_image import NGINX, PARLEY
from tests.deploy.test_image import environment as image_environment
from tests.environment import ROOT

pytestmark = needs_kubectl

VERSION = "1.31"
COMPONENTS = [path.parent for path in sorted((KUBERNETES / "components").rglob("kustomization.yaml"))]
SECRETS = KUBERNETES / "overlays" / "single-node" / "secrets.sh"
KEDA = "keda.sh/v1alpha1"  # a resource of its own, which Kubernetes' schemas do not have


@pytest.fixture(scope="module", params=OVERLAYS)
def things(request: pytest.FixtureRequest) -> list[Thing]:
    return overlay(request.param)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What secrets.sh makes of a new .env, by name."""
    env = tmp_path_factory.mktemp("secrets") / ".env"
    env.write_bytes(subprocess.check_output([ROOT / "deploy" / "dotenv.sh", "chat.example.com"]))
    made = subprocess.check_output([SECRETS, env], text=True)
    return {one["metadata"]["name"]: one["stringData"] for one in yaml.safe_load_all(made) if one}


def all_things() -> Iterator[Thing]:
    for name in OVERLAYS:
        yield from overlay(name)
    for directory in COMPONENTS:
        for path in directory.glob("*.yaml"):
            if path.name != "kustomization.yaml":
                yield from yaml.safe_load_all(path.read_text())


# --- Kubernetes takes it ----------------------------------------------------------------------------------------------


def test_kubernetes_knows_every_field() -> None:
    for thing in all_things():
        if thing["apiVersion"] != KEDA:
            kubernetes_validate.validate(thing, VERSION, strict=True)


@pytest.mark.parametrize("directory", COMPONENTS, ids=lambda path: str(path.relative_to(KUBERNETES)))
def test_each_component_fits_into_an_overlay(directory: Path, tmp_path: Path) -> None:
    """Besides those that it needs, which stand before it."""
    needed = {"vllm", "tgi"} & {directory.name}
    chosen = [KUBERNETES / "components" / name for name in needed if directory.parent.name != "components"] + [
        directory
    ]
    around = KUBERNETES / "overlays" / f"tried-{tmp_path.name}"
    around.mkdir()
    try:
        lines = ["resources: [../../base]", "components:"]
        lines += [f"  - ../../{one.relative_to(KUBERNETES)}" for one in chosen]
        (around / "kustomization.yaml").write_text("\n".join(lines) + "\n")
        made = rendered(around)
    finally:
        (around / "kustomization.yaml").unlink()
        around.rmdir()
    for scaler in of_kind(made, "HorizontalPodAutoscaler", "ScaledObject").values():
        scaled = named(made, "Deployment", scaler["spec"]["scaleTargetRef"]["name"])
        assert "replicas" not in scaled["spec"], "apply would undo what the autoscaler did"


def test_nothing_is_named_twice_and_all_of_it_is_in_one_namespace(things: list[Thing]) -> None:
    names = [(thing["kind"], thing["metadata"]["name"]) for thing in things]
    assert len(names) == len(set(names))
    assert {thing["metadata"].get("namespace") for thing in things if thing["kind"] != "Namespace"} == {"parley"}


# --- The same processes as with compose -------------------------------------------------------------------------------


@pytest.mark.parametrize("process", OURS)
def test_it_starts_what_compose_starts(things: list[Thing], process: str) -> None:
    command = container(things, process)["command"]
    assert command == filled(SERVICES[process]["command"], {})
    if command[1] != "manage.py":
        assert command_line(command[3:])


def test_it_starts_nothing_else(things: list[Thing]) -> None:
    ours = {name for name in pods(things) if component(pods(things)[name]) != "model"}
    assert set(OURS) | {"gateway"} <= ours <= {*OURS, "gateway", *SERVICES}


def test_each_queue_has_a_worker_which_is_asked_by_its_own_name(things: list[Thing]) -> None:
    assert [container(things, name)["command"][-1] for name in WORKERS] == list(QUEUES)
    for name, queue in zip(WORKERS, QUEUES, strict=True):
        asked = container(things, name)["livenessProbe"]["exec"]["command"][-1]
        assert asked.endswith(f"--destination {queue}@$HOSTNAME")
        assert f"{queue}@%h" in command_line(container(things, name)["command"][3:])


@pytest.mark.parametrize("name", ["beat", "layouts"])
def test_what_there_is_one_of_is_gone_before_another_starts(things: list[Thing], name: str) -> None:
    alone = named(things, "Deployment", name)["spec"]
    assert (alone["replicas"], alone["strategy"]) == (1, {"type": "Recreate"})


def test_memory_is_limited_as_with_compose(things: list[Thing]) -> None:
    for name in OURS:
        limit = container(things, name)["resources"]["limits"]["memory"]
        assert limit.rstrip("i") == SERVICES[name]["deploy"]["resources"]["limits"]["memory"]


def test_model_servers_are_those_of_compose() -> None:
    for name in ("vllm", "tgi"):
        [server] = [
            one
            for one in yaml.safe_load_all((KUBERNETES / "components" / name / f"{name}.yaml").read_text())
            if one["kind"] == "Deployment"
        ]
        [one] = server["spec"]["template"]["spec"]["containers"]
        assert name in MODEL_SERVERS
        assert one["image"] == SERVICES[name]["image"]
        assert one["args"] == filled(SERVICES[name]["command"], {})


# --- Settings and secrets ---------------------------------------------------------------------------------------------


def test_every_setting_is_one_of_the_code(things: list[Thing], secrets: dict[str, dict[str, str]]) -> None:
    sections = reference.declared()
    names = {one.name for section in sections for one in section.variables}
    required = {one.name for section in sections for one in section.variables if one.default is None}
    given = {*settings(things), *secrets["parley"]}
    assert given <= names
    compose_only = {one.name for one in reference.COMPOSE.variables}
    assert required - compose_only <= given
    assert not re.findall("PASSWORD|SECRET|PEPPER|KEYS|DATABASE_URL|REDIS_URL", " ".join(settings(things)))
    for name, value in settings(things).items():
        if name in environment("web", example_env()) and not name.startswith(("ALLOWED", "PARLEY_PRIVATE")):
            assert value == environment("web", example_env())[name], name


def test_the_product_starts_with_them(things: list[Thing], secrets: dict[str, dict[str, str]]) -> None:
    env = {**settings(things), **secrets["parley"], "PATH": "/usr/bin:/bin"}
    program = "import config.settings as s; print(s.PARLEY_BASE_URL)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "https://chat.example.com\n"), done.stderr


def test_secrets_are_referred_to_and_the_owners_is_for_those_who_own_with_compose(
    things: list[Thing], secrets: dict[str, dict[str, str]]
) -> None:
    assert "Secret" not in {thing["kind"] for thing in things}
    owning = {name for name in OURS if "OWNER_DATABASE_URL" in SERVICES[name]["environment"]}
    for name, pod in pods(things).items():
        for one in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            taken = {source["secretRef"]["name"] for source in one.get("envFrom", []) if "secretRef" in source}
            single = [env["valueFrom"]["secretKeyRef"] for env in one.get("env", []) if "secretKeyRef" in str(env)]
            for reference_ in single:
                assert reference_.get("optional") or reference_["key"] in secrets[reference_["name"]]
            taken |= {reference_["name"] for reference_ in single}
            assert ("parley" in taken) == (name in OURS)
            assert ("parley-owner" in taken) == (one["name"] in owning)
            assert ("parley-postgres" in taken) == (name == "postgres")
    assert "OWNER_DATABASE_URL" not in secrets["parley"]


def test_secrets_are_those_of_compose(secrets: dict[str, dict[str, str]]) -> None:
    composed = environment("web", example_env())
    for name in ("DATABASE_URL", "OPERATOR_DATABASE_URL", "REDIS_URL", "CACHE_URL"):
        assert re.sub(r":[^:@/]+@", ":secret@", secrets["parley"][name]) == composed[name]
    assert set(secrets["parley-postgres"]) == {
        name for name in SERVICES["postgres"]["environment"] if "PASSWORD" in name
    }


def test_a_file_that_lacks_a_secret_makes_none(tmp_path: Path) -> None:
    half = tmp_path / ".env"
    half.write_text("REDIS_PASSWORD=abc\n")
    done = subprocess.run([SECRETS, half], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not set POSTGRES_APP_PASSWORD" in done.stderr


# --- Probes, ports and ends -------------------------------------------------------------------------------------------


def test_probes_and_services_ask_ports_that_are_listened_on(things: list[Thing]) -> None:
    assert [one["containerPort"] for one in container(things, "web")["ports"]] == [int(PARLEY.last("EXPOSE").text)]
    gateway = container(things, "gateway")
    ports = {one["name"]: one["containerPort"] for one in gateway["ports"]}
    assert str(ports["http"]) in NGINX.last("EXPOSE").text.split()
    assert f"${{NGINX_STATUS_PORT:={ports['status']}}}" in START.read_text()
    for name, pod in pods(things).items():
        [one] = pod["spec"]["containers"]
        known = {port["name"] for port in one.get("ports", [])}
        for probe in probes(one):
            if "httpGet" in probe:
                assert probe["httpGet"]["port"] in known, name
    for service in of_kind(things, "Service").values():
        [pod] = [
            pod for pod in pods(things).values() if matches({"matchLabels": service["spec"]["selector"]}, labels(pod))
        ]
        [one] = pod["spec"]["containers"]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= {port["name"] for port in one["ports"]}


def labels(pod: Thing) -> dict[str, str]:
    found: dict[str, str] = pod["metadata"]["labels"]
    return found


async def test_what_kubernetes_asks_answers_to_any_host_name(things: list[Thing], async_client: AsyncClient) -> None:
    """A kubelet and Prometheus name the pod's address, over HTTP."""
    web = container(things, "web")
    paths = {probe["httpGet"]["path"] for probe in probes(web)}
    notes = pods(things)["web"]["metadata"]["annotations"]
    assert notes["prometheus.io/port"] == str(web["ports"][0]["containerPort"])
    assert paths == {"/healthz/live", "/healthz/ready"}
    for path in (*paths, notes["prometheus.io/path"]):
        assert resolve(path)
    answer = await async_client.get("/healthz/live", headers={"host": "10.42.0.7:8000"})
    assert answer.status_code == 200


def test_workers_tell_prometheus_where_it_may_ask(things: list[Thing]) -> None:
    _, port = settings(things)["PARLEY_WORKER_METRICS_ADDRESS"].split(":")
    policy = named(things, "NetworkPolicy", "workers")["spec"]
    for name in WORKERS:
        pod = pods(things)[name]
        assert pod["metadata"]["annotations"]["prometheus.io/port"] == port
        assert str(container(things, name)["ports"][0]["containerPort"]) == port
        assert matches(policy["podSelector"], labels(pod))
    assert [str(one["port"]) for one in policy["ingress"][0]["ports"]] == [port]
    assert policy["ingress"][0]["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]


def test_what_ends_is_given_the_time_that_it_takes(things: list[Thing]) -> None:
    said = {name: int(value) for name, value in settings(things).items() if name.startswith("PARLEY_DRAIN")}
    drains = said["PARLEY_DRAIN_GRACE_SECONDS"] + said["PARLEY_DRAIN_SECONDS"] + SPREAD_SECONDS + LAST_SECONDS
    web = pods(things)["web"]["spec"]
    assert drains + 10 <= web["terminationGracePeriodSeconds"]
    assert web["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["python", "manage.py", "drain"]
    for name in WORKERS:
        limit = pods(things)[name]["spec"]["terminationGracePeriodSeconds"]
        assert f"{limit}s" == SERVICES["worker"]["stop_grace_period"]


def test_nobody_works_on_a_database_that_is_not_migrated(things: list[Thing], db: None) -> None:
    for name in {*OURS} - {"migrate"}:
        [before] = pods(things)[name]["spec"]["initContainers"]
        assert "manage.py migrate --check --skip-checks" in before["command"][-1]
    call_command("migrate", check_unapplied=True, skip_checks=True)  # as the product's role; exits where one is missing


def test_what_may_be_taken_away_is_limited(things: list[Thing]) -> None:
    budgets = of_kind(things, "PodDisruptionBudget")
    assert {"web", "gateway", *WORKERS} <= set(budgets)
    for name in ("web", "gateway", *WORKERS):
        pod = pods(things)[name]
        assert matches(budgets[name]["spec"]["selector"], labels(pod))
        for spread in pod["spec"]["topologySpreadConstraints"]:
            assert matches(spread["labelSelector"], labels(pod))


# --- Walls ------------------------------------------------------------------------------------------------------------


def test_pods_have_no_rights_that_they_do_not_need(things: list[Thing]) -> None:
    for name, pod in pods(things).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        # Or a Service called parley-web would set PARLEY_WEB_PORT, which is no setting.
        assert spec["enableServiceLinks"] is False, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in [*spec.get("initContainers", []), *spec["containers"]]:
            context = one["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in one["resources"]["limits"], name
            if component(pod) != "model":
                assert context["readOnlyRootFilesystem"] is True, name
                assert spec["securityContext"]["runAsNonRoot"] is True, name
    users = {name: pods(things)[name]["spec"]["securityContext"]["runAsUser"] for name in (*OURS, "gateway")}
    assert {f"{users[name]}:{users[name]}" for name in OURS} == {PARLEY.last("USER").text}
    assert f"{users['gateway']}:{users['gateway']}" == NGINX.last("USER").text


def test_who_reaches_whom_is_as_with_compose(things: list[Thing]) -> None:
    """Two of compose's services may speak where they share a network."""
    policies = of_kind(things, "NetworkPolicy")
    everybody = policies["default-deny"]["spec"]
    assert (everybody["podSelector"], everybody["policyTypes"]) == ({}, ["Ingress", "Egress"])

    def chosen(policy: str) -> set[str]:
        return {
            name for name, pod in pods(things).items() if matches(policies[policy]["spec"]["podSelector"], labels(pod))
        }

    def on(network: str) -> set[str]:
        return {name for name in OURS if network in SERVICES[name]["networks"]}

    assert chosen("data") == on("data")
    assert chosen("elsewhere") == on("models")
    assert chosen("web") == on("front") == {"web"}
    assert chosen("models") <= set(MODEL_SERVERS)
    [into_web] = policies["web"]["spec"]["ingress"]
    assert into_web["from"][0] == {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "gateway"}}}
    if "stores" in policies:
        assert chosen("stores") == {"postgres", "redis", "cache"}
        [into_stores] = policies["stores"]["spec"]["ingress"]
        users = into_stores["from"][0]["podSelector"]
        assert {name for name, pod in pods(things).items() if matches(users, labels(pod))} == on("data")


def test_the_gateway_is_told_what_start_sh_reads(things: list[Thing]) -> None:
    gateway = container(things, "gateway")
    for one in gateway["env"]:
        assert f"${{{one['name']}:=" in START.read_text(), one["name"]
    web = named(things, "Service", "web")
    told = {one["name"]: one.get("value") for one in gateway["env"]}
    assert told["NGINX_TRUSTED_PROXIES"] in ("10.42.0.0/16", "10.0.0.0/16"), "of k3s's pods, or of Terraform's network"
    assert (
        told["NGINX_WEB"] == f"web.{web['metadata']['namespace']}.svc.cluster.local:{web['spec']['ports'][0]['port']}"
    )
    assert web["spec"]["clusterIP"] == "None", "nginx would see one address, and spread nothing"


def test_what_is_reached_from_outside_is_the_gateway_alone(things: list[Thing]) -> None:
    [ingress] = of_kind(things, "Ingress").values()
    [rule] = ingress["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "gateway", "port": {"name": "http"}}
    assert rule["host"] in settings(things)["ALLOWED_HOSTS"].split(",")
    assert all(
        service["spec"].get("type", "ClusterIP") == "ClusterIP" for service in of_kind(things, "Service").values()
    )


def test_uploaded_files_outlive_pods(things: list[Thing]) -> None:
    if "PARLEY_STORAGE_URL" in settings(things):
        return
    path = f"{image_environment(PARLEY)['PARLEY_HOME']}/media"
    for name in OURS:
        mounts = [one["mountPath"] for one in container(things, name)["volumeMounts"]]
        assert (path in mounts) == any("media:" in volume for volume in SERVICES[name].get("volumes", []))


# --- Scaling ----------------------------------------------------------------------------------------------------------

ADAPTER: dict[str, list[dict[str, Any]]] = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]
_SERIES = re.compile(r"(?<![\w:])(?:parley_\w+|vllm:\w+|tgi_\w+)")


def scalers(kind: str) -> list[Thing]:
    return [thing for thing in all_things() if thing["kind"] == kind]


def test_what_autoscalers_ask_for_is_what_the_adapter_offers() -> None:
    offered = {kind: {rule["name"]["as"] for rule in ADAPTER[kind]} for kind in ("custom", "external")}
    asked: dict[str, set[str]] = {"custom": set(), "external": set()}
    for scaler in scalers("HorizontalPodAutoscaler"):
        first, *rest = scaler["spec"]["metrics"]
        asked["custom" if first["type"] == "Pods" else "external"].add(first[first["type"].lower()]["metric"]["name"])
        assert {one["type"] for one in rest} <= {"Resource"}, "CPU is only a backstop"
    assert asked == offered


def test_keda_scales_as_the_autoscalers_do() -> None:
    ours = {one["metadata"]["name"]: one["spec"] for one in scalers("HorizontalPodAutoscaler")}
    theirs = {one["metadata"]["name"]: one["spec"] for one in scalers("ScaledObject")}
    assert set(ours) == set(theirs)
    for name, spec in ours.items():
        keda = theirs[name]
        assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (spec["minReplicas"], spec["maxReplicas"])
        assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == spec["behavior"]
        first = spec["metrics"][0]
        target = first[first["type"].lower()]["target"]
        trigger = keda["triggers"][0]
        assert trigger["metricType"] == target["type"]
        assert trigger["metadata"]["threshold"] == (target.get("averageValue") or target["value"])


async def test_every_metric_is_told(async_client: AsyncClient, transactional_db: None) -> None:
    text = (await async_client.get("/metrics")).content.decode()
    told = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    told |= {name for figures in FIGURES.values() for name in figures}  # what the product itself reads of model servers
    asked = {
        name
        for kind in ("custom", "external")
        for rule in ADAPTER[kind]
        for name in _SERIES.findall(rule["seriesQuery"])
    }
    for scaler in scalers("ScaledObject"):
        asked |= set(_SERIES.findall(scaler["spec"]["triggers"][0]["metadata"]["query"]))
    assert asked <= told
