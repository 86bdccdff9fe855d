"""Which embedding indexes have an HNSW index of their own, and that searches find the same whichever has one."""

from __future__ import annotations

import datetime
import os
import random
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, connections

from apps.knowledge import layouts
from apps.knowledge.layout_models import LONGEST_WAIT
from apps.knowledge.models import Chunk, Collection, Document, Layout
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from config.run import command_line
from local import postgres
from tests.apps.knowledge.large import about, load, themes
from tests.environment import PASSWORDS, POSTGRES_PORT, ROOT, Backends
from tests.factories import make_collection, make_index, make_tenant

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner", "operator"])
DIMENSION = 32
NEAR = "SELECT id, distance FROM near_passages(%s, %s, %s::halfvec, %s, %s) ORDER BY distance, id LIMIT 10"
EXACT = """
    SELECT chunk_id, vector <=> %s::halfvec AS distance FROM knowledge_embedding
    WHERE tenant_id = %s AND index_id = %s AND live ORDER BY distance, chunk_id LIMIT 10
"""


@pytest.fixture(autouse=True)
def small(settings: Any, servers: Backends) -> Iterator[None]:
    """A thousand passages are many, and no HNSW index outlives its test."""
    settings.PARLEY_INDEX_ABOVE = 1000
    yield
    for name in hnsw(servers):
        servers.superuser.execute(f"DROP INDEX {name}")


@pytest.fixture
def manuals(database: None) -> Collection:
    return collection_of(make_tenant("acme"))


def collection_of(tenant: Tenant) -> Collection:
    return make_collection(tenant=tenant, index=make_index(tenant=tenant, dimension=DIMENSION))


def hnsw(servers: Backends) -> dict[str, bool]:
    """The HNSW indexes there are, and whether each is whole."""
    found = servers.superuser.execute(
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw'"
    )
    return dict(found.fetchall())


def connected(role: str) -> psycopg.Connection:
    return psycopg.connect(
        host="127.0.0.1",
        port=POSTGRES_PORT,
        user=role,
        password=PASSWORDS[role],
        dbname=postgres.DATABASE,
        autocommit=True,
    )


def layout_of(collection: Collection) -> Layout:
    row: Layout = Layout.objects.select_related("index").get(index=collection.index_id)
    return row


def settle(times: int = 2) -> None:
    """As the process does; the second look finds that nothing comes or goes."""
    for _ in range(times):
        layouts.move_all()


def questions(seed: int = 9, count: int = 20) -> list[list[float]]:
    """Half are about what the passages are about, and half about nothing there is."""
    chance, known = random.Random(seed), themes(DIMENSION)
    return [about(known[n], chance) if n % 2 else [chance.gauss(0, 1) for _ in range(DIMENSION)] for n in range(count)]


def near(collection: Collection, question: list[float], depth: int = 40) -> list[tuple[uuid.UUID, float]]:
    with tenant_scope(collection.tenant_id), connection.cursor() as cursor:
        cursor.execute(NEAR, [collection.index_id, [collection.pk], str(question), None, depth])
        return list(cursor.fetchall())


def exact(servers: Backends, collection: Collection, question: list[float]) -> list[tuple[uuid.UUID, float]]:
    values = (str(question), collection.tenant_id, collection.index_id)
    return servers.superuser.execute(EXACT, values).fetchall()


def recall(servers: Backends, collection: Collection, asked: list[list[float]]) -> float:
    shares = []
    for question in asked:
        there = {one for one, _ in exact(servers, collection, question)}
        shares.append(len(there & {one for one, _ in near(collection, question)}) / len(there))
    return sum(shares) / len(shares)


# --- Which has which --------------------------------------------------------------------------------------------------


def test_one_that_grows_gets_an_index_and_one_that_shrinks_loses_it(servers: Backends, manuals: Collection) -> None:
    load(servers, manuals, 1000)
    settle()
    row = layout_of(manuals)
    assert (row.state, row.passages, row.reason, hnsw(servers)) == ("exact", 1000, "", {})

    load(servers, manuals, 1, seed=2)
    settle()
    row = layout_of(manuals)
    assert (row.state, row.passages, row.reason) == ("indexed", 1001, "It grew beyond 1,000 passages.")
    assert row.by_collection == {str(manuals.pk): 1001}
    assert hnsw(servers) == {layouts.name_of(manuals.index_id): True}

    servers.superuser.execute("UPDATE knowledge_embedding SET live = false WHERE chunk_id IN (SELECT id FROM"
                              " knowledge_chunk WHERE position >= 501)")  # fmt: skip
    settle()
    assert (layout_of(manuals).state, layout_of(manuals).passages) == ("indexed", 502)

    servers.superuser.execute("DELETE FROM knowledge_embedding WHERE chunk_id IN (SELECT id FROM"
                              " knowledge_chunk WHERE position >= 499)")  # fmt: skip
    settle()
    assert (layout_of(manuals).state, layout_of(manuals).reason, hnsw(servers)) == ("exact", "", {})


