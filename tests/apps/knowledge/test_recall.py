"""Searches by an HNSW index that find too little are noticed, and mended."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from apps.conversations import recalling, tasks
from apps.knowledge import layouts, recall
from apps.knowledge.models import EFS, Collection, Layout
from apps.tenants.models import Tenant
from tests.apps.admin_world import make_turn
from tests.apps.knowledge.large import load
from tests.environment import Backends
from tests.factories import make_assistant, make_conversation, make_endpoint
from tests.fakes.inference import FakeInference

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner", "operator"])
PASSAGES = 1500
NEAR, FAR = 10, 20
ASKED = NEAR + FAR
# Each vector knows two others: a search soon goes astray.
SPOILED = """
    CREATE INDEX {name} ON knowledge_embedding
    USING hnsw ((vector::halfvec({dimension})) halfvec_cosine_ops) WITH (m = 2, ef_construction = 4)
    WHERE tenant_id = '{tenant}' AND index_id = '{index}' AND live
"""


@pytest.fixture
def indexed(servers: Backends, manuals: Collection, settings: Any) -> Iterator[Layout]:
    """The layout of so many passages that they have an HNSW index."""
    settings.PARLEY_INDEX_ABOVE = 1000
    load(servers, manuals, PASSAGES)
    layouts.move_all()
    layouts.move_all()
    yield Layout.objects.select_related("index").get(state="indexed")
    servers.superuser.execute(f"DROP INDEX IF EXISTS {layouts.name_of(manuals.index_id)}")


def spoil(servers: Backends, layout: Layout) -> None:
    name = layouts.name_of(layout.index_id)
    servers.superuser.execute(f"DROP INDEX {name}")
    built = {"dimension": layout.index.dimension, "tenant": layout.tenant_id, "index": layout.index_id}
    servers.superuser.execute(SPOILED.format(name=name, **built))


def guard(tenant: Tenant) -> list[recall.Measured]:
    return list(recalling.each_layout(tenant.pk))


def ask(tenant: Tenant, collection: Collection, *texts: str) -> None:
    """As its users did once."""
    assistant = make_assistant(tenant=tenant, collections=(collection,))
    conversation = make_conversation(tenant=tenant, assistant=assistant)
    for text in texts:
        make_turn(conversation, text=text, endpoint=make_endpoint())


def test_an_index_that_finds_what_there_is_stays(acme: Tenant, indexed: Layout) -> None:
    [measured] = guard(acme)
    assert measured.recall is not None
    assert measured.recall >= recall.LEAST
    assert measured.asked == {"passages": NEAR, "strangers": FAR}
    indexed.refresh_from_db()
    assert (indexed.state, indexed.recall_at_10, indexed.measured_with) == ("indexed", measured.recall, ASKED)
    assert indexed.measured_at is not None


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than at night, and all of them also on a busy machine."""
    monkeypatch.setattr(recall, "SECONDS", 300.0)
    monkeypatch.setattr(recall, "PASSAGES", NEAR)
    monkeypatch.setattr(recall, "STRANGERS", FAR)


@pytest.fixture
def never_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "LEAST", 1.01)


def test_one_that_finds_too_little_is_given_up(
    servers: Backends, acme: Tenant, indexed: Layout, never_enough: None
) -> None:
    [measured] = guard(acme)
    assert measured.recall is not None
    assert measured.ef == EFS[-1]
    indexed.refresh_from_db()
    assert indexed.state == "exact"
    assert indexed.reason == f"Its HNSW index found {measured.recall:.3f} of the nearest, even with ef 800."
    layouts.move_all()  # drops it, and builds none for a while
    layouts.move_all()
    kept = Layout.objects.get()
    assert (kept.state, kept.reason) == ("exact", indexed.reason)
    found = servers.superuser.execute("SELECT to_regclass(%s)", [layouts.name_of(indexed.index_id)]).fetchone()
    assert found == (None,)
    assert guard(acme) == []


def test_one_that_an_operator_chose_stays_with_the_largest_ef(
    acme: Tenant, indexed: Layout, never_enough: None
) -> None:
    Layout.objects.update(choice="indexed")
    guard(acme)
    indexed.refresh_from_db()
    assert (indexed.state, indexed.ef_search) == ("indexed", EFS[-1])


