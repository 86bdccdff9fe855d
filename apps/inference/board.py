"""What the endpoint board shows: each process tells every second how it sees the servers, and the page adds them up."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from django.db import InterfaceError, OperationalError
from redis.exceptions import RedisError

from apps.edge.bus import ME
from apps.edge.shared_state import redis, was_cancelled
from apps.inference import gateway, standing

EVERY_SECONDS = 1.0
FORGOTTEN_SECONDS = 5  # after which a process that tells nothing more is left out
KNOWN_SECONDS = 1200  # however the clocks of processes differ
_INDEX = "parley:board"  # of the processes, by when they told
_WORST = ("closed", "half-open", "open")

_tellers: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}


@dataclass(frozen=True, slots=True)
class Server:
    """One address of one endpoint, as all processes together see it.

    state: the worst that any of them sees. in_flight, limit, waiting, tokens_per_second: of all together. Seconds:
    reopens_in, and the percentiles, each the worst of a process. error_rate: 0 to 1, of the process with most failures.
    load: what the server tells of itself, ServerLoad's fields, or None.
    """

    endpoint: str
    address: str
    state: str
    reopens_in: float | None
    in_flight: int
    limit: int
    waiting: int
    tokens_per_second: float
    first_token_p50: float | None
    first_token_p95: float | None
    between_p50: float | None
    between_p95: float | None
    error_rate: float
    last_failure: str
    last_failure_ago: float | None
    load: dict[str, float | None] | None


def tell() -> None:
    """Have this event loop tell how this process sees the servers; again, it does nothing."""
    loop = asyncio.get_running_loop()
    task = _tellers.get(loop)
    if task is None or task.done():
        for ended in [other for other in _tellers if other.is_closed()]:
            del _tellers[ended]
        _tellers[loop] = loop.create_task(_tell(), context=contextvars.Context())


async def _tell() -> None:
    while not was_cancelled():
        try:
            pool = await gateway.pool()  # so that it knows of changes also while nobody asks
            pool.attend()
            seen_here = pool.states()
            standing.tell(seen_here)
            states = orjson.dumps([asdict(state) for state in seen_here])
            client = await redis()
            async with client.pipeline(transaction=False) as pipe:
                now = time.time()
                pipe.set(f"{_INDEX}:{ME}", states, ex=FORGOTTEN_SECONDS)
                pipe.zadd(_INDEX, {ME: now})
                pipe.zremrangebyscore(_INDEX, "-inf", now - KNOWN_SECONDS)
                await pipe.execute()
        except (RedisError, OSError, OperationalError, InterfaceError):
            pass  # the page says that it knows nothing
        await asyncio.sleep(EVERY_SECONDS)


async def seen() -> tuple[int, list[Server]]:
    """How many processes tell, and each server as they see it together. Raises ServiceUnavailable's causes: RedisError
    or OSError where Redis does not answer."""
    client = await redis()
    names: Any = await client.zrangebyscore(_INDEX, time.time() - KNOWN_SECONDS, "+inf")
    found = await client.mget([f"{_INDEX}:{name}" for name in names]) if names else []
    told = [orjson.loads(one) for one in found if one]
    by_server: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for states in told:
        for state in states:
            by_server[state["endpoint"], state["address"]].append(state)
    return len(told), [_together(*place, views) for place, views in sorted(by_server.items())]


def _together(endpoint: str, address: str, views: Sequence[dict[str, Any]]) -> Server:
    failed = min(
        (view for view in views if view["last_failure_ago"] is not None),
        key=lambda view: view["last_failure_ago"],
        default=None,
    )
    return Server(
        endpoint=endpoint,
        address=address,
        state=max((view["state"] for view in views), key=_WORST.index),
        reopens_in=_most(views, "reopens_in"),
        in_flight=sum(view["in_flight"] for view in views),
        limit=sum(int(view["limit"]) for view in views),
        waiting=sum(view["waiting"] for view in views),
        tokens_per_second=sum(view["tokens_per_second"] for view in views),
        first_token_p50=_most(views, "first_token_p50"),
        first_token_p95=_most(views, "first_token_p95"),
        between_p50=_most(views, "between_p50"),
        between_p95=_most(views, "between_p95"),
        error_rate=max(view["error_rate"] for view in views),
        last_failure=failed["last_failure"] if failed else "",
        last_failure_ago=failed["last_failure_ago"] if failed else None,
        load=next((view["load"] for view in views if view["load"]), None),
    )


def _most(views: Iterable[dict[str, Any]], name: str) -> float | None:
    return max((view[name] for view in views if view[name] is not None), default=None)