def test_while_passages_come_the_index_waits_but_not_for_ever(servers: Backends, manuals: Collection) -> None:
    load(servers, manuals, 1001)
    for n in range(2, 5):
        load(servers, manuals, 1, seed=n)
        settle(1)
        assert layout_of(manuals).state == "exact"
        assert layout_of(manuals).reason.startswith(
            "It gets an HNSW index when no passages come or go any more, or at "
        )
    begun = layout_of(manuals).wanted_since
    assert begun is not None
    Layout.objects.update(wanted_since=begun - LONGEST_WAIT)
    load(servers, manuals, 1, seed=9)
    settle(1)
    assert (layout_of(manuals).state, layout_of(manuals).wanted_since) == ("indexed", None)


def test_operators_choose(servers: Backends, manuals: Collection) -> None:
    load(servers, manuals, 200)
    settle()
    Layout.objects.update(choice="indexed")
    settle()
    assert (layout_of(manuals).state, layout_of(manuals).reason) == ("indexed", "An operator chose this.")
    load(servers, manuals, 2000, seed=2)
    Layout.objects.update(choice="exact")
    settle()
    assert (layout_of(manuals).state, layout_of(manuals).reason, hnsw(servers)) == (
        "exact",
        "An operator chose this.",
        {},
    )
    Layout.objects.update(choice="automatic")
    settle()
    assert layout_of(manuals).state == "indexed"


def test_the_largest_have_the_indexes_that_there_may_be(servers: Backends, manuals: Collection, settings: Any) -> None:
    settings.PARLEY_MOST_INDEXES = 1
    larger = collection_of(make_tenant("globex"))
    load(servers, manuals, 1100)
    load(servers, larger, 1200)
    settle()
    assert [layout_of(one).state for one in (manuals, larger)] == ["exact", "indexed"]
    assert layout_of(manuals).reason == "There may be 1 HNSW indexes, and larger ones have them."
    larger.delete()
    servers.superuser.execute("DELETE FROM knowledge_embedding WHERE index_id = %s", [larger.index_id])
    settle()
    assert [layout_of(one).state for one in (manuals, larger)] == ["indexed", "exact"]


def test_more_dimensions_than_an_index_takes_are_compared(servers: Backends, database: None) -> None:
    tenant = make_tenant("acme")
    wide = make_collection(tenant=tenant, index=make_index(tenant=tenant, dimension=4001))
    load(servers, wide, 3)
    settle()
    Layout.objects.update(choice="indexed")
    settle()
    assert (layout_of(wide).state, layout_of(wide).reason) == (
        "exact",
        "An HNSW index takes vectors of 4,000 dimensions at most.",
    )


# --- What was cut short -----------------------------------------------------------------------------------------------


def test_what_an_interrupted_build_left_is_built_anew(servers: Backends, manuals: Collection) -> None:
    load(servers, manuals, 1500)
    settle()
    name = layouts.name_of(manuals.index_id)
    servers.superuser.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [name])
    Layout.objects.update(state="building")
    assert recall(servers, manuals, questions()) == 1
    settle(1)
    assert (layout_of(manuals).state, hnsw(servers)) == ("indexed", {name: True})


