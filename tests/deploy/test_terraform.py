"""deploy/terraform against the code and against deploy/kubernetes, which runs on what it makes."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from typing import Any

import hcl2
import pytest
import yaml

from config import reference
from tests.deploy.kubernetes import KUBERNETES, named, needs_kubectl, overlay, settings
from tests.environment import ROOT

TERRAFORM = ROOT / "deploy" / "terraform"
FILES = sorted(TERRAFORM.glob("*.tf"))
TEXT = "\n".join(path.read_text() for path in FILES)


@functools.cache
def read() -> dict[str, Any]:
    """Each file by its name."""
    return {path.name: hcl2.loads(path.read_text()) for path in FILES}


def parsed(kind: str) -> dict[str, Any]:
    """The blocks of a kind, variables by name, resources by `type.name`."""
    found: dict[str, Any] = {}
    for file in read().values():
        for block in file.get(kind, []):
            for first, inner in block.items():
                name = first.strip('"')
                if kind in ("resource", "data"):
                    found |= {f"{name}.{second.strip(chr(34))}": body for second, body in inner.items()}
                else:
                    found[name] = inner
    return found


def keys(output: str) -> set[str]:
    """The names that an output's value has."""
    return {key.strip('"') for key in parsed("output")[output]["value"]}


def test_every_file_can_be_read() -> None:
    assert all(read().values())
    assert len(read()) > 5


@pytest.mark.skipif(shutil.which("terraform") is None, reason="needs terraform, which Debian does not bring")
def test_terraform_would_write_it_the_same_way() -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", TERRAFORM], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_whatever_is_referred_to_is_there() -> None:
    variables, things, lookups = parsed("variable"), parsed("resource"), parsed("data")
    assert set(re.findall(r"\bvar\.(\w+)", TEXT)) == set(variables)
    for kind, name in re.findall(r"(?<![\w.\"])data\.(aws_\w+)\.(\w+)", TEXT):
        assert f"{kind}.{name}" in lookups
    for kind, name in re.findall(r"(?<![\w.\"])((?:aws|random)_\w+)\.(\w+)", TEXT.replace("data.aws_", "looked_up_")):
        assert f"{kind}.{name}" in things


def test_secrets_are_those_that_the_product_and_its_roles_need() -> None:
    required = {one.name for part in reference.declared() for one in part.variables if one.default is None}
    required -= {one.name for one in reference.COMPOSE.variables}
    own = {"SECRET_KEY", "PARLEY_KEY_PEPPER", "PARLEY_ENCRYPTION_KEYS"}  # made elsewhere, and in no state
    assert required <= keys("secret") | keys("settings") | own
    names = {one.name for part in reference.declared() for one in part.variables}
    assert keys("secret") | keys("settings") | keys("owner_secret") <= names
    assert keys("owner_secret") == {"OWNER_DATABASE_URL"}
    script = (ROOT / "deploy" / "postgres" / "10-parley.sh").read_text()
    assert set(re.findall(r"\$(POSTGRES_\w+)", script)) <= keys("first_start")
    for name in ("secret", "owner_secret", "first_start"):
        assert parsed("output")[name]["sensitive"] in (True, "true")
    for role in ("owner", "app", "operator"):
        assert f"CREATE ROLE parley_{role} " in script
        assert f"postgres://parley_{role}:" in TEXT


def test_redis_forgets_nothing_and_the_cache_may() -> None:
    policies = {
        name.rpartition(".")[2]: str(body["parameter"])
        for name, body in parsed("resource").items()
        if name.startswith("aws_elasticache_parameter_group")
    }
    assert "noeviction" in policies["redis"]
    assert "allkeys-lru" in policies["cache"]


@needs_kubectl
def test_it_makes_what_the_overlay_runs_on() -> None:
    things = overlay("cloud")
    variables = {name: str(body.get("default", "")).strip('"') for name, body in parsed("variable").items()}
    data = named(things, "NetworkPolicy", "data")["spec"]["egress"][0]
    assert data["to"] == [{"ipBlock": {"cidr": variables["cidr"]}}]
    assert {str(port["port"]) for port in data["ports"]} == {"5432", "6379"}
    assert 'for_each                     = toset(["5432", "6379"])' in TEXT
    assert re.search(r"/uploads\?region=", settings(things)["PARLEY_STORAGE_URL"])
    account = named(things, "ServiceAccount", "parley")["metadata"]
    assert f"system:serviceaccount:{account['namespace']}:{account['name']}" in TEXT
    server = next(yaml.safe_load_all((KUBERNETES / "components" / "vllm" / "vllm.yaml").read_text()))
    pod = server["spec"]["template"]["spec"]
    [(label, value)] = pod["nodeSelector"].items()
    assert f'"{label}" = "{value}"' in TEXT
    assert f'key    = "{pod["tolerations"][0]["key"]}"' in TEXT
    images = {
        one["newName"].rpartition("/")[2]
        for one in yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())["images"]
    }
    assert all(f'"{image}"' in str(parsed("resource")["aws_ecr_repository.images"]) for image in images)
