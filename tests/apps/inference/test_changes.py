"""What operators change reaches processes that run already, over the bus, and not before it is true."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest
from django.db import transaction
from django.urls import reverse

from apps.edge import bus
from apps.edge.shared_state import redis as shared
from apps.inference import gateway
from apps.inference.models import Endpoint
from tests.apps.admin_world import World, logged_in, make_world
from tests.environment import ROOT

# Another process, which by itself would look at the rows again after an hour only. It prints what its pool knows of the
# endpoints whenever that changes, and what it hears of breakers.
OTHER = """
import asyncio, django
django.setup()
from apps.edge import bus
from apps.inference import gateway

gateway.FRESH_SECONDS = 3600
bus.subscribe(gateway.RESET, lambda message: print("reset", message[0], flush=True))

async def main():
    bus.listen()
    known = None
    while True:
        await gateway.pool()
        now = sorted(f"{e.name}:{e.limit}:{e.draining}:{len(tenants)}" for e, tenants in gateway._known)
        if now != known:
            known = now
            print(*now, sep=";", flush=True)
        await asyncio.sleep(0.02)

asyncio.run(main())
"""


@contextmanager
def other_process() -> Iterator[IO[str]]:
    """What another process says, from when it hears."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER], cwd=ROOT, env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"},
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            asyncio.run(somebody_listens())
            assert process.stdout is not None
            yield process.stdout
        finally:
            process.kill()


async def somebody_listens() -> None:
    client = await shared()
    async with asyncio.timeout(30):
        while not dict(await client.pubsub_numsub(bus.CHANNEL))[bus.CHANNEL]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def until(said: IO[str], words: str) -> None:
    """Read on until a line has the words; the test's own time limit ends what never comes."""
    for line in said:
        if words in line:
            return
    raise AssertionError(f"it ended without saying {words!r}")


@pytest.fixture
def world(database: None) -> World:
    return make_world()


def test_another_process_knows_of_each_change(world: World) -> None:
    operator = logged_in(world.operator)
    endpoint = Endpoint.objects.get(name="acme chat")
    board = reverse("admin:inference_board")
    with other_process() as said:
        until(said, f"acme chat:{endpoint.limit}:False")
        assert operator.post(board, {"endpoint": endpoint.pk, "deed": "drain"}).status_code == 302
        until(said, "acme chat:128:True")
        assert operator.post(board, {"endpoint": endpoint.pk, "deed": "reset"}).status_code == 302
        until(said, f"reset {endpoint.pk}")
        page = reverse("admin:inference_endpoint_change", args=[endpoint.pk])
        form = operator.get(page).context["adminform"].form
        fields: dict[str, Any] = {name: "" if value is None else value for name, value in form.initial.items()}
        fields |= {"draining": "", "forget_key": "", "limit": 7, "tenants": [str(world.acme.pk)]}
        answer = operator.post(page, fields)
        assert answer.status_code == 302, answer.context["errors"]
        until(said, "acme chat:7:False:1")  # with the tenants, which the form saves last


@pytest.mark.usefixtures("database")
def test_nobody_is_told_before_the_change_is_true() -> None:
    heard: list[object] = []
    bus.subscribe(gateway.CHANGED, heard.append)
    try:
        with transaction.atomic():
            gateway.changed()
            assert not heard
        assert heard == [None]
        with transaction.atomic():
            gateway.changed()
            transaction.set_rollback(True)
        assert heard == [None]  # nothing has changed
    finally:
        bus._handlers[gateway.CHANGED].remove(heard.append)