def test_a_build_that_fails_leaves_nothing_and_is_tried_again(
    servers: Backends, manuals: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(servers, manuals, 1500)
    monkeypatch.setattr(layouts, "LONGEST_LOCK", "100ms")
    with connected(postgres.APP) as busy, busy.transaction():
        busy.execute("LOCK knowledge_embedding IN ROW EXCLUSIVE MODE")
        settle()
        row = layout_of(manuals)
        assert row.state == "exact"
        assert row.reason.startswith("Building its HNSW index failed (LockNotAvailable); it is tried again on ")
        assert recall(servers, manuals, questions()) == 1
    settle()
    assert (layout_of(manuals).reason, hnsw(servers)) == (row.reason, {})
    Layout.objects.update(not_before=None)
    settle()
    assert layout_of(manuals).state == "indexed"


def test_a_build_that_took_long_before_it_failed_waits_as_much_longer(
    servers: Backends, manuals: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(servers, manuals, 1500)
    monkeypatch.setattr(layouts, "LONGEST_BUILD", "1500ms")
    monkeypatch.setattr(layouts, "AGAIN_AFTER", datetime.timedelta())
    with connected(postgres.APP) as busy, busy.transaction():
        busy.execute("LOCK knowledge_embedding IN ROW EXCLUSIVE MODE")
        settle()
    row = layout_of(manuals)
    assert row.reason.startswith("Building its HNSW index failed (QueryCanceled)")
    assert row.not_before is not None
    assert row.not_before - row.since >= datetime.timedelta(seconds=10)


def test_drops_come_first_and_then_builds_from_the_smallest_on(servers: Backends, manuals: Collection) -> None:
    collections = [manuals, *(collection_of(make_tenant(slug)) for slug in ("globex", "initech"))]
    load(servers, manuals, 1100)
    settle()
    for collection, count in zip(collections, (10, 1300, 1200), strict=True):
        load(servers, collection, count, seed=2)
    settle(1)
    Layout.objects.filter(index=manuals.index_id).update(choice="exact")
    moved = layouts.move_all() or []
    assert [layout.index_id for layout in moved] == [collections[n].index_id for n in (0, 2, 1)]


def test_rows_that_came_from_a_backup_have_no_index_yet(servers: Backends, manuals: Collection) -> None:
    load(servers, manuals, 1500)
    settle()
    servers.superuser.execute(f"DROP INDEX {layouts.name_of(manuals.index_id)}")
    assert recall(servers, manuals, questions()) == 1
    settle(1)
    assert (layout_of(manuals).state, list(hnsw(servers))) == ("indexed", [layouts.name_of(manuals.index_id)])


def test_what_reindexing_makes_beside_an_index_is_left_alone(servers: Backends, manuals: Collection) -> None:
    load(servers, manuals, 1500)
    settle()
    name = layouts.name_of(manuals.index_id)
    # As REINDEX CONCURRENTLY names them, which leaves them where it is cut short.
    for ending in ("_ccnew", "_ccold1"):
        servers.superuser.execute(
            f"CREATE INDEX {name}{ending} ON knowledge_embedding"
            f" USING hnsw ((vector::halfvec({DIMENSION})) halfvec_cosine_ops) WHERE live"
        )
    Layout.objects.update(choice="exact")
    settle(1)
    assert set(hnsw(servers)) == {f"{name}_ccnew", f"{name}_ccold1"}


def test_an_index_of_nobody_is_dropped(servers: Backends, manuals: Collection) -> None:
    load(servers, manuals, 1500)
    settle()
    servers.empty_database()
    settle(1)
    assert hnsw(servers) == {}


def test_one_process_moves_at_a_time(servers: Backends, manuals: Collection) -> None:
    with connected(postgres.OWNER) as other:
        other.execute(layouts._ALONE)
        assert layouts.move_all() is None
        other.execute(layouts._NOT_ALONE)
        assert layouts.move_all() == []


def test_the_command_moves_once(servers: Backends, manuals: Collection) -> None:
    load(servers, manuals, 1500)
    out = StringIO()
    call_command("move_layouts", stdout=out)
    assert out.getvalue() == "0 layouts changed\n"  # passages came since the last look, of which there was none
    call_command("move_layouts", stdout=out)
    assert f"{manuals.index_id}  indexed\n1 layouts changed\n" in out.getvalue()


def test_the_process_moves_by_itself_until_it_is_told_to_end(servers: Backends, manuals: Collection) -> None:
    load(servers, manuals, 1500)
    process = subprocess.Popen(
        command_line(["layouts", "--every", "0.2"]), env={**os.environ, "PARLEY_INDEX_ABOVE": "1000"}, cwd=ROOT
    )
    try:
        until = time.monotonic() + 90
        while not Layout.objects.filter(state="indexed").exists() and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.2)
        assert layout_of(manuals).state == "indexed"
    finally:
        process.terminate()
    assert process.wait(60) == 0


# --- What searches find -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10, 1000])
def test_without_an_index_each_is_compared(servers: Backends, manuals: Collection, count: int) -> None:
    load(servers, manuals, count)
    settle()
    for question in questions():
        assert near(manuals, question) == exact(servers, manuals, question)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "count",
    [
        12_000,
        pytest.param(100_000, marks=pytest.mark.skipif("LARGE" not in os.environ, reason="LARGE=1 takes the minutes")),
    ],
)
def test_by_an_index_the_same_is_found(servers: Backends, manuals: Collection, settings: Any, count: int) -> None:
    settings.PARLEY_INDEX_ABOVE = 10_000
    load(servers, manuals, count)
    settle()
    assert layout_of(manuals).state == "indexed"
    assert recall(servers, manuals, questions(count=40)) >= 0.98
    # As many as are asked for, also beyond what a search keeps in sight.
    for depth in (300, 1001):
        with tenant_scope(manuals.tenant_id), connection.cursor() as cursor:
            ask = NEAR.replace("LIMIT 10", "")
            cursor.execute(ask, [manuals.index_id, [manuals.pk], str(questions()[0]), None, depth])
            assert len(cursor.fetchall()) == depth


