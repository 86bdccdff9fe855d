"""A line before each endpoint for what nobody waits for, of all processes together: the last slots are left to
questions, which stand in none.

The first in line are at the endpoint, as many as it has slots for them; the others come after them in the order in
which they came. Who is not heard of for LIVES seconds is out of it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog
from redis.exceptions import RedisError

from apps.edge.shared_state import Script, redis, was_cancelled
from apps.inference import gateway
from apps.inference.models import Endpoint

log = structlog.get_logger(__name__)

LEFT: Final = 4  # one slot in so many is left to questions, and always one where there are two
LIVES: Final = 15.0  # seconds
HEARD_EVERY: Final = 5.0
# Who comes next is to be at the endpoint as soon as it idles; who comes later asks less often.
NEXT_ASKS, LAST_ASKS = 0.01, 0.25  # seconds

# By Redis' clock alone: those of the processes differ. Gives how many go before one who may go next; 0 to who may go.
_STAND = Script("""
local line, heard, me, slots, lives = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', heard, '-inf', now)) do
    redis.call('ZREM', line, gone)
    redis.call('ZREM', heard, gone)
end
redis.call('ZADD', heard, now + lives, me)
redis.call('ZADD', line, 'NX', now, me)
redis.call('EXPIRE', heard, math.ceil(2 * lives))
redis.call('EXPIRE', line, math.ceil(2 * lives))
return math.max(0, redis.call('ZRANK', line, me) + 1 - slots)
""")


def slots(room: int) -> int:
    """How many stand at an endpoint that takes `room` questions at once."""
    return max(1, room - max(1, room // LEFT))


@asynccontextmanager
async def place(endpoint: Endpoint) -> AsyncIterator[None]:
    """Entering waits for a place at the endpoint. Without Redis there is no line to stand in."""
    standing = _Standing(str(endpoint.pk))
    try:
        while before := await standing.before():
            await asyncio.sleep(min(NEXT_ASKS * before, LAST_ASKS))
            if was_cancelled():
                raise asyncio.CancelledError
        hearing = asyncio.create_task(standing.be_heard())
        try:
            yield
        finally:
            hearing.cancel()
            await asyncio.wait([hearing])  # else it might stand in line once more, behind our back
    finally:
        await standing.leave()


class _Standing:
    def __init__(self, endpoint_id: str) -> None:
        self._endpoint_id = endpoint_id
        self._keys = [f"parley:line:{{{endpoint_id}}}:{name}" for name in ("line", "heard")]
        self._me = uuid.uuid4().hex

    async def before(self) -> int:
        """Stand in line, and be heard of; how many go before it may go, too."""
        room = (await gateway.pool()).room(self._endpoint_id)
        try:
            return int(await _STAND(await redis(), *self._keys, self._me, slots(room), LIVES, keys=len(self._keys)))
        except (RedisError, OSError) as error:
            log.warning("line.unavailable", error=type(error).__name__)
            return 0

    async def be_heard(self) -> None:
        while not was_cancelled():
            await asyncio.sleep(HEARD_EVERY)
            await self.before()

    async def leave(self) -> None:
        with suppress(RedisError, OSError):  # then it is soon out of it by itself
            async with (await redis()).pipeline() as leaving:
                for key in self._keys:
                    leaving.zrem(key, self._me)
                await leaving.execute()
