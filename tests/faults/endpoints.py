"""What a row changes of the model servers that the product knows, and what these were asked."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.client import Client
from tests.faults.world import World
from tests.journeys.conftest import Model

SPARE = "spare"
# All fields as the first one has them, whichever there are.
_COPY = """
    INSERT INTO inference_endpoint
    SELECT (jsonb_populate_record(e, jsonb_build_object(
        'id', %s::text, 'name', %s::text, 'base_url', %s::text, 'created', now()))).*
    FROM inference_endpoint e WHERE kind = 'chat' AND name <> %s
    ON CONFLICT (name) DO UPDATE SET enabled = true, base_url = excluded.base_url
    RETURNING id
"""


@contextmanager
def spare_endpoint(world: World, base_url: str) -> Iterator[None]:
    """A second chat endpoint, until the row is over. Replicas that are started afterwards know it."""
    rows = world.stores.postgres.rows
    rows(_COPY, str(uuid.uuid4()), SPARE, base_url, SPARE)
    try:
        yield
    finally:
        rows("UPDATE inference_endpoint SET enabled = false WHERE name = %s RETURNING id", SPARE)


@contextmanager
def endpoints_changed(world: World, **fields: object) -> Iterator[None]:
    """The first chat endpoint, until the row is over."""
    rows = world.stores.postgres.rows
    ((name, value),) = fields.items()
    where = "kind = 'chat' AND name <> %s"
    [(before,)] = rows(f"SELECT {name} FROM inference_endpoint WHERE {where}", SPARE)
    update = f"UPDATE inference_endpoint SET {name} = %s WHERE {where} RETURNING id"
    rows(update, value, SPARE)
    try:
        yield
    finally:
        rows(update, before, SPARE)


def questions(model: Model) -> list[str]:
    """What users asked it, oldest first; probes are no questions."""
    return [text for text, _ in _asked(model)]


def came_at(model: Model) -> list[float]:
    """When each of them came, by time.monotonic(), which all processes of a machine share."""
    return [moment for _, moment in _asked(model)]


def _asked(model: Model) -> list[tuple[str, float]]:
    found = [
        (request["payload"]["messages"][-1]["content"], request["received_at"])
        for request in model.requests("/v1/chat/completions")
    ]
    return [(text, moment) for text, moment in found if "pump" in text]


def ends_as(clients: list[Client], state: str, bill: str) -> None:
    for client in clients:
        client.state, client.bill = state, bill