def test_two_tenants_with_the_same_texts_find_their_own(servers: Backends, manuals: Collection) -> None:
    theirs = collection_of(make_tenant("globex"))
    for one in (manuals, theirs):
        load(servers, one, 1500)
    settle()
    assert [layout_of(one).state for one in (manuals, theirs)] == ["indexed", "indexed"]
    owners = dict(Chunk.objects.values_list("pk", "tenant"))
    for question in questions():
        ours, others = near(manuals, question), near(theirs, question)
        assert {owners[one] for one, _ in ours} == {manuals.tenant_id}
        assert {owners[one] for one, _ in others} == {theirs.tenant_id}
        assert [distance for _, distance in ours] == [distance for _, distance in others]
    # Not even by another's index and collections.
    with tenant_scope(theirs.tenant_id), connection.cursor() as cursor:
        cursor.execute(NEAR, [manuals.index_id, [manuals.pk], str(questions()[0]), None, 40])
        assert cursor.fetchall() == []


def test_filters_that_leave_few_have_each_compared(servers: Backends, manuals: Collection) -> None:
    load(servers, manuals, 1500)
    notes = make_collection(tenant=manuals.tenant, index=manuals.index)
    load(servers, notes, 50, seed=2)
    few, many = (Document.objects.get(collection=one) for one in (notes, manuals))
    settle()
    both = [manuals.pk, notes.pk]
    with tenant_scope(manuals.tenant_id), connection.cursor() as cursor:
        for question in questions():
            cursor.execute(NEAR, [manuals.index_id, [notes.pk], str(question), None, 40])
            assert len(of_few := cursor.fetchall()) == 10
            cursor.execute(NEAR, [manuals.index_id, both, str(question), [few.pk], 40])
            assert cursor.fetchall() == of_few
            cursor.execute(NEAR, [manuals.index_id, both, str(question), [many.pk], 40])
            assert cursor.fetchall() == near(manuals, question)
            cursor.execute(NEAR, [manuals.index_id, both, str(question), [], 40])
            assert cursor.fetchall() == []


@pytest.fixture
def told(servers: Backends) -> Iterator[tuple[psycopg.Connection, list[str]]]:
    """A connection as the app's role, and the plans of what it runs."""
    plans: list[str] = []
    with postgres.connect(POSTGRES_PORT, PASSWORDS[postgres.SUPERUSER], postgres.DATABASE) as asking:
        asking.execute(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;"
            " SET client_min_messages = log"
        )
        asking.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
        asking.execute(f"SET ROLE {postgres.APP}")
        yield asking, plans


def test_the_plan_is_what_the_layout_says(
    servers: Backends, manuals: Collection, told: tuple[psycopg.Connection, list[str]]
) -> None:
    asking, plans = told
    theirs = collection_of(make_tenant("globex"))
    few = collection_of(make_tenant("initech"))
    for one in (manuals, theirs):
        load(servers, one, 3000)
    load(servers, few, 900)
    settle()
    for one, is_indexed in ((manuals, True), (few, False), (theirs, True)):
        name = layouts.name_of(one.index_id)
        asking.execute("SELECT set_config('app.tenant', %s, false)", [str(one.tenant_id)])
        plans.clear()
        asking.execute(NEAR, [one.index_id, [one.pk], str(questions()[0]), None, 40])
        [plan] = [plan for plan in plans if "nearest" in plan]
        scans = [line.strip() for line in plan.splitlines() if "knowledge_embedding" in line and "Scan" in line]
        assert len(scans) == 1
        assert scans[0].startswith(f"->  Index Scan using {name} on knowledge_embedding e") == is_indexed
        assert (layouts.PREFIX in plan) == is_indexed


