"""`make bench`: the same questions asked directly, through a bare relay and through the product, in one run.

`ONLY=name` picks a profile (c1, c32, c128, flood, turns), `journal`, `telemetry`, `idle`, `nginx`, `scope`,
`authenticate`, `limits`, `choosing`, `failover`, `quota`, `refusing`, `ingest` or a part of it (`ingest-reading`,
`ingest-storing`, `ingest-busy`, `ingest-flood`, `ingest-books`), `usage`, `capacity` or `overload` (bench/gpu.md says
how to run that one against a GPU); PARLEY_ASGI_SERVER picks the server, as in `make up`. `usage`, which first writes
ten million rows, and `capacity` run only where they are asked for.
"""

# ruff: noqa: E402 - the environment is set before Django reads it.

from __future__ import annotations

import asyncio
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import django
import uvloop

from tests import all_tenants
from tests.environment import HOME, ROOT, Backends
from tests.fakes.otlp import running_otlp

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from bench import (
    authentication,
    capacity,
    choosing,
    failover,
    fixture,
    ingest,
    limiting,
    machine,
    overload,
    proxying,
    quota,
    refusing,
    report,
    retrieval,
    scope,
    telemetry,
    usage,
)
from bench.client import Connection, Door, Profile, Tally, drive, post, text_frame, upgrade

PROFILES = (
    Profile("c1", streams=1, interval_us=10_000, tokens=40, rounds=8),
    Profile("c32", streams=32, interval_us=20_000, tokens=100, rounds=2),
    Profile("c128", streams=128, interval_us=50_000, tokens=80, rounds=1, ramp=4.0, hold=5.0),
    Profile("flood", streams=128, interval_us=4_000, tokens=750, rounds=1, ramp=4.0, hold=5.0),
    Profile("turns", streams=4, interval_us=0, tokens=1, rounds=40, ramp=0.1),
)
WARM_UP = Profile("warm-up", streams=4, interval_us=1_000, tokens=5, rounds=3)
# The flood with the journal and without, in turns, since machines get faster and slower.
JOURNAL = tuple(replace(PROFILES[3], name=f"journal {number}") for number in (1, 2, 3))
# The flood without log, with it, and with traces beside it, in turns.
TELEMETRY = tuple(replace(PROFILES[3], name=f"telemetry {number}") for number in (1, 2, 3))
ON_REQUEST = ("usage", "capacity")
IDLE_SOCKETS = 1_000
SETTLE_SECONDS = 1.0
INGESTION = ("ingest", *(f"ingest-{part}" for part in ingest.PARTS))
HEARTBEAT_SECONDS = 30.0  # within which each idle socket has been pinged, and has answered


class Questions:
    """Gives out a fresh conversation and different words for each question."""

    def __init__(self, conversations: Sequence[str], words: Sequence[str]) -> None:
        self.conversations = iter(conversations)
        self.words = words
        self.chance = random.Random(11)

    def body(self, pace: str) -> dict[str, str]:
        # As in a real question, one word is in about 4% of the passages and the others in fewer.
        chosen = self.chance.sample(self.words[200:300], 1) + self.chance.sample(self.words[400:], 4)
        return {"text": f"{' '.join(chosen)}? every {pace}"}

    def in_conversation(self, pace: str) -> tuple[str, dict[str, str]]:
        return next(self.conversations), self.body(pace)


def doors(upstream: int, bare: int, parley: int, questions: Questions, key: str) -> dict[str, Door]:
    authorization = f"Authorization: Bearer {key}\r\nAccept: text/event-stream\r\n"

    def directly(_: int, pace: str) -> bytes:
        message = {"role": "user", "content": questions.body(pace)["text"]}
        return post("/v1/chat/completions", {"model": "bench", "messages": [message], "stream": True})

    def by_sse(_: int, pace: str) -> bytes:
        conversation, body = questions.in_conversation(pace)
        return post(f"/api/v1/conversations/{conversation}/turns", body, authorization)

    def by_ws(_: int, pace: str) -> bytes:
        conversation, body = questions.in_conversation(pace)
        return text_frame({"type": "ask", "conversation": conversation, **body})

    return {
        "direct": Door(upstream, directly),
        "bare ws": Door(bare, lambda _, pace: text_frame(questions.body(pace)), upgrade(), b"\r\n\r\n"),
        "bare sse": Door(bare, lambda _, pace: post("/stream", questions.body(pace))),
        "parley ws": Door(parley, by_ws, upgrade(authorization), b'"ready"'),
        "parley sse": Door(parley, by_sse),
    }


