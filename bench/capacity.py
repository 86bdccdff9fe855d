"""What a question takes of everything that serves it, and what stays: the figures that docs/capacity.md adds up.

CPU of the web process, PostgreSQL and Redis, statements, commands and bytes of a turn; what an open stream or socket
keeps in memory; what a passage takes on the disk; and `manage.py loadtest` against one web process, step by step, until
it is too much. Answers last 8.3 seconds and have 83 tokens of the mock's: as many characters as 280 of a model.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from apps.assistants.models import Assistant
from apps.tenants.models import Tenant
from bench import fixture, machine
from bench.client import Door, Profile, Tally, drive
from local import redis_server
from tests import factories
from tests.environment import HOME, REDIS_PASSWORD, REDIS_PORT, ROOT, Backends

TURNS: Final = Profile("turns", streams=64, interval_us=100_000, tokens=83, rounds=3)
LOGGED: Final = Profile("logged", streams=4, interval_us=1_000, tokens=83, rounds=10)
OPEN: Final = Profile("open", streams=256, interval_us=1_000_000, tokens=22, rounds=1, ramp=14.0)
OPEN_SECONDS: Final = 17.0  # after which all are open, and none has ended
STEPS: Final = (5, 10, 15, 20, 25, 30)  # questions a second
STEP_SECONDS: Final = 8
LIMITS: Final = (("requests", "minute"), ("tokens", "month"), ("turns", "once"))
TABLES: Final = """
    SELECT c.relname, pg_relation_size(c.oid), pg_indexes_size(c.oid),
        CASE WHEN c.reltoastrelid = 0 THEN 0 ELSE pg_total_relation_size(c.reltoastrelid) END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind = 'r'
"""
SENT = re.compile(rb"LOG:  (?:statement|execute [^:]*): ")

Doors = Callable[[fixture.Fixture], Callable[[int], Mapping[str, Door]]]


def tell(servers: Backends, core: int, doors: Doors) -> dict[str, Any]:
    """Measure and print. core: the web process's own. doors: to a web process, by its port."""
    servers.empty_redis()
    upstream = machine.start_upstream(HOME)
    started = [upstream]
    try:
        data = fixture.load(servers, upstream.url, conversations=2_000)
        tenant = Tenant.objects.get()
        at, assistant = doors(data), Assistant.objects.get().slug
        for metric, window in LIMITS:
            factories.make_quota(tenant=tenant, metric=metric, window=window, amount=10**9)
        figures: dict[str, Any] = {"passage": _passage(servers)}
        print(f"\na passage, bytes: {figures['passage']}", flush=True)
        for kind in ("sse", "ws"):
            web = machine.start_web(HOME, "config.asgi:application", core, {})
            started.append(web)
            door = at(web.port)[f"parley {kind}"]
            uvloop.run(drive(door, LOGGED))
            if kind == "sse":
                figures["turn"] = _turn(servers, web, door)
                figures["logged"] = _logged(servers, door)
                _print_turn(figures["turn"], figures["logged"])
            figures[f"open {kind}"] = uvloop.run(_open(servers, web, door))
            print(f"{OPEN.streams} streams, {kind}: {figures[f'open {kind}']}", flush=True)
            web.stop()
        web = machine.start_web(HOME, "config.asgi:application", core, {})
        started.append(web)
        figures["steps"] = _steps(web, data, assistant)
    finally:
        for process in started:
            process.stop()
    return figures


def _passage(servers: Backends) -> dict[str, Any]:
    """Bytes on the disk, as they were loaded."""
    rows = {name: sizes for name, *sizes in servers.superuser.execute(TABLES)}
    told: dict[str, Any] = {}
    for table in ("knowledge_chunk", "knowledge_embedding"):
        heap, indexes, toast = (size / fixture.PASSAGES for size in rows[table])
        told[table] = {"heap": heap, "indexes": indexes, "toast": toast}
    told["database"] = sum(sum(sizes) for sizes in rows.values()) / fixture.PASSAGES
    return told


