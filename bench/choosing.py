"""What it costs to choose a server, to pass its bulkhead and to come back: in process, no socket, no Django."""

from __future__ import annotations

import asyncio
import random
import statistics
import time

from chatbot.inference.admission import Lane
from chatbot.inference.asker import Asker
from chatbot.inference.desk import Desk
from chatbot.inference.endpoint import Endpoint

ROUNDS = 20_000
TARGET_US = 50.0
FLOOD = 500  # questions of other tenants that wait


def endpoints(count: int, limit: int) -> list[Endpoint]:
    return [
        Endpoint(f"e{number}", "chat", "Bench", f"http://127.0.0.{number}:80", "m", 8192, limit=limit)
        for number in range(1, count + 1)
    ]


async def measure(servers: int, tenants: int, *, waiting: int = 0) -> list[float]:
    """Microseconds for each question: chosen, admitted, settled. With `waiting` the servers are full, and each that
    comes back hands its slot on."""
    desk = Desk(time.monotonic, random.random)
    desk.fleet.replace(endpoints(servers, 2 if waiting else 1000))
    lane = Lane(tuple(desk.fleet.sites))
    askers = [Asker(f"tenant {number}") for number in range(tenants)]
    until = asyncio.get_running_loop().time() + 3600
    if not waiting:
        times = []
        for number in range(ROUNDS):
            started = time.perf_counter()
            ticket, server = await desk.place(askers[number % tenants], lane, until)
            desk.settle(ticket, server, desk.clock(), None, answered=True)
            times.append(time.perf_counter() - started)
        return [1e6 * seconds for seconds in times]
    tickets = [
        desk.admission.join(askers[number % tenants].tenant, 1.0, askers[0].rank, lane)
        for number in range(waiting + 2 * servers)
    ]
    times = []
    for number in range(ROUNDS // 10):
        ticket = next(ticket for ticket in tickets if ticket.server)
        tickets.remove(ticket)
        began = desk.clock() - 0.01  # what it had been at work for
        started = time.perf_counter()
        assert ticket.server is not None
        desk.settle(ticket, ticket.server, began, None, answered=True)
        times.append(time.perf_counter() - started)
        asker = askers[number % tenants]
        tickets.append(desk.admission.join(asker.tenant, 1.0, asker.rank, lane))
    return [1e6 * seconds for seconds in times]


def tell() -> None:
    print("microseconds for a question".ljust(58), "p50".rjust(7), "p99".rjust(7))
    rows = {
        "2 servers, all have room": (2, 4, 0),
        "8 servers, all have room": (8, 4, 0),
        "32 servers, all have room": (32, 4, 0),
        f"2 servers, full, {FLOOD} of 4 tenants wait": (2, 4, FLOOD),
        f"8 servers, full, {FLOOD} of 50 tenants wait": (8, 50, FLOOD),
    }
    for name, (servers, tenants, waiting) in rows.items():
        times = sorted(asyncio.run(measure(servers, tenants, waiting=waiting)))
        p50, p99 = statistics.median(times), times[int(0.99 * len(times))]
        verdict = "" if p50 < TARGET_US else f"  above {TARGET_US:.0f}"
        print(name.ljust(58), f"{p50:7.1f} {p99:7.1f}{verdict}", flush=True)