def parley_doors(data: fixture.Fixture) -> Callable[[int], Mapping[str, Door]]:
    """To a web process alone, by its port."""
    questions = Questions(data.conversations, data.words)
    return lambda port: doors(0, 0, port, questions, data.key)


async def idle(door: Door, process: machine.Process) -> dict[str, float]:
    """Attach a crowd of sockets at once: how long that takes them, and what each keeps in memory after a heartbeat."""
    before = process.resident_mib()

    async def timed() -> tuple[float, Connection]:
        started = time.monotonic()
        connection = await door.attach(Tally())
        return time.monotonic() - started, connection

    attached = await asyncio.gather(*(timed() for _ in range(IDLE_SOCKETS)))
    await asyncio.sleep(HEARTBEAT_SECONDS)
    after = process.resident_mib()
    pinged = sum(connection.pings > 0 and not connection.transport.is_closing() for _, connection in attached)
    for _, connection in attached:
        connection.transport.close()
    times = sorted(seconds for seconds, _ in attached)
    return {
        "mib_per_1000_sockets": (after - before) * 1000 / IDLE_SOCKETS,
        "attach_p95_s": times[int(len(times) * 0.95)],
        "pinged": pinged,
    }


async def measure(
    profiles: Sequence[Profile], ways: Mapping[str, Door], processes: Mapping[str, machine.Process]
) -> list[report.Row]:
    rows = []
    for profile in profiles:
        for name, door in ways.items():
            await drive(door, WARM_UP)
            await asyncio.sleep(SETTLE_SECONDS)
            async with machine.Meter.running(processes[name.split()[0]]) as meter:
                tally = await drive(door, profile)
            rows.append(report.row(profile, name, tally, meter))
            print(f"  {profile.name} {name}: {tally.tokens} tokens, {len(tally.errors)} errors", flush=True)
    return rows


def run_alone(servers: Backends, core: int, only: Sequence[str]) -> set[str]:
    """Measure and report what stands apart from the profiles, where it is asked for; the names of all of it."""
    alone: dict[str, Callable[[], object]] = {
        "usage": lambda: save("usage", usage.tell(servers)),
        "capacity": lambda: save("capacity", capacity.tell(servers, core, parley_doors)),
        "scope": scope.tell,
        "authenticate": lambda: authentication.tell(servers),
        "limits": lambda: limiting.tell(servers),
        "choosing": choosing.tell,
        "overload": lambda: save("overload", overload.tell()),
        "failover": lambda: save("failover", failover.tell()),
        "nginx": lambda: save("nginx", proxying.tell(core)),
        "quota": lambda: save("quota", quota.tell(servers, core)),
        "refusing": lambda: save("refusing", refusing.tell(servers)),
        "retrieval": lambda: save("retrieval", retrieval.tell(servers)),
    }
    for name, tell_alone in alone.items():
        if name in only or not (only or name in ON_REQUEST):
            tell_alone()
    if parts := [part for part in ingest.PARTS if not only or {"ingest", f"ingest-{part}"} & set(only)]:
        save("ingest", ingest.tell(servers, parts))
    return {*alone, *INGESTION}


