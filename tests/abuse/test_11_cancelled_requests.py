"""Requests of two tenants, hundreds of them cut off at random moments: no answer holds a byte of the other's.

Pooled connections, caches and contexts are where an answer could be left for the next one to find.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.fakes.inference import FakeInference, Reply, embedding

REQUESTS, AT_ONCE = 500, 16
LONGEST = 0.25  # seconds after which a request is cut off, at most
WHOLE = 0.1  # of the requests: on a slow machine none would be answered otherwise
SEED = 20230320


@dataclass
class Party:
    """A tenant whose every byte bears its mark."""

    mark: str
    key: str
    conversations: list[str]
    document: str
    seen: int = 0
    answers: list[bytes] = field(default_factory=list)


def make_party(mark: str, base_url: str) -> Party:
    tenant = factories.make_tenant(mark)
    endpoint = factories.make_endpoint(base_url, kind=Endpoint.Kind.EMBEDDING)
    collection = factories.make_collection(
        tenant=tenant, index=factories.make_index(tenant=tenant, endpoint=endpoint), slug="manuals"
    )
    document = factories.make_document(tenant=tenant, collection=collection, title=f"{mark} manual")
    text = f"{mark} pump"
    factories.make_passage(tenant=tenant, document=document, text=text, vector=embedding(text))
    assistant = factories.make_assistant(tenant=tenant, collections=(collection,), slug="guide")
    conversations = [
        str(factories.make_conversation(tenant=tenant, assistant=assistant, title=mark).pk) for _ in range(AT_ONCE)
    ]
    return Party(mark, factories.make_key(tenant=tenant), conversations, str(document.pk))


async def one(session: aiohttp.ClientSession, web: str, party: Party, chance: random.Random) -> None:
    """A request of the party, read until it ends or is cut off; what came of it is kept."""
    talk = chance.choice(party.conversations)
    calls: list[tuple[str, str, dict[str, Any] | None, str]] = [
        ("GET", "conversations", None, "application/json"),
        ("GET", f"conversations/{talk}/messages", None, "application/json"),
        ("GET", f"documents/{party.document}", None, "application/json"),
        ("POST", "search", {"collection": "manuals", "query": "pump"}, "application/json"),
        ("POST", f"conversations/{talk}/turns", {"text": f"{party.mark} pump?"}, "text/event-stream"),
        ("POST", f"conversations/{talk}/turns", {"text": f"{party.mark} pump?"}, "application/json"),
    ]
    said = [{"role": "user", "content": f"{party.mark} pump?"}]
    calls += [
        ("POST", "/v1/chat/completions", {"model": "guide", "messages": said, "stream": stream}, "application/json")
        for stream in (True, False)
    ]
    method, path, body, accept = chance.choice(calls)
    url = web + (path if path.startswith("/") else f"/api/v1/{path}")
    headers = {"Authorization": f"Bearer {party.key}", "Accept": accept}
    answer = b""
    try:
        async with asyncio.timeout(None if chance.random() < WHOLE else chance.uniform(0, LONGEST)):
            async with session.request(method, url, json=body, headers=headers) as response:
                assert response.status in {200, 409, 503}, (path, response.status)
                async for part in response.content.iter_any():
                    answer += part
    except TimeoutError:
        pass
    party.answers.append(answer)


async def test_no_byte_crosses(database: None, web: str) -> None:
    async with FakeInference() as fake:
        await platform_unit(factories.make_endpoint, fake.base_url)
        fake.script(
            *(Reply(when=mark, tokens=[f"{mark} "] * 20, delay=0.01, always=True) for mark in ("acme", "globex"))
        )
        parties = [await platform_unit(make_party, mark, fake.base_url) for mark in ("acme", "globex")]
        chance = random.Random(SEED)
        turns = [chance.choice(parties) for _ in range(REQUESTS)]
        # Few connections for all, so that what one request leaves behind meets another tenant's.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
            waiting = iter(turns)

            async def work() -> None:
                for party in waiting:
                    await one(session, web, party, chance)

            await asyncio.gather(*(work() for _ in range(AT_ONCE)))
            await asyncio.sleep(1)  # what still runs ends
            for party in parties:
                for talk in party.conversations:
                    url = f"{web}/api/v1/conversations/{talk}/messages"
                    async with session.get(url, headers={"Authorization": f"Bearer {party.key}"}) as response:
                        party.answers.append(await response.read())
        gateway.forget()
    for party, other in (parties, parties[::-1]):
        said = b"".join(party.answers)
        assert party.mark.encode() in said
        assert other.mark.encode() not in said
    assert sum(not answer for party in parties for answer in party.answers) > REQUESTS / 20, "too few were cut off"
    for request in fake.requests:
        text = str(request.payload)
        assert not ("acme" in text and "globex" in text)
