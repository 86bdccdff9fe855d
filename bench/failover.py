"""What becomes of 64 streams when one of two model servers dies: how soon the other one does all that it can.

Both are the scripted server's model of a GPU (tests/fakes/machine.py), each in a process of its own; one is killed.
Streams follow each other, so there are always 64. Goodput is tokens a second of all answers, in the windows of STEP
seconds after the death, as a part of what one server alone gives its limit of questions.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

import uvloop

from bench import overload
from chatbot.errors import ModelError
from chatbot.inference.asker import Asker
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Endpoint
from chatbot.inference.pool import Pool
from chatbot.inference.wire import ChatRequest, Message

STREAMS: Final = 64
SLOTS: Final = 48  # of each server
BEFORE, AFTER, STEP = 10.0, 12.0, 0.5  # seconds
TARGET_SECONDS, TARGET_PART = 5.0, 0.95


class Run:
    def __init__(self, pool: Pool, ids: list[str]) -> None:
        self.pool, self.ids = pool, ids
        self.tokens: list[float] = []  # when each came
        self.ended: Counter[str] = Counter()
        self.over = False

    async def stream(self, number: int) -> None:
        chance, clock = random.Random(number), asyncio.get_running_loop().time
        question = Message("user", "Tell me more. " * 70)
        while not self.over:
            said = False
            try:
                request = ChatRequest((question,), overload.length_by(chance))
                async with self.pool.chat(self.ids, request, Asker(tenant=f"tenant {number % 4}")) as answer:
                    async for delta in answer:
                        if delta.text:
                            said = True
                            self.tokens.append(clock())
                self.ended["answered"] += 1
            except ModelError as error:
                # What was said stays with its reader, who can have it continued; a question without a word is lost.
                self.ended["interrupted" if said else f"lost: {error.code}"] += 1

    def goodput(self, begin: float, end: float) -> float:
        return sum(begin <= at < end for at in self.tokens) / (end - begin)


async def measure(both: list[Endpoint], kill: Any) -> dict[str, Any]:
    clock = asyncio.get_running_loop().time
    client = Client(allowed=["127.0.0.1"])
    try:
        alone = Run(Pool(client, both[:1]), [both[0].id])
        streams = [asyncio.create_task(alone.stream(number)) for number in range(SLOTS)]
        await asyncio.sleep(BEFORE)
        one = alone.goodput(clock() - BEFORE / 2, clock())
        alone.over = True
        await asyncio.gather(*streams)
        run = Run(Pool(client, both), [endpoint.id for endpoint in both])
        streams = [asyncio.create_task(run.stream(number)) for number in range(STREAMS)]
        await asyncio.sleep(BEFORE)
        died = clock()
        kill()
        await asyncio.sleep(AFTER)
        run.over = True
        await asyncio.gather(*streams)
    finally:
        await client.close()
    steps = [run.goodput(died + n * STEP, died + (n + 1) * STEP) / one for n in range(int(AFTER / STEP))]
    back = next((n * STEP for n in range(len(steps)) if min(steps[n : n + 4]) >= TARGET_PART), None)
    return {
        "one_tokens_a_second": one,
        "before": run.goodput(died - BEFORE / 2, died) / one,
        "after": steps,
        "back_after_seconds": back,
        "ended": dict(run.ended),
    }


def tell() -> dict[str, Any]:
    """Measure and print; gives the figures."""
    with ExitStack() as started:
        machines = [started.enter_context(overload.scripted(slots=SLOTS)) for _ in range(2)]
        both = [replace(endpoint, id=f"server {n}", name=f"server {n}") for n, (endpoint, _) in enumerate(machines)]
        begun = time.monotonic()
        figures = uvloop.run(measure(both, machines[1][1].kill))
    print(f"failover: one server alone {figures['one_tokens_a_second']:.0f} tokens/s, {time.monotonic() - begun:.0f} s")
    print(f"two servers: {figures['before']:.0%} of that; after one died, each {STEP} s:")
    print(" ".join(f"{step:.0%}" for step in figures["after"]))
    print("questions:", ", ".join(f"{count} {how}" for how, count in sorted(figures["ended"].items())))
    back = figures["back_after_seconds"]
    lost = sum(count for how, count in figures["ended"].items() if how.startswith("lost"))
    well = back is not None and back <= TARGET_SECONDS
    print(f"{'reached' if well else 'MISSED':8} back at {TARGET_PART:.0%} after {back} s, target {TARGET_SECONDS} s")
    print(f"{'MISSED' if lost else 'reached':8} questions lost: {lost}, target 0")
    return figures
