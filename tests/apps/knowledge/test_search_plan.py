"""A search reads the passages that share its words and no others: row-level security costs it no index."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from local import postgres
from tests.environment import PASSWORDS, POSTGRES_PORT
from tests.factories import make_document

PASSAGES = 2_000
MANY = """
    INSERT INTO knowledge_chunk
        (id, tenant_id, document_id, collection_id, live, position, text, heading, tokens, digest)
    SELECT gen_random_uuid(), %s, %s, %s, true, n, 'the pump has seal number' || n, '{}', 5, ''
    FROM generate_series(1, %s) n
"""
SEARCH = (
    "SELECT id FROM hybrid_passages(%s, %s, NULL, 'Where is number7?', 40, 32, '{number7}', NULL) WHERE id IS NOT NULL"
)
DIRECTLY = "SELECT id FROM knowledge_chunk c WHERE c.tenant_id = %s AND c.live AND c.tsv @@ 'number7'::tsquery"


@pytest.fixture
def document(acme: Tenant, manuals: Collection) -> Document:
    return make_document(tenant=acme, collection=manuals)


@pytest.fixture
def plans(acme: Tenant, document: Document) -> Iterator[tuple[psycopg.Connection, list[str]]]:
    """A connection as the app's role in acme's scope, and the plans of what it runs, as the server logs them."""
    told: list[str] = []
    with postgres.connect(POSTGRES_PORT, PASSWORDS[postgres.SUPERUSER], postgres.DATABASE) as connection:
        connection.execute(MANY, (acme.pk, document.pk, document.collection_id, PASSAGES))
        connection.execute("VACUUM ANALYZE knowledge_chunk")
        connection.execute(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;"
            " SET client_min_messages = log"
        )
        # What many more passages would make the cheapest way.
        connection.execute("SET enable_seqscan = off; SET enable_indexscan = off")
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        connection.execute("SELECT set_config('app.tenant', %s, false)", (str(acme.pk),))
        connection.execute(f"SET ROLE {postgres.APP}")
        told.clear()
        yield connection, told


def conditions(plan: str) -> list[str]:
    """By what indexes are read; what else decides about a row stands in filters."""
    return [line for line in plan.splitlines() if "Index Cond:" in line]


def test_words_are_looked_up_in_their_index(
    plans: tuple[psycopg.Connection, list[str]], acme: Tenant, document: Document
) -> None:
    connection, told = plans
    index = document.collection.index_id
    found = connection.execute(SEARCH, (index, [document.collection_id])).fetchall()
    assert len(found) == 1
    [plan] = [plan for plan in told if "deciding" in plan]
    assert "Bitmap Index Scan on chunk_words" in plan
    assert [line for line in conditions(plan) if f"tenant_id = '{acme.pk}'" in line and "tsv @@" in line]


def test_spellings_are_looked_up_in_their_index(
    plans: tuple[psycopg.Connection, list[str]], acme: Tenant, document: Document
) -> None:
    connection, told = plans
    asked = SEARCH.replace("number7", "numberr7")
    assert connection.execute(asked, (document.collection.index_id, [document.collection_id])).fetchall()
    [plan] = [plan for plan in told if "deciding" in plan]
    assert [line for line in conditions(plan) if f"tenant_id = '{acme.pk}'" in line and "text %> spelled" in line], plan


def test_the_policy_alone_would_let_it_read_every_passage(
    plans: tuple[psycopg.Connection, list[str]], acme: Tenant, document: Document
) -> None:
    """What the function is for; once PostgreSQL trusts `@@`, it can go."""
    connection, told = plans
    assert len(connection.execute(DIRECTLY, (acme.pk,)).fetchall()) == 1
    [plan] = [plan for plan in told if "number7" in plan]
    assert not [line for line in conditions(plan) if "tsv @@" in line]
