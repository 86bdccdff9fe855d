"""Finding one's own conversations by words, and what that reads among 100,000 messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection

from apps.access.authentication import Caller
from apps.conversations.finding import with_words
from apps.conversations.models import Conversation, Message
from apps.conversations.parties import within_reach
from apps.tenants.models import EndUser
from apps.tenants.scoping import platform_unit, tenant_scope
from local import postgres
from tests import factories
from tests.apps.access.visiting import Page, token_for
from tests.apps.conversations.conftest import Api, World, api, fake, world
from tests.environment import PASSWORDS, POSTGRES_PORT

__all__ = ["api", "fake", "world"]


def write(world: World, user: str, title: str, *texts: str) -> str:
    end_user, _ = EndUser.objects.get_or_create(tenant=world.tenant, external_id=user)
    conversation = factories.make_conversation(
        tenant=world.tenant, assistant=world.assistant, end_user=end_user, title=title
    )
    for text in texts:
        Message.objects.create(tenant=world.tenant, conversation=conversation, role="user", text=text)
    return str(conversation.pk)


async def found(page: Any, words: str, **more: str) -> list[str]:
    response = await page.get("/api/v1/conversations", {"q": words, **more})
    assert response.status_code == 200, response.content
    return [row["title"] for row in response.json()["results"]]


async def test_titles_and_what_was_said_are_searched(world: World) -> None:
    def arrange() -> None:
        write(world, "zoe", "Pumps", "Which seal fits the P-40?", "It is 100% tight")
        write(world, "zoe", "Boilers", "How hot?")
        write(world, "yan", "Seals of somebody else", "seal")

    await platform_unit(arrange)
    page = Page(token=await token_for(world, user="zoe"))
    assert await found(page, "PUMP") == ["Pumps"]
    assert await found(page, "seal") == ["Pumps"]
    assert await found(page, "pumps  SEAL") == ["Pumps"]
    assert await found(page, "boilers seal") == []
    assert await found(page, "seal", user="yan") == ["Pumps"]
    assert await found(page, "0%") == ["Pumps"]
    assert await found(page, "%") == ["Pumps"]
    assert await found(page, "_") == []
    assert await found(page, " ") == ["Boilers", "Pumps"]


async def test_a_key_names_the_end_user(world: World, api: Api) -> None:
    await platform_unit(write, world, "zoe", "Pumps", "seal")
    assert await found(api, "seal", user="zoe") == ["Pumps"]
    assert await found(api, "seal", user="yan") == []
    response = await api.get("/api/v1/conversations", {"q": "seal"})
    assert (response.status_code, set(response.json()["fields"])) == (400, {"q"})


@pytest.mark.parametrize("words", ["x" * 201, "a b c d e f g h i"])
async def test_bad_input_is_told(world: World, api: Api, words: str) -> None:
    response = await api.get("/api/v1/conversations", {"q": words, "user": "zoe"})
    assert (response.status_code, set(response.json()["fields"])) == (400, {"q"})


CROWD = """
    WITH people AS (
        INSERT INTO tenants_enduser (id, tenant_id, external_id, created)
        SELECT gen_random_uuid(), %(tenant)s, 'crowd-' || n, now() FROM generate_series(0, 199) n
        RETURNING id, external_id
    ), talks AS (
        INSERT INTO conversations_conversation (id, tenant_id, assistant_id, end_user_id, title, created, active_at)
        SELECT gen_random_uuid(), %(tenant)s, %(assistant)s, people.id, 'T' || n, now(), now() - n * interval '1 second'
        FROM people, generate_series(1, 50) n
        RETURNING id
    )
    INSERT INTO conversations_message (id, tenant_id, conversation_id, role, text, citations, created)
    SELECT gen_random_uuid(), %(tenant)s, talks.id, 'user', %(text)s, '[]', now() FROM talks, generate_series(1, 10)
"""
TEXT = "How is the pump primed before the first brew, and which seal fits it when it was built in 2019? " * 2


def crowd(world: World) -> None:
    """200 people with 10,000 conversations and 100,000 messages."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', '100000', true)")
        cursor.execute(CROWD, {"tenant": world.tenant.pk, "assistant": world.assistant.pk, "text": TEXT})
        assert cursor.rowcount == 100_000


def count_rows() -> None:
    """PostgreSQL does it by itself within a minute of such a change."""
    with postgres.connect(POSTGRES_PORT, PASSWORDS[postgres.SUPERUSER], postgres.DATABASE) as superuser:
        superuser.execute("ANALYZE conversations_conversation, conversations_message, tenants_enduser")


async def test_it_is_quick_among_100_000_messages(world: World, api: Api) -> None:
    """15 to 160 ms on two busy cores; 500 to 800 where each message of the tenant is read."""
    await platform_unit(crowd, world)
    count_rows()
    for words in ("nowhere", "seal", "nowhere seal pump"):
        await found(api, words, user="crowd-7")
        plan = await platform_unit(explained, world, words)
        assert 0 < messages_read(plan) <= 500 * len(words.split())  # for each word all that this one said and heard


def explained(world: World, words: str) -> dict[str, Any]:
    caller = Caller(tenant=world.tenant)
    with tenant_scope(world.tenant):
        rows = within_reach(Conversation.objects.all(), caller, "crowd-7")
        asked = with_words(rows, caller, words, user="crowd-7").order_by("-active_at")[:51]
        plan: dict[str, Any] = json.loads(asked.explain(format="json", analyze=True))[0]["Plan"]
        return plan


def messages_read(plan: dict[str, Any]) -> int:
    own = 0
    if "conversations_message" in plan.get("Relation Name", plan.get("Index Name", "")):
        own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return own + sum(map(messages_read, plan.get("Plans", [])))
