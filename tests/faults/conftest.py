"""Fixtures of the fault catalogue: a world for each row, on stores and a model server that all rows of a run share."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from local.home import free_port
from tests.environment import HOME, ROOT
from tests.faults.client import Asker
from tests.faults.endpoints import endpoints_changed, spare_endpoint
from tests.faults.ingesting import Works
from tests.faults.rabbit import rabbit
from tests.faults.stores import Stores
from tests.faults.world import World
from tests.journeys.conftest import Model, model_process


@pytest.fixture(scope="session")
def stores() -> Iterator[Stores]:
    made = Stores(HOME / "faults")
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.fixture(scope="session")
def engine() -> Iterator[Model]:
    """It can go on from the beginning of an answer."""
    with model_process("--dialect", "vllm") as started:
        yield started


@pytest.fixture(scope="session")
def askers(stores: Stores, engine: Model) -> list[Asker]:
    made = subprocess.run(
        [sys.executable, "-m", "tests.faults.arrange", engine.base_url],
        env={**os.environ, **stores.environment, "DJANGO_SETTINGS_MODULE": "config.settings"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    return [Asker(**asker) for asker in json.loads(made).values()]


@pytest.fixture
async def world(
    stores: Stores,
    engine: Model,
    askers: list[Asker],
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> AsyncIterator[World]:
    """Without replicas yet; the stores are empty but for the tenants."""
    await stores.make_good()
    chance = random.Random(f"{os.environ.get('PARLEY_FAULTS_SEED', '')} {request.node.name}")
    full = "PARLEY_FAULTS_FULL" in os.environ
    patient = not full and request.node.get_closest_marker("stores") is None
    # Its connections are to be gone when those of the replicas are counted.
    connector, timeout = aiohttp.TCPConnector(keepalive_timeout=5), aiohttp.ClientTimeout(total=90)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        made = World(stores, engine, askers, chance, full, patient, record_property, session)
        try:
            yield made
        finally:
            for client in made.clients:
                await client.close()
            made.stop_replicas()


@pytest.fixture(scope="session")
def spare_engine() -> Iterator[Model]:
    with model_process("--dialect", "vllm") as started:
        yield started


@pytest.fixture
def spare(world: World, spare_engine: Model) -> Iterator[Model]:
    """A second model server, which both tenants may use and which is well."""
    with spare_endpoint(world, spare_engine.base_url):
        for model in (world.model, spare_engine):
            model.forget()
        yield spare_engine


@pytest.fixture
def impatient(world: World) -> Iterator[float]:
    """How long a first word may take, in seconds: as shipped in a sweep, less otherwise."""
    seconds = 15 if world.full else 2
    with endpoints_changed(world, first_token_seconds=seconds):
        yield float(seconds)


@pytest.fixture
def nobody_there(world: World) -> Iterator[None]:
    """Where the first model server chats nobody listens; it still embeds."""
    with endpoints_changed(world, base_url=f"http://127.0.0.1:{free_port()}"):
        yield


@pytest.fixture
def beginning_again(world: World) -> Iterator[None]:
    """The model server cannot go on with an answer."""
    rows = "UPDATE inference_endpoint SET protocol = %s WHERE kind = 'chat' RETURNING id"
    world.stores.postgres.rows(rows, "openai")
    yield
    if world.stores.postgres.answers():
        world.stores.postgres.rows(rows, "vllm")


@pytest.fixture
async def works(world: World) -> AsyncIterator[Works]:
    """A replica that takes documents; workers and beat are started by the row."""
    async with opened(Works(world)) as made:
        yield made


@pytest.fixture
async def works_on_rabbit(world: World) -> AsyncIterator[tuple[Works, subprocess.Popen[str]]]:
    """The same with RabbitMQ for a broker, and its process."""
    with rabbit() as (address, process):
        async with opened(Works(world, broker=address)) as made:
            yield made, process


@asynccontextmanager
async def opened(works: Works) -> AsyncIterator[Works]:
    works.world.model.forget()
    try:
        await works.open()
        yield works
    finally:
        works.close()