def test_what_was_deleted_is_passed_over(
    servers: Backends, manuals: Collection, told: tuple[psycopg.Connection, list[str]]
) -> None:
    """The nearest of all stand in the HNSW index until VACUUM comes by: more of them than a search keeps in sight."""
    asking, plans = told
    load(servers, manuals, 3000)
    settle()
    [question] = questions(count=1)
    values = (str(question), manuals.tenant_id, manuals.index_id)
    nearest = servers.superuser.execute(EXACT.replace("LIMIT 10", "LIMIT 900"), values).fetchall()
    gone = [one for one, _ in nearest]
    servers.superuser.execute("DELETE FROM knowledge_embedding WHERE chunk_id = ANY(%s)", [gone])
    asking.execute("SELECT set_config('app.tenant', %s, false)", [str(manuals.tenant_id)])
    plans.clear()
    found = asking.execute(NEAR, [manuals.index_id, [manuals.pk], str(question), None, 40]).fetchall()
    assert found == exact(servers, manuals, question)
    looks = [plan for plan in plans if "nearest" in plan]
    assert len(looks) == 2
    assert all(layouts.name_of(manuals.index_id) in look for look in looks), "those that are far were not compared"


# Of 200 tenants with an embedding index each. PostgreSQL takes tenant and index for independent: it expects few rows of
# any tenant.
OTHERS = """
    INSERT INTO knowledge_embedding (id, tenant_id, index_id, chunk_id, collection_id, live, dimension, vector)
    SELECT gen_random_uuid(), md5('tenant' || n % 200)::uuid, md5('index' || n % 200)::uuid, gen_random_uuid(),
        md5('collection' || n % 200)::uuid, true, e.dimension, e.vector
    FROM generate_series(1, 6000) n, (SELECT dimension, vector FROM knowledge_embedding LIMIT 1) e
"""


def test_one_tenant_among_many_is_searched_by_its_index(
    servers: Backends, manuals: Collection, told: tuple[psycopg.Connection, list[str]]
) -> None:
    asking, plans = told
    load(servers, manuals, 1100)
    servers.superuser.execute(OTHERS)
    servers.superuser.execute("ANALYZE knowledge_embedding")
    settle()
    asking.execute("SELECT set_config('app.tenant', %s, false)", [str(manuals.tenant_id)])
    plans.clear()
    found = asking.execute(NEAR, [manuals.index_id, [manuals.pk], str(questions()[0]), None, 40]).fetchall()
    assert len(found) == 10
    [plan] = [plan for plan in plans if "nearest" in plan]
    assert f"Index Scan using {layouts.name_of(manuals.index_id)}" in plan, plan
    assert "Sort" not in plan


class Searching(threading.Thread):
    """Searches until told to stop, and keeps what it found too little of, or what was raised."""

    def __init__(self, collection: Collection, there: list[tuple[list[float], set[uuid.UUID]]]) -> None:
        super().__init__()
        self.collection, self.there = collection, there
        self.over = threading.Event()
        self.searches = 0
        self.wrong: list[object] = []

    def run(self) -> None:
        try:
            while not self.over.is_set():
                for question, nearest in self.there:
                    found = {one for one, _ in near(self.collection, question)}
                    if len(found) < len(nearest) or len(found & nearest) < 0.8 * len(nearest):
                        self.wrong.append(found)
                    self.searches += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the test tells of it
            self.wrong.append(error)
        finally:
            connections.close_all()


def test_nothing_is_missed_while_layouts_move(servers: Backends, manuals: Collection) -> None:
    """Searches run all the while that an index comes and goes."""
    load(servers, manuals, 2000)
    settle()
    there = [(question, {one for one, _ in exact(servers, manuals, question)}) for question in questions()]
    searching = [Searching(manuals, there) for _ in range(3)]
    for one in searching:
        one.start()
    states = []
    try:
        for choice in ("exact", "indexed") * 5:
            Layout.objects.update(choice=choice)
            settle(1)
            states.append(layout_of(manuals).state)
    finally:
        for one in searching:
            one.over.set()
            one.join()
    assert states == ["exact", "indexed"] * 5
    assert [one.wrong for one in searching] == [[], [], []]
    assert all(one.searches for one in searching)
