"""Reads deploy/kubernetes as `kubectl kustomize` renders it."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.environment import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("single-node", "cloud")
Thing = dict[str, Any]

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, which Debian does not bring")


@functools.cache
def rendered(directory: Path) -> list[Thing]:
    """What a kustomization makes."""
    printed = subprocess.check_output(["kubectl", "kustomize", directory], text=True)
    return [thing for thing in yaml.safe_load_all(printed) if thing]


def overlay(name: str) -> list[Thing]:
    return rendered(KUBERNETES / "overlays" / name)


def of_kind(things: list[Thing], *kinds: str) -> dict[str, Thing]:
    """By name."""
    return {thing["metadata"]["name"]: thing for thing in things if thing["kind"] in kinds}


def named(things: list[Thing], kind: str, name: str) -> Thing:
    return of_kind(things, kind)[name]


def pods(things: list[Thing]) -> dict[str, Thing]:
    """What each workload's pods are, by its name: labels in `metadata`, the rest in `spec`."""
    workloads = of_kind(things, "Deployment", "StatefulSet", "Job")
    return {name: workload["spec"]["template"] for name, workload in workloads.items()}


def component(pod: Thing) -> str:
    return str(pod["metadata"]["labels"]["app.kubernetes.io/component"])


def container(things: list[Thing], name: str) -> Thing:
    """The one of the pods of a workload."""
    [one] = pods(things)[name]["spec"]["containers"]
    found: Thing = one
    return found


def probes(one: Thing) -> Iterator[Thing]:
    return (one[kind] for kind in ("startupProbe", "livenessProbe", "readinessProbe") if kind in one)


def settings(things: list[Thing]) -> dict[str, str]:
    """The ConfigMap that all of Parley's pods read."""
    [found] = [one["data"] for name, one in of_kind(things, "ConfigMap").items() if name.startswith("parley-settings")]
    return dict(found)


def matches(selector: Thing, labels: dict[str, str]) -> bool:
    """Whether a label selector holds, as far as ours go."""
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
