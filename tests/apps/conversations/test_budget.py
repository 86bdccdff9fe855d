"""What a question costs the database before its first token, counted by the database itself."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from django.db import connections

from apps.access import authentication, revocation
from apps.conversations import opening, replicas, runner
from apps.inference import gateway
from apps.tenants.scoping import platform_unit
from apps.usage import limits
from tests import factories
from tests.apps.conversations.conftest import Api, World, read_sse
from tests.environment import HOME, Backends

TRANSACTIONS = 2
STATEMENTS = 8
_LINE = re.compile(r"LOG:  (?:statement|execute [^:]*): (.*)")


class Statements:
    """What the app's role sent since `begin()`, from the server's own log."""

    def __init__(self) -> None:
        self.log = HOME / "postgres.log"
        self.start = 0

    def begin(self) -> None:
        self.start = self.log.stat().st_size

    def sent(self) -> list[str]:
        with self.log.open("rb") as file:
            file.seek(self.start)
            return _LINE.findall(file.read().decode())


@pytest.fixture
def statements(servers: Backends, database: None) -> Iterator[Statements]:
    pooled: Any = connections["default"]
    servers.superuser.execute("ALTER ROLE parley_app SET log_statement = 'all'")
    pooled.close_pool()  # the setting is for new connections
    yield Statements()
    servers.superuser.execute("ALTER ROLE parley_app RESET log_statement")
    pooled.close_pool()


@pytest.mark.parametrize("limited", [False, True])
async def test_what_a_question_costs_before_its_first_token(
    statements: Statements, world: World, api: Api, monkeypatch: pytest.MonkeyPatch, limited: bool
) -> None:
    if limited:
        await platform_unit(lambda: factories.make_quota(tenant=world.tenant, metric="tokens", amount=1_000_000))
    monkeypatch.setattr(authentication, "CACHE_SECONDS", 60.0)
    monkeypatch.setattr(gateway, "FRESH_SECONDS", 60.0)
    monkeypatch.setattr(limits, "FRESH_SECONDS", 60.0)
    monkeypatch.setattr(opening, "HELD_SECONDS", 60.0)  # as on a machine that does nothing else
    monkeypatch.setattr(replicas, "LOOK_SECONDS", 3600.0)
    monkeypatch.setattr(revocation, "RECHECK_SECONDS", 3600.0)
    world.script("Prime", " it.", always=True, delay=0.5)
    await api.ask(world.turns, "how do I start the pump?")  # now the process knows the key and the endpoints

    async def ask() -> None:
        response = await api.ask(world.turns, "and how do I stop it?", Accept="text/event-stream")
        async for event in read_sse(response):
            if event.type == "token":
                break

    await within_budget(statements, ask)

    said = [{"role": "user", "content": "and how do I stop it?"}]
    call = {"model": "guide", "messages": said, "stream": True}
    await api.post("/v1/chat/completions", {**call, "stream": False}, content_type="application/json")

    async def call_completions() -> None:
        response = await api.post("/v1/chat/completions", call, content_type="application/json")
        async for chunk in response.streaming_content:
            assert b'"content":"Prime"' in chunk
            break

    await within_budget(statements, call_completions)


async def within_budget(statements: Statements, ask: Callable[[], Awaitable[None]]) -> None:
    """At the latest at the third time: now and then a process writes something of its own meanwhile."""
    spent = []
    for _ in range(3):
        await runner.drain(30)
        statements.begin()
        await ask()
        sent = statements.sent()
        work = [statement for statement in sent if not statement.startswith(("BEGIN", "COMMIT"))]
        assert any("INSERT" in statement for statement in work), sent
        spent.append((sum(statement.startswith("BEGIN") for statement in sent), len(work)))
        if spent[-1][0] <= TRANSACTIONS and spent[-1][1] <= STATEMENTS:
            return
    raise AssertionError(spent)
