"""What the pool makes of more questions than a GPU can answer: goodput, refusals, and what a flood does to others.

The GPU is the scripted server's model of one (tests/fakes/machine.py), in a process of its own, or a real one:
bench/gpu.md. Questions come at their times whether or not earlier ones are answered, as users do. All ratios are
between phases of one run.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvloop

from bench.report import percentile
from chatbot.errors import ModelBusy, ModelError
from chatbot.inference.asker import Asker
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Endpoint
from chatbot.inference.pool import Pool
from chatbot.inference.wire import ChatRequest, Message
from tests.environment import ROOT

SLOTS = 128  # an endpoint's limit by default
# A prompt of a thousand tokens is read in a fifth of a second and answered in about one, or in two when all are busy.
MACHINE = {"slots": SLOTS, "queue": 2 * SLOTS, "tokens_per_second": 50.0, "prefill": 5_000.0, "sharing": 0.005}
# Answers of all lengths: of one length they would end all at once, and whoever comes would wait for that.
PROMPT_CHARACTERS, ANSWER_TOKENS, SPREAD = 4_000, 40, 30
SECONDS = 20.0  # of each phase
WARM = 5.0  # at its beginning, which count for nothing: the queue fills
LOADS = (1.0, 2.0, 4.0)
CALM, USUAL, FLOOD = 0.25, 0.5, 10.0  # of capacity: two tenants, and how much more one of them asks in a flood
TARGETS = {"goodput": 0.90, "refusal_p99_ms": 50.0, "first_token": 1.20}


@dataclass(frozen=True, slots=True)
class Stream:
    """Questions of one tenant: so many a second."""

    tenant: str
    rate: float


@dataclass(slots=True)
class Tally:
    """Of one tenant in one phase: seconds to the first token and to a refusal, and the tokens of whole answers, which
    alone are goodput. Only what began (or, for tokens, ended) after the warm-up counts."""

    first: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Phase:
    begins: float
    ends: float
    tallies: dict[str, Tally]

    def counts(self, at: float) -> bool:
        return self.begins <= at < self.ends

    @property
    def goodput(self) -> float:
        """Tokens of whole answers a second, of all tenants together."""
        return sum(tally.tokens for tally in self.tallies.values()) / (self.ends - self.begins)


async def ask(pool: Pool, endpoint: Endpoint, tenant: str, phase: Phase, length: int) -> None:
    tally, clock = phase.tallies[tenant], asyncio.get_running_loop().time
    question = Message("user", "Tell me more. " * (PROMPT_CHARACTERS // 14))
    begun, tokens = clock(), 0
    try:
        async with pool.chat([endpoint.id], ChatRequest((question,), length), Asker(tenant=tenant)) as answer:
            first = clock() - begun
            async for delta in answer:
                tokens += bool(delta.text)
    except ModelBusy:
        if phase.counts(begun):
            tally.refused.append(clock() - begun)
        return
    except ModelError as error:
        if phase.counts(begun):
            tally.failed.append(error.code)
        return
    if phase.counts(begun):
        tally.first.append(first)
    if phase.counts(clock()):
        tally.tokens += tokens


async def play(pool: Pool, endpoint: Endpoint, streams: Sequence[Stream], *, seconds: float, warm: float) -> Phase:
    """Every tenant's questions come at random moments (a Poisson process), the same in each run."""
    clock = asyncio.get_running_loop().time
    start = clock()
    phase = Phase(start + warm, start + seconds, {stream.tenant: Tally() for stream in streams})

    async def come(stream: Stream, group: asyncio.TaskGroup) -> None:
        chance, at = random.Random(stream.tenant), start
        while (at := at + chance.expovariate(stream.rate)) < phase.ends:
            await asyncio.sleep(at - clock())
            group.create_task(ask(pool, endpoint, stream.tenant, phase, length_by(chance)))

    async with asyncio.TaskGroup() as group:
        for stream in streams:
            group.create_task(come(stream, group))
    return phase


async def peak(pool: Pool, endpoint: Endpoint, *, seconds: float, warm: float) -> Phase:
    """As many questions at once as the server takes, each followed by the next: the most that it can do."""
    clock = asyncio.get_running_loop().time
    start = clock()
    phase = Phase(start + warm, start + seconds, {"peak": Tally()})

    async def again(chance: random.Random) -> None:
        while clock() < phase.ends:
            await ask(pool, endpoint, "peak", phase, length_by(chance))

    await asyncio.gather(*(again(random.Random(n)) for n in range(endpoint.limit)))
    return phase


def length_by(chance: random.Random) -> int:
    return chance.randint(ANSWER_TOKENS - SPREAD, ANSWER_TOKENS + SPREAD)


