"""Row 39: the disk of the documents is full. An upload is refused with 507 and leaves nothing behind; chat works; and
when there is room again, so do uploads."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.ingesting import Works, manual
from tests.faults.invariants import invariants

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]

SIZE = 2**20  # bytes
SUDO = [] if os.geteuid() == 0 else ["sudo"]


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    place.mkdir()
    options = f"size={SIZE},uid={os.getuid()}"
    subprocess.run([*SUDO, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run([*SUDO, "umount", "--lazy", str(place)], check=True)


async def test_uploads_are_refused_and_the_rest_works(works: Works) -> None:
    world = works.world
    canary = world.askers[0].canary
    with small_disk(works.home / "media"):
        works.worker()
        first = await works.upload(manual(20, canary))
        await works.becomes(first, "ready")
        other = await works.upload(b"x" * (SIZE * 3 // 4), "large.txt")
        files = {path: path.stat().st_size for path in works.stored()}
        world.script(delay=0.02)
        asked = world.ask_all(works.address)
        for size in (SIZE // 2, SIZE * 2, SIZE * 4):  # within what is held in memory, and beyond
            status, body = await works.send(b"y" * size, f"{size}.txt")
            assert (status, body["code"]) == (507, "storage_full")
            assert body["message"]
        await world.finished(asked)
        assert {path: path.stat().st_size for path in works.stored()} == files, "an orphan"
        assert works.count("knowledge_document", "stored LIKE 'documents/%%'") == 2
        while (status := await works.ask_for("delete", other)) == 503:  # noqa: ASYNC110 - its passages are just written
            await asyncio.sleep(1)
        assert status == 204
        await works.until(lambda: len(works.stored()) == 1)
        again = await works.upload(b"z" * (SIZE // 2), "fits.txt")
        assert (await works.becomes(again, "ready", "failed"))["size"] == SIZE // 2  # its reservation is settled then
        await invariants(world)