def run(servers: Backends, started: list[machine.Process], core: int, only: Sequence[str]) -> None:
    """Start what is measured (`started` tells the caller what to stop), measure it and report."""
    known = run_alone(servers, core, only)
    if only and set(only) <= known:
        return
    profiles = [profile for profile in PROFILES if not only or profile.name in only]
    upstream = machine.start_upstream(HOME)
    started.append(upstream)
    journal = JOURNAL if not only or "journal" in only else ()
    looking = TELEMETRY if not only or "telemetry" in only else ()
    needed = sum(3 * (profile.questions + WARM_UP.questions) for profile in (*profiles, *journal, *looking))
    data = fixture.load(servers, upstream.url, conversations=needed)
    bare = machine.start_web(HOME, "bench.bare:application", core, {"BENCH_UPSTREAM": upstream.url})
    started.append(bare)
    parley = machine.start_web(HOME, "config.asgi:application", core, {})
    started.append(parley)
    at_rest = parley.resident_mib()
    questions = Questions(data.conversations, data.words)
    ways = doors(upstream.port, bare.port, parley.port, questions, data.key)
    processes = {"direct": upstream, "bare": bare, "parley": parley}
    rows = uvloop.run(measure(profiles, ways, processes))
    if journal:
        without = machine.start_web(HOME, "bench.unjournaled:application", core, {})
        started.append(without)
        both = {"parley ws": ways["parley ws"], "unjournaled ws": replace(ways["parley ws"], port=without.port)}
        rows += uvloop.run(measure(journal, both, {**processes, "unjournaled": without}))
    if looking:
        telemetry.tell_scrape()
        rows += look(looking, ways["parley ws"], parley, core, started)
    sockets = {}
    if not only or "idle" in only:
        sockets = {name: uvloop.run(idle(ways[f"{name} ws"], processes[name])) for name in ("bare", "parley")}
    tell(rows, sockets, at_rest)


def look(
    profiles: Sequence[Profile], door: Door, parley: machine.Process, core: int, started: list[machine.Process]
) -> list[report.Row]:
    """The same questions to a process that logs errors alone, to the usual one, and to one that traces."""
    with running_otlp() as receiver:
        silent = machine.start_web(HOME, "config.asgi:application", core, {"LOG_LEVEL": "ERROR"})
        started.append(silent)
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        traced = machine.start_web(HOME, "config.asgi:application", core, endpoint)
        started.append(traced)
        processes = {"silent": silent, "parley": parley, "traced": traced}
        doors = {f"{name} ws": replace(door, port=process.port) for name, process in processes.items()}
        rows = uvloop.run(measure(profiles, doors, processes))
    telemetry.tell_ratios(rows)
    return rows


def tell(rows: Sequence[report.Row], sockets: Mapping[str, Mapping[str, float]], at_rest: float) -> None:
    server = os.environ.get("PARLEY_ASGI_SERVER", "daphne")
    print(
        f"\n{server}, Python {platform.python_version()}, {os.cpu_count()} cores, one of them the web process's alone"
    )
    print(f"{fixture.PASSAGES:,} passages; a web process at rest takes {at_rest:.0f} MiB")
    if rows:
        print(report.table(rows))
    for name, numbers in sockets.items():
        print(
            f"{IDLE_SOCKETS:,} idle sockets, {name}: {numbers['mib_per_1000_sockets']:.1f} MiB, "
            f"95% of them attached within {numbers['attach_p95_s']:.2f} s, "
            f"{numbers['pinged']:.0f} answered a heartbeat"
        )
    save(server, {"server": server, "at_rest_mib": at_rest, "rows": report.plain(rows), "idle": sockets})


def save(name: str, figures: Mapping[str, Any]) -> None:
    directory = ROOT / "var" / "bench"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / time.strftime(f"%Y-%m-%dT%H-%M-%S-{name}.json")
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"The numbers are in {path.relative_to(ROOT)}")


def main(only: Sequence[str]) -> None:
    others = {
        "journal",
        "idle",
        "nginx",
        "scope",
        "authenticate",
        "limits",
        "choosing",
        "failover",
        "quota",
        "refusing",
        *INGESTION,
        "retrieval",
        "overload",
        "telemetry",
        *ON_REQUEST,
    }
    if unknown := set(only) - {*(profile.name for profile in PROFILES), *others}:
        sys.exit(f"There is no benchmark {', '.join(sorted(unknown))}.")
    core = machine.share_cores()
    all_tenants.install()
    servers = Backends()
    started: list[machine.Process] = []
    try:
        run(servers, started, core, only)
    finally:
        for process in started:
            process.stop()
        servers.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