def test_a_larger_ef_is_tried_first(
    servers: Backends, acme: Tenant, indexed: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is enough depends on the graph; so that the first is not, and the last is, the line is drawn between."""
    spoil(servers, indexed)
    found = {}
    for ef in (EFS[0], EFS[-1]):
        Layout.objects.update(ef_search=ef)
        indexed.refresh_from_db()
        [measured] = recalling.each_layout(acme.pk, recall.measure)
        found[ef] = measured.recall or 0.0
    assert found[EFS[0]] < found[EFS[-1]]
    monkeypatch.setattr(recall, "LEAST", (found[EFS[0]] + found[EFS[-1]]) / 2)
    Layout.objects.update(ef_search=EFS[0])
    guard(acme)
    indexed.refresh_from_db()
    assert indexed.state == "indexed"
    assert indexed.ef_search > EFS[0]


def test_what_is_chosen_has_some_to_spare_and_then_stays(
    acme: Tenant, indexed: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another night's questions find a little less than those that it was chosen by, and change nothing."""
    found = {EFS[0]: 978, EFS[1]: 982, EFS[2]: 986}
    monkeypatch.setattr(recall, "_found", lambda *named: (1000, found[named[-1]]))
    chosen = []
    for known, before in [(None, EFS[-1]), (0.986, EFS[2]), (0.986, EFS[1]), (0.986, EFS[0])]:
        Layout.objects.update(recall_at_10=known, ef_search=before)
        guard(acme)
        indexed.refresh_from_db()
        chosen.append(indexed.ef_search)
    assert chosen == [EFS[2], EFS[2], EFS[1], EFS[2]]


def test_what_users_asked_is_asked_again(
    acme: Tenant, manuals: Collection, indexed: Layout, embeddings: FakeInference
) -> None:
    ask(acme, manuals, "How do I replace the seal?", "Who won the cup?", "How do I replace the seal?")
    [measured] = guard(acme)
    assert measured.asked == {"questions": 2, "passages": recall.PASSAGES, "strangers": recall.STRANGERS}
    sent = len(embeddings.requests)
    guard(acme)
    assert len(embeddings.requests) == sent  # their vectors are remembered


def test_without_a_model_passages_are_asked_alone(
    acme: Tenant, manuals: Collection, indexed: Layout, embeddings: FakeInference
) -> None:
    ask(acme, manuals, "How do I replace the seal?")
    manuals.index.endpoint.base_url = "http://127.0.0.1:9"
    manuals.index.endpoint.save()
    [measured] = guard(acme)
    assert measured.asked == {"passages": NEAR, "strangers": FAR}


def test_the_nightly_task_looks_at_each_tenant(acme: Tenant, indexed: Layout, settings: Any) -> None:
    settings.CELERY_TASK_ALWAYS_EAGER = True
    assert recalling.tenants() == [acme.pk]
    tasks.guard_recall(str(acme.pk))
    indexed.refresh_from_db()
    assert indexed.measured_at is not None
    schedule = settings.CELERY_BEAT_SCHEDULE["guard-recall"]
    assert (schedule["task"], schedule["schedule"].hour) == ("conversations.guard_recall", {3})


def test_a_new_index_is_measured_before_the_night(
    servers: Backends, acme: Tenant, manuals: Collection, settings: Any
) -> None:
    """Also with what is about nothing there is, and until then searches keep as much in sight as they can."""
    settings.PARLEY_INDEX_ABOVE = 1000
    load(servers, manuals, PASSAGES)
    layouts.move_all()
    [moved] = layouts.move_all() or []
    assert (moved.state, moved.ef_search) == ("indexed", EFS[-1])
    row = Layout.objects.get()
    assert row.measured_with == ASKED
    assert row.recall_at_10 is not None
    assert row.recall_at_10 >= recall.LEAST
    assert row.ef_search < EFS[-1]
    servers.superuser.execute(f"DROP INDEX {layouts.name_of(row.index_id)}")


def test_nobody_else_searches_with_an_ef_that_is_tried(
    servers: Backends, acme: Tenant, indexed: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    find = recall._found

    def and_look(tenant: Tenant, layout: Layout, sample: Any, ef: int) -> tuple[int, int]:
        found = find(tenant, layout, sample, ef)
        [kept] = servers.superuser.execute("SELECT ef_search FROM knowledge_layout").fetchall()
        seen.add((*kept, ef))
        return found

    before = indexed.ef_search
    monkeypatch.setattr(recall, "_found", and_look)
    monkeypatch.setattr(recall, "LEAST", 1.01)
    guard(acme)
    assert seen == {(before, ef) for ef in EFS if ef >= before}


def test_metrics_tell_the_lowest_of_all(acme: Tenant, indexed: Layout) -> None:
    Layout.objects.update(recall_at_10=None)
    assert "parley_retrieval_recall_at_10{" not in Client().get("/metrics").content.decode()
    Layout.objects.update(recall_at_10=0.985)
    said = Client().get("/metrics").content.decode()
    assert 'parley_retrieval_recall_at_10{of="lowest"} 0.985' in said
    assert 'parley_retrieval_recall_at_10{of="mean"} 0.985' in said


def test_the_command_shows_it_and_changes_nothing(servers: Backends, acme: Tenant, indexed: Layout) -> None:
    # The first ef that was enough is just so: with other vectors, it may find a little less.
    Layout.objects.update(ef_search=EFS[-1])
    out = StringIO()
    call_command("check_recall", stdout=out)
    assert out.getvalue().split()[:7] == ["tenant", "embedding", "index", "passages", "ef", "asked", "recall@10"]
    assert "1 HNSW indexes, 0 of them below 0.98" in out.getvalue()
    spoil(servers, indexed)
    measured_at = indexed.measured_at
    with pytest.raises(CommandError):
        call_command("check_recall", tenant="acme", stdout=out)
    assert "1 HNSW indexes, 1 of them below 0.98" in out.getvalue()
    indexed.refresh_from_db()
    assert (indexed.state, indexed.measured_at) == ("indexed", measured_at)
    with pytest.raises(CommandError, match="no tenant"):
        call_command("check_recall", tenant="nobody", stdout=out)
