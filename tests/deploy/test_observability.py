"""The rules and boards of deploy/observability against what /metrics really tells."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from apps.conversations.models import Turn
from apps.edge.queues import QUEUES
from apps.inference.standing import STATES
from apps.knowledge.models import Document, Layout
from apps.ops import gathering
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.environment import ROOT
from tests.scraping import scraped

PLACE = ROOT / "deploy" / "observability"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULES = [rule for group in yaml.safe_load((PLACE / "rules.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
BOARDS = ("service", "inference", "tenants", "ingestion")
# Given by Prometheus itself, and the buckets of histograms.
GIVEN = {"job", "instance", "le"}
_NAME = re.compile(r"\b(up|parley_\w+|parley:[\w:]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
# What labels may say that are given to metrics from lists of the code.
SAY = {
    ("parley_turns_total", "state"): set(Turn.State),
    ("parley_tenant_turns_total", "state"): set(Turn.State),
    ("parley_model_servers", "state"): set(STATES),
    ("parley_documents_oldest_seconds", "status"): set(Document.Status),
    ("parley_queue_messages", "queue"): set(QUEUES),
    ("parley_search_seconds_count", "part"): {"embedding", "database", "reranking"},
    ("parley_cache_lookups_total", "result"): {"hit", "miss"},
    ("parley_webhook_deliveries_total", "outcome"): {"delivered", "retrying", "failed"},
    ("parley_http_requests_total", "status"): {"200", "500"},
}


def board(name: str) -> Any:
    return json.loads((PLACE / f"{name}.json").read_text())


def queries() -> Iterator[str]:
    yield from (rule["expr"] for rule in RULES)
    for name in BOARDS:
        yield from (target["expr"] for panel in board(name)["panels"] for target in panel["targets"])


async def told() -> dict[str, set[str]]:
    """The labels of each series that /metrics tells or will tell, once it is counted."""
    import config.urls  # noqa: F401, PLC0415 - brings every app's metrics along

    known: dict[str, set[str]] = {}
    for collector, names in REGISTRY._collector_to_names.items():
        labels = set(getattr(collector, "_labelnames", ()))
        known |= dict.fromkeys(names, labels)
    shared = {family.name for family in (await gathering.shared()).collect()}
    for name, given in await scraped():
        assert name in known or name in shared, name
        known.setdefault(name, set()).update(label for label, _ in given)
    return known


def measure_a_layout() -> None:
    index = factories.make_index(tenant=factories.make_tenant("acme"))
    Layout.objects.create(tenant=index.tenant, index=index, exact_up_to=1, state="indexed", recall_at_10=0.99)


async def test_every_metric_and_label_that_is_asked_for_is_told(database: None) -> None:
    await platform_unit(measure_a_layout)
    known = await told()
    for query in queries():
        found = _NAME.findall(query)
        assert found, query
        asked = {name for name, _ in found} - RECORDED - {"up"}
        assert asked <= set(known), query
        labels = {label for name in asked for label in known[name]} | GIVEN
        for by in re.findall(r"\bby \(([^)]*)\)", query):
            assert {label.strip() for label in by.split(",")} <= labels, query
        for name, matchers in found:
            for label, how, value in _MATCHER.findall(matchers):
                assert label in known.get(name, GIVEN), query
                if (name, label) in SAY:
                    values = value.split("|") if how in ("=~", "!~") else [value]
                    assert set(values) <= SAY[name, label], query


def test_every_label_of_a_legend_is_one_of_its_query() -> None:
    for name in BOARDS:
        for panel in board(name)["panels"]:
            for target in panel["targets"]:
                grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
                kept = {label.strip() for labels in grouped for label in labels.split(",")}
                assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, target


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_whole(name: str) -> None:
    one = board(name)
    assert (one["uid"], one["title"]) == (f"parley-{name}", f"Parley: {name}")
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in one["panels"]]
    assert len(places) == len(set(places)) == len({panel["title"] for panel in one["panels"]})
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in one["panels"])


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == set(ALERTS)
    listed = set(re.findall(r"\[(\w+)\]\(\1\.md\)", (RUNBOOKS / "README.md").read_text()))
    assert listed == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
        assert rule["labels"]["severity"] in ("page", "ticket")
        text = (RUNBOOKS / f"{name}.md").read_text()
        assert text.startswith(f"# {name}: ")
        assert "\n## Look\n" in text
        assert "\n## Do\n" in text


def test_links_of_runbooks_lead_somewhere() -> None:
    for path in RUNBOOKS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_each_alert_is_played() -> None:
    tests = yaml.safe_load((PLACE / "rules_test.yml").read_text())["tests"]
    played = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one.get("exp_alerts")}
    assert played == set(ALERTS)


@pytest.mark.parametrize("deed", [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")])
def test_prometheus_takes_the_rules(deed: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: Debian's package prometheus has it")
    done = subprocess.run([promtool, *deed], cwd=PLACE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
