"""What refusing a question costs: in this process and in PostgreSQL, of a tenant that has used up what it may.

With a name of the client's own and without: whatever has one may be a repeat, which is looked for first.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Final

import uvloop

from apps.access.authentication import Caller
from apps.assistants.models import Assistant
from apps.conversations import opening
from apps.conversations.models import Conversation
from apps.conversations.question import Question
from apps.tenants import rights
from apps.usage import meter
from bench import fixture, machine
from chatbot.errors import QuotaExceeded, RateLimited
from chatbot.quota import Account, Amounts
from tests import factories
from tests.environment import Backends

TIMES: Final = 300


def tell(servers: Backends) -> dict[str, Any]:
    """Measure and print; gives the figures, in milliseconds of CPU a question."""
    servers.empty_redis()
    fixture.load(servers, "http://127.0.0.1:9", conversations=1)
    place = Conversation.objects.select_related("tenant").get()
    Assistant.objects.update(passages=8)
    factories.make_quota(tenant=place.tenant, metric="requests", window="month", amount=1)
    caller = Caller(tenant=place.tenant, scopes=rights.ALL)
    figures = uvloop.run(_measure(caller, place.pk))
    print(f"\n{'refused, ms of CPU':24} {'here':>8} {'PostgreSQL':>12} {'Redis':>8}")
    for name, figure in figures.items():
        print(f"{name:24} {figure['here']:8.2f} {figure['postgres']:12.2f} {figure['redis-server']:8.2f}")
    return figures


async def _measure(caller: Caller, conversation: uuid.UUID) -> dict[str, Any]:
    async def refuse(name: str) -> None:
        question = Question("Which seal fits?", idempotency_key=name and f"{name} {uuid.uuid4()}")
        try:
            await opening.open_turn(caller, conversation, question, replica=uuid.uuid4())
        except (QuotaExceeded, RateLimited):
            return
        raise AssertionError("It was not refused.")

    await meter.reserve(caller.tenant, uuid.uuid4(), [(Account("tenant"), "")], Amounts(requests=1))
    figures = {}
    for label, name in (("without a name", ""), ("with a name", "name")):
        await refuse(name)
        before, here = machine.spent(), time.process_time()
        for _ in range(TIMES):
            await refuse(name)
        here, after = time.process_time() - here, machine.spent()
        spent = {server: after[server] - before[server] for server in after}
        figures[label] = {who: 1000 * seconds / TIMES for who, seconds in {"here": here, **spent}.items()}
    return figures
