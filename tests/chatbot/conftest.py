"""A scripted model server and a client of it, both gone when the test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chatbot.inference.client import Client
from tests.fakes.inference import FakeInference


@pytest.fixture
async def fake() -> AsyncIterator[FakeInference]:
    async with FakeInference() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    client = Client(allowed=["127.0.0.1"])
    yield client
    await client.close()
