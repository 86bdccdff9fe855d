"""One question, from its first byte to the one way in which it ends, as a patient client asks it."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import aiohttp

from apps.loadtest.doors import Asked, Conversation, Frame, Target, TurnedAway
from apps.loadtest.plan import Plan
from apps.loadtest.tally import Tally
from chatbot.events import Cursor, Failed, Reconnect, Token
from chatbot.reader import ProtocolBroken, Seen

_LOST: Final = (aiohttp.ClientError, OSError)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_SOON: Final = 20  # tokens within which a reader leaves, or stops the answer


class Broken(Exception):
    """What no client should meet; the message says what it was."""


class Told(NamedTuple):
    """An answer as its reader has it."""

    turn: str
    text: str


@dataclass
class Asker:
    """Asks, and tells the tally what became of it."""

    plan: Plan
    target: Target
    tally: Tally
    chance: random.Random

    async def ask(self, door: str, place: Conversation, text: str, since: float) -> float:
        """since: when it should have been asked. Gives the seconds to wait before the next question."""
        asked = Asked(text)
        self.tally.asked(door, time.monotonic())
        answers = self._whole if door == "rest" else self._streamed
        try:
            told = await answers(door, place, asked, since)
        except TurnedAway as away:
            tell = self.tally.refused if away.refused else self.tally.failed
            tell(door, time.monotonic(), away.code)
            return away.retry_after
        except ProtocolBroken as broken:
            self.tally.broken(door, time.monotonic(), f"protocol: {broken}")
        except Broken as broken:
            self.tally.broken(door, time.monotonic(), str(broken))
        except (ValueError, KeyError, TypeError):  # orjson's errors are ValueErrors
            self.tally.broken(door, time.monotonic(), "not understood")
        except asyncio.CancelledError:
            self.tally.doors[door].cut += 1
            raise
        else:
            if self._happens(self.plan.verifies):
                await self._compare(door, told)
            return 0.0
        await place.close()  # what is broken is not gone on with
        return 0.0

    # --- As JSON ------------------------------------------------------------------------------------------------------

    async def _whole(self, door: str, place: Conversation, asked: Asked, since: float) -> Told:
        """The name of the question makes it harmless to ask again where the connection is lost."""
        lost, pause = "", _FIRST_PAUSE
        turn: dict[str, Any] | None = None
        try:
            async with asyncio.timeout(self.plan.patience):
                while turn is None:
                    try:
                        turn = await place.whole(asked)
                    except _LOST as error:
                        lost = _named(error)
                        self.tally.doors[door].came_back += 1
                        pause = await _rest(pause)
        except TimeoutError as error:
            raise Broken(lost or "silent") from error
        told = Told(turn["id"], turn["text"])
        self.tally.finished(door, since, time.monotonic(), (), turn["usage"]["completion_tokens"])
        return told

    # --- As a stream --------------------------------------------------------------------------------------------------

    async def _streamed(self, door: str, place: Conversation, asked: Asked, since: float) -> Told:
        leaves_at = self.chance.randint(1, _SOON) if self._happens(self.plan.leaves) else 0
        stops_at = self.chance.randint(1, _SOON) if self._happens(self.plan.stops) else 0
        lost, pause = "", _FIRST_PAUSE
        try:
            async with asyncio.timeout(self.plan.patience) as silence:
                while not asked.ended:
                    asked.connected()
                    try:
                        left = await self._listen(place, asked, silence, leaves_at, stops_at)
                        lost, leaves_at, stops_at = "lost", 0, 0
                    except _LOST as error:
                        await place.close()
                        left, lost = False, _named(error)
                    except TurnedAway as away:
                        if not asked.turn or not away.for_now:
                            raise
                        left, lost = False, away.code
                    if not asked.ended:
                        self.tally.doors[door].came_back += 1
                        pause = pause if left else await _rest(pause)
        except TimeoutError as error:
            raise Broken(lost or "silent") from error
        return self._end(door, asked, since)

    async def _listen(
        self, place: Conversation, asked: Asked, silence: asyncio.Timeout, leaves_at: int, stops_at: int
    ) -> bool:
        """Take what comes by one connection. True where the reader left it on purpose."""
        async with aclosing(place.events(asked)) as events:
            async for frame in events:
                silence.reschedule(asyncio.get_running_loop().time() + self.plan.patience)
                if frame.kind == Reconnect.type:
                    await asyncio.sleep(frame.data["delay"])
                    break
                _take(asked, frame)
                if frame.kind != Token.type:
                    continue
                said = len(asked.texts) if leaves_at or stops_at else 0
                if said and said == stops_at:
                    await place.stop(asked)
                if said and said == leaves_at:
                    break
            else:
                return False
        await place.close()
        return frame.kind == Token.type

    def _end(self, door: str, asked: Asked, since: float) -> Told:
        last = asked.kept[-1]
        if last.kind == Failed.type:
            raise _turned_away(last.data)
        tokens_at = [seen.at for seen in asked.history if seen.kind == Token.type]
        self.tally.finished(door, since, last.at, tokens_at, last.data["usage"]["completion_tokens"])
        if last.data["finish_reason"] == "stopped":
            self.tally.doors[door].stopped += 1
        return Told(asked.turn, asked.transcript)

    # --- And afterwards -----------------------------------------------------------------------------------------------

    async def _compare(self, door: str, told: Told) -> None:
        try:
            async with asyncio.timeout(self.plan.patience):
                stored = await self.target.told("GET", f"/turns/{told.turn}")
        except (*_LOST, TurnedAway):  # TimeoutError is one of them
            return  # that it could not be looked at says nothing of the answer
        self.tally.compared(door, time.monotonic(), told.turn, alike=stored.get("text") == told.text)

    def _happens(self, share: float) -> bool:
        return self.chance.random() < share


def _take(asked: Asked, frame: Frame) -> None:
    if frame.cursor:
        asked.take(Seen(time.monotonic(), Cursor.parse(frame.cursor), frame.kind, frame.data))
    elif frame.kind == Failed.type:  # of what was sent, and no end of a turn
        raise _turned_away(frame.data)


def _turned_away(error: dict[str, Any]) -> TurnedAway:
    return TurnedAway(error["code"], 0, error.get("retry_after") or 0.0)


async def _rest(pause: float) -> float:
    """Wait before coming back, and say how long to wait the next time."""
    await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
    return min(pause * 2, _LONGEST_PAUSE)


def _named(error: Exception) -> str:
    return "refused to connect" if isinstance(error, aiohttp.ClientConnectorError) else "lost"
