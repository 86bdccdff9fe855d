"""What nginx adds to a first token: the bare relay, asked itself and through nginx as shipped, by turns."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace

import uvloop

from bench import machine
from bench.client import Door, Profile, drive, post, text_frame, upgrade
from tests.deploy.proxy import nginx
from tests.environment import HOME

ROUNDS = 5
PROFILE = Profile("nginx", streams=32, interval_us=20_000, tokens=50, rounds=2)


def tell(core: int) -> dict[str, float]:
    """Milliseconds at the median, by door."""
    upstream = machine.start_upstream(HOME)
    bare = machine.start_web(HOME, "bench.bare:application", core, {"BENCH_UPSTREAM": upstream.url})
    doors = {
        "ws": Door(bare.port, lambda _, pace: text_frame(_question(pace)), upgrade(), b"\r\n\r\n"),
        "sse": Door(bare.port, lambda _, pace: post("/stream", _question(pace))),
    }
    try:
        with nginx(f"127.0.0.1:{bare.port}") as proxy:
            found = uvloop.run(_added(doors, int(proxy.url.rpartition(":")[2])))
    finally:
        bare.stop()
        upstream.stop()
    for name, added in found.items():
        print(f"nginx adds {added:.2f} ms to a first token by {name} (p50, 32 streams)")
    return found


def _question(pace: str) -> dict[str, str]:
    return {"text": f"Why? {pace}"}


async def _added(doors: Mapping[str, Door], through: int) -> dict[str, float]:
    found = {}
    for name, door in doors.items():
        times: dict[int, list[float]] = {door.port: [], through: []}
        for _ in range(ROUNDS):
            for port in times:
                tally = await drive(replace(door, port=port), PROFILE)
                assert not tally.errors, tally.errors[:3]
                times[port] += tally.first_us
        found[name] = (statistics.median(times[through]) - statistics.median(times[door.port])) / 1000
    return found
