"""Rented servers that sleep are started for a question, once for all that wait, and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from chatbot.errors import ModelError, ModelTimeout, ModelUnavailable
from chatbot.inference.endpoint import Endpoint

POLL: Final = 3.0  # seconds between two looks at an endpoint that starts
TELL_EVERY: Final = 4.0  # seconds after which those who wait hear that it goes on
RETRY_AFTER: Final = 60.0  # seconds until asking again may succeed
RUNNING: Final = "running"
FAILED: Final = ("failed", "updateFailed")
TOO_LATE: Final = "The Inference Endpoint is starting, and was not there in time."


@dataclass(frozen=True, slots=True)
class Dedicated:
    """A dedicated endpoint. full_name: namespace/name. state: as Hugging Face names it. url: "" where it tells none, as
    of one that is paused; the address stays the same when it is started again."""

    full_name: str
    model: str
    task: str
    state: str
    url: str


@dataclass(slots=True, eq=False)
class _Waking:
    """state: as Hugging Face names it, "asked" until it has told one."""

    state: str = "asked"
    waiting: int = 0
    task: asyncio.Task[None] = field(init=False)


class Waker:
    """Of one process. Sync callers wait on loops of their own, and each loop starts what it waits for itself: one that
    starts already is not started again."""

    def __init__(self) -> None:
        self._wakings: dict[str, _Waking] = {}

    async def wait(
        self, endpoint: Endpoint, until: float, tell: Callable[[str], None], enough: Callable[[], bool]
    ) -> bool:
        """True when it runs, False when the wait is `enough` before that, as asked every TELL_EVERY seconds. tell:
        hears its state at once and as often. Neither may raise or block.

        Raises ModelUnavailable where that is not by `until`, in the loop's time, and the ModelError that says why it
        cannot be started.
        """
        clock = asyncio.get_running_loop().time
        waking = self._waking(endpoint)
        waking.waiting += 1
        try:
            while not waking.task.done():
                if (left := until - clock()) <= 0:
                    raise ModelUnavailable(TOO_LATE, retry_after=RETRY_AFTER)
                tell(waking.state)
                # asyncio.wait() leaves the task alone when the one who waits is cancelled.
                await asyncio.wait([waking.task], timeout=min(left, TELL_EVERY))
                if not waking.task.done() and enough():
                    return False
            waking.task.result()
            return True
        finally:
            waking.waiting -= 1
            if not waking.waiting and self._wakings.get(endpoint.id) is waking:
                del self._wakings[endpoint.id]
                waking.task.cancel()  # it starts all the same, and nobody has to watch

    def _waking(self, endpoint: Endpoint) -> _Waking:
        loop = asyncio.get_running_loop()
        waking = self._wakings.get(endpoint.id)
        if waking is None or waking.task.done() or waking.task.get_loop() is not loop:
            waking = self._wakings[endpoint.id] = _Waking()
            waking.task = loop.create_task(_wake(endpoint, waking))
            waking.task.add_done_callback(_heard)
        return waking


def _heard(task: asyncio.Task[None]) -> None:
    """Nobody may be left to hear how it failed."""
    if not task.cancelled():
        task.exception()


async def _wake(endpoint: Endpoint, waking: _Waking) -> None:
    from chatbot.inference import hub  # noqa: PLC0415 - huggingface_hub is for those to load who use it

    name = ""
    while True:
        try:
            found = await (hub.look(endpoint, name) if name else hub.start(endpoint))
        except (ModelTimeout, ModelUnavailable):
            pass  # that is the Hub and not the endpoint: it is asked again
        except ModelError as error:
            raise ModelUnavailable(error.message, retry_after=RETRY_AFTER) from error
        else:
            name, waking.state = found.full_name, found.state
            if found.state == RUNNING:
                return
            if found.state in FAILED:
                said = f"The Inference Endpoint does not start: Hugging Face says “{found.state}”."
                raise ModelUnavailable(said, retry_after=RETRY_AFTER)
        await asyncio.sleep(POLL)