def _turn(servers: Backends, web: machine.Process, door: Door) -> dict[str, Any]:
    """Of one turn, on the average of many."""
    servers.superuser.execute("VACUUM ANALYZE")
    sizes, place = _sizes(servers), _written(servers)
    kept, spent, asked = _redis(), machine.spent(), web.cpu_seconds()
    tally = uvloop.run(drive(door, TURNS))
    if tally.errors:
        sys.exit(f"{len(tally.errors)} questions failed: {tally.errors[0]}")
    count = TURNS.questions
    after, cpu = _redis(), machine.spent()
    grown = {table: (size - sizes.get(table, 0)) / count for table, size in _sizes(servers).items()}
    commands = {
        name: (calls - kept["calls"].get(name, 0)) / count
        for name, calls in after["calls"].items()
        if name not in ("info", "config|get")
    }
    return {
        "web_ms": (web.cpu_seconds() - asked) * 1000 / count,
        "postgres_ms": (cpu["postgres"] - spent["postgres"]) * 1000 / count,
        "redis_ms": (cpu["redis-server"] - spent["redis-server"]) * 1000 / count,
        "tables": {table: size for table, size in sorted(grown.items()) if size},
        "wal_bytes": (_written(servers) - place) / count,
        "redis_bytes": (after["memory"] - kept["memory"]) / count,
        "redis_commands": {name: round(calls, 2) for name, calls in sorted(commands.items()) if calls >= 0.05},
    }


def _logged(servers: Backends, door: Door) -> dict[str, float]:
    """Statements and transactions of a turn, from PostgreSQL's own log and counters."""
    counted = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    servers.superuser.execute("ALTER ROLE parley_app SET log_statement = 'all'")
    servers.superuser.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'parley_app'")
    uvloop.run(drive(door, LOGGED))
    time.sleep(1.5)
    log = HOME / "postgres.log"
    begin, [before] = log.stat().st_size, servers.superuser.execute(counted).fetchone() or [0]
    uvloop.run(drive(door, LOGGED))
    time.sleep(1.5)
    [after] = servers.superuser.execute(counted).fetchone() or [0]
    with log.open("rb") as file:
        file.seek(begin)
        statements = len(SENT.findall(file.read()))
    servers.superuser.execute("ALTER ROLE parley_app RESET log_statement")
    servers.superuser.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'parley_app'")
    uvloop.run(drive(door, LOGGED))
    return {"statements": statements / LOGGED.questions, "transactions": (after - before) / LOGGED.questions}


async def _open(servers: Backends, web: machine.Process, door: Door) -> dict[str, float]:
    """What streams keep while they are open and say little."""
    before, memory = web.resident_mib(), _redis()["memory"]
    asking = asyncio.create_task(drive(door, OPEN))
    await asyncio.sleep(OPEN_SECONDS)
    [sessions] = servers.superuser.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'parley%%'"
    ).fetchone() or [0]
    told = {
        "kib": (web.resident_mib() - before) * 1024 / OPEN.streams,
        "redis_bytes": (_redis()["memory"] - memory) / OPEN.streams,
        "postgres_sessions": float(sessions),
        "redis_clients": float(_redis()["clients"]),
    }
    tally: Tally = await asking
    if tally.errors:
        print(f"{len(tally.errors)} streams failed, the first with {tally.errors[0]!r}")
    return told