async def measure(endpoint: Endpoint, *, seconds: float = SECONDS, warm: float = WARM) -> dict[str, Any]:
    """The figures of all phases."""

    async def phase(*streams: Stream) -> Phase:
        # Each with a pool of its own, that has learnt nothing yet.
        client = Client(allowed=[endpoint.url("").split("/")[2].partition(":")[0]])
        try:
            pool = Pool(client, [endpoint])
            if not streams:
                return await peak(pool, endpoint, seconds=seconds, warm=warm)
            return await play(pool, endpoint, streams, seconds=seconds, warm=warm)
        finally:
            await client.close()

    best = await phase()
    capacity = best.goodput / ANSWER_TOKENS  # questions a second
    loads = {}
    for load in LOADS:
        played = await phase(Stream("everybody", load * capacity))
        tally = played.tallies["everybody"]
        loads[f"{load:g}x"] = {
            "goodput": played.goodput / best.goodput,
            "answered": len(tally.first),
            "refused": len(tally.refused),
            "failed": len(tally.failed),
            "first_p95_ms": 1000 * percentile(tally.first, 95),
            "refusal_p50_ms": 1000 * percentile(tally.refused, 50),
            "refusal_p99_ms": 1000 * percentile(tally.refused, 99),
        }
    usual = await phase(Stream("calm", CALM * capacity), Stream("other", USUAL * capacity))
    flood = await phase(Stream("calm", CALM * capacity), Stream("other", FLOOD * USUAL * capacity))
    before, during = (percentile(played.tallies["calm"].first, 95) for played in (usual, flood))
    return {
        "peak_tokens_a_second": best.goodput,
        "loads": loads,
        "calm_first_p95_ms": {"usual": 1000 * before, "flood": 1000 * during},
        "calm_first_p95_ratio": during / before,
        "calm_refused": len(flood.tallies["calm"].refused),
        "flooder_refused": len(flood.tallies["other"].refused),
    }


@contextmanager
def machine() -> Iterator[Endpoint]:
    """The scripted GPU, or the server that BENCH_GPU_URL names."""
    if url := os.environ.get("BENCH_GPU_URL"):
        yield endpoint_at(
            url,
            model=os.environ["BENCH_GPU_MODEL"],
            limit=int(os.environ.get("BENCH_GPU_LIMIT", SLOTS)),
            api_key=os.environ.get("BENCH_GPU_KEY", ""),
        )
        return
    with scripted() as (endpoint, _):
        yield endpoint


@contextmanager
def scripted(slots: int = SLOTS) -> Iterator[tuple[Endpoint, subprocess.Popen[str]]]:
    """A model of a GPU in a process of its own."""
    command = [sys.executable, "-m", "tests.fakes.serving", "--dialect", "vllm"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            httpx.post(f"{url}/machine", json={**MACHINE, "slots": slots}).raise_for_status()
            words = [f"word{n} " for n in range(ANSWER_TOKENS + SPREAD)]
            httpx.post(f"{url}/script", json=[{"tokens": words, "always": True}]).raise_for_status()
            yield endpoint_at(url, limit=slots), process
        finally:
            process.terminate()


def endpoint_at(url: str, *, model: str = "fake", limit: int = SLOTS, api_key: str = "") -> Endpoint:
    return Endpoint(
        id="bench",
        kind="chat",
        name="bench",
        base_url=url,
        model=model,
        context_length=8192,
        protocol="vllm",
        api_key=api_key,
        limit=limit,
    )


def tell() -> dict[str, Any]:
    """Measure and print; gives the figures."""
    with machine() as endpoint:
        begun = time.monotonic()
        figures = uvloop.run(measure(endpoint))
    print(f"overload: {figures['peak_tokens_a_second']:.0f} tokens/s at its peak, {time.monotonic() - begun:.0f} s")
    names = ("goodput", "answered", "refused", "failed", "first_p95_ms", "refusal_p50_ms", "refusal_p99_ms")
    print("load".ljust(6), *(re.sub("_", " ", name).rjust(15) for name in names))
    for load, row in figures["loads"].items():
        print(load.ljust(6), f"{row['goodput']:15.0%}", *(f"{row[name]:15.0f}" for name in names[1:]))
    print(
        f"first token of a calm tenant, p95: {figures['calm_first_p95_ms']['usual']:.0f} ms, while another floods "
        f"{figures['calm_first_p95_ms']['flood']:.0f} ms ({figures['calm_first_p95_ratio']:.2f} times); refused: "
        f"{figures['calm_refused']} of its questions, {figures['flooder_refused']} of the flooder's"
    )
    worst = figures["loads"]["4x"]
    for name, value, target, well in (
        ("goodput at 4x", worst["goodput"], TARGETS["goodput"], worst["goodput"] >= TARGETS["goodput"]),
        (
            "a refusal at 4x, p99 ms",
            worst["refusal_p99_ms"],
            TARGETS["refusal_p99_ms"],
            worst["refusal_p99_ms"] <= TARGETS["refusal_p99_ms"],
        ),
        (
            "first token beside a flood",
            figures["calm_first_p95_ratio"],
            TARGETS["first_token"],
            figures["calm_first_p95_ratio"] <= TARGETS["first_token"],
        ),
    ):
        print(f"{'reached' if well else 'MISSED':8} {name}: {value:.2f}, target {target:.2f}")
    return figures