def _steps(web: machine.Process, data: fixture.Fixture, assistant: str) -> list[dict[str, Any]]:
    """More and more questions a second, in an open loop, each answered in 83 tokens within 2.2 seconds."""
    questions = HOME / "questions.txt"
    pace = f"every 27000 us, {TURNS.tokens} tokens"
    questions.write_text("\n".join(f"{' '.join(data.words[n : n + 5])}? {pace}" for n in range(400, 900, 5)))
    told = []
    for rate in STEPS:
        spent, cpu = machine.spent(), web.cpu_seconds()
        figures = _loadtest(web, data.key, assistant, questions, rate)
        after, whole = machine.spent(), figures["all"]
        each = 1000 / max(whole["finished"], 1)
        told.append(
            {
                "rate": rate,
                "finished_a_second": whole["finished"] / STEP_SECONDS,
                "refused": sum(whole["refused"].values()),
                "wrong": sum(sum(whole[kind].values()) for kind in ("failed", "broken")) + len(whole["differing"]),
                "first_ms": figures["doors"]["sse"]["first_ms"],
                "gap_ms": figures["doors"]["sse"]["gap_ms"],
                "web_ms": (web.cpu_seconds() - cpu) * each,
                "postgres_ms": (after["postgres"] - spent["postgres"]) * each,
                "redis_ms": (after["redis-server"] - spent["redis-server"]) * each,
                "generator_cpu": figures["generator_cpu"],
                "generator_late_ms": figures["generator"]["late_ms"]["p99"],
            }
        )
        _print_step(told[-1])
    return told


def _loadtest(web: machine.Process, key: str, assistant: str, questions: Path, rate: int) -> dict[str, Any]:
    file = HOME / "loadtest.json"
    command = [
        *(sys.executable, "manage.py", "loadtest", web.url, "--assistant", assistant, "--turns", "1"),
        *("--rate", f"{rate}:100ms", f"{rate}:{STEP_SECONDS}s", "--mix", "sse=6,ws=3,rest=1"),
        *("--questions", str(questions), "--json", str(file), "--html", str(HOME / f"step-{rate}.html")),
    ]
    environment = {"PATH": os.environ["PATH"], "PARLEY_KEY": key}
    subprocess.run(command, cwd=ROOT, env=environment, check=False, stdout=subprocess.DEVNULL)
    told: dict[str, Any] = orjson.loads(file.read_bytes())
    return told


def _sizes(servers: Backends) -> dict[str, int]:
    return {name: sum(sizes) for name, *sizes in servers.superuser.execute(TABLES)}


def _written(servers: Backends) -> int:
    [place] = servers.superuser.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone() or [0]
    return int(place)


def _redis() -> dict[str, Any]:
    with redis_server.client(REDIS_PORT, REDIS_PASSWORD) as client:
        told: Any = client.info("everything")
    calls = {name.removeprefix("cmdstat_"): one["calls"] for name, one in told.items() if name.startswith("cmdstat_")}
    return {"memory": told["used_memory"], "clients": told["connected_clients"], "calls": calls}


def _print_turn(turn: Mapping[str, Any], logged: Mapping[str, float]) -> None:
    print(
        f"\na turn of {TURNS.tokens} tokens, ms of CPU: web {turn['web_ms']:.1f}, PostgreSQL {turn['postgres_ms']:.1f},"
        f" Redis {turn['redis_ms']:.2f}"
    )
    print(f"  {logged['statements']:.1f} statements in {logged['transactions']:.1f} transactions")
    print(f"  bytes in PostgreSQL {sum(turn['tables'].values()):,.0f}, in its log {turn['wal_bytes']:,.0f}:")
    for table, size in turn["tables"].items():
        print(f"    {table:34} {size:8,.0f}")
    print(f"  bytes in Redis for ten minutes {turn['redis_bytes']:,.0f}; commands {turn['redis_commands']}", flush=True)


def _print_step(step: Mapping[str, Any]) -> None:
    first, gap = step["first_ms"] or {}, step["gap_ms"] or {}
    print(
        f"  {step['rate']:3} a second: {step['finished_a_second']:5.1f} finished, {step['refused']} refused,"
        f" {step['wrong']} wrong; first token {first.get('p50', 0):.0f} / {first.get('p99', 0):.0f} ms, between tokens"
        f" {gap.get('p50', 0):.0f} / {gap.get('p99', 0):.0f}; ms of CPU: web {step['web_ms']:.1f}, PostgreSQL"
        f" {step['postgres_ms']:.1f}, Redis {step['redis_ms']:.2f}; generator {step['generator_cpu']:.0%} of a core,"
        f" {step['generator_late_ms']:.0f} ms late",
        flush=True,
    )
