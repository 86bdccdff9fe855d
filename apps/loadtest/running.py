"""The users of a load test: they come as the plan says, hold conversations, and leave."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from apps.loadtest.asking import Asker
from apps.loadtest.doors import Conversation, Socket, Target
from apps.loadtest.plan import Plan
from apps.loadtest.tally import Tally, percentiles

TICK = 0.05
TELLS_EVERY = 5.0


@dataclass(eq=False)
class User:
    """ends: set where no further question shall be asked."""

    name: str
    door: str
    asker: Asker
    questions: Sequence[str]
    ends: asyncio.Event = field(default_factory=asyncio.Event)

    async def converse(self, since: float) -> None:
        """One conversation, of as many questions as the plan says, unless the end comes before."""
        place = (Socket if self.door == "ws" else Conversation)(self.asker.target, self.name)
        try:
            for _ in range(self.asker.plan.turns):
                wait = await self.asker.ask(self.door, place, self.asker.chance.choice(self.questions), since)
                if await self._thinks(wait):
                    return
                since = time.monotonic()
        finally:
            await place.close()

    async def stay(self) -> None:
        while not self.ends.is_set():
            await self.converse(time.monotonic())

    async def _thinks(self, least: float) -> bool:
        """Half as long to one and a half times as long as the plan says. True where the end came meanwhile."""
        seconds = max(self.asker.plan.think * self.asker.chance.uniform(0.5, 1.5), least)
        try:
            async with asyncio.timeout(seconds):
                return await self.ends.wait()
        except TimeoutError:
            return False


@dataclass(eq=False)
class Crowd:
    """most: users there may be at the same time, where they come whoever still waits."""

    plan: Plan
    target: Target
    questions: Sequence[str]
    most: int
    say: Callable[[str], None]
    interrupted: asyncio.Event
    tally: Tally = field(default_factory=lambda: Tally(time.monotonic()))
    _run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    _here: dict[User, asyncio.Task[None]] = field(default_factory=dict)
    _came: int = 0
    _mistake: BaseException | None = None

    async def run(self) -> float:
        """Gives the seconds in which questions were asked."""
        self.tally.begun = time.monotonic()
        watching = [asyncio.create_task(self._watch()), asyncio.create_task(self._tell())]
        self._doors = self.plan.doors()
        self._asker = Asker(self.plan, self.target, self.tally, random.Random())  # noqa: S311 - no secret
        coming = asyncio.create_task(self._come() if self.plan.opens else self._keep())
        stopping = asyncio.create_task(self.interrupted.wait())
        await asyncio.wait({coming, stopping}, return_when=asyncio.FIRST_COMPLETED)
        seconds = self._now()
        for user in self._here:
            user.ends.set()
        leaving = asyncio.create_task(self._empty())
        await asyncio.wait({leaving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await self._dismiss([coming, stopping, leaving, *watching, *self._here.values()])
        return seconds

    async def _empty(self) -> None:
        """Until all have their answers, or their patience would be at its end."""
        if self._here:
            await asyncio.wait(self._here.values(), timeout=self.plan.patience + 1)

    async def _dismiss(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Whatever is still going on ends here; a mistake of our own is told."""
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for mistake in (self._mistake, *ended):
            if isinstance(mistake, Exception):
                raise mistake

    def _now(self) -> float:
        return time.monotonic() - self.tally.begun

    # --- A closed loop: so many users, who each wait for their answer -------------------------------------------------

    async def _keep(self) -> None:
        staying: list[User] = []
        while (now := self._now()) < self.plan.seconds:
            wanted = round(self.plan.level(now))
            while len(staying) < wanted:
                staying.append(self._enter(User.stay))
            for user in staying[wanted:]:
                user.ends.set()
            del staying[wanted:]
            await asyncio.sleep(TICK)

    # --- An open one: so many conversations a second, whoever still waits ---------------------------------------------

    async def _come(self) -> None:
        for moment in self.plan.arrivals():
            if (early := moment - self._now()) > 0:
                await asyncio.sleep(early)
            if len(self._here) >= self.most:
                self.tally.unbegun += 1
                continue
            since = self.tally.begun + moment
            self._enter(partial(User.converse, since=since))
        await asyncio.sleep(max(self.plan.seconds - self._now(), 0.0))

    def _enter(self, lives: Callable[[User], Coroutine[Any, Any, None]]) -> User:
        self._came += 1
        user = User(f"load-{self._run}-{self._came}", next(self._doors), self._asker, self.questions)
        task = asyncio.create_task(lives(user))
        self._here[user] = task
        task.add_done_callback(lambda _: self._left(user))
        return user

    def _left(self, user: User) -> None:
        task = self._here.pop(user)
        if not task.cancelled() and (mistake := task.exception()):
            self._mistake = mistake
            self.interrupted.set()

    # --- What is told meanwhile ---------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """How late the generator itself is, and how many users there are."""
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            now = time.monotonic()
            self.tally.late_ms.append((now - due) * 1000)
            second = self.tally.at(now)
            second.users = max(second.users, len(self._here))

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELLS_EVERY)
            self.say(_line(self.tally, self._now(), len(self._here)))


def _line(tally: Tally, now: float, users: int) -> str:
    ago = [tally.seconds[second] for second in range(int(now - TELLS_EVERY), int(now)) if second in tally.seconds]
    first = percentiles([value for second in ago for value in second.first_ms])
    return (
        f"{now:5.0f} s  {users:5} users  {sum(second.asked for second in ago) / TELLS_EVERY:7.1f} asked a second  "
        f"{sum(second.refused for second in ago)} refused  {sum(second.wrong for second in ago)} failed or broken"
        + (f"  first token {first['p50']:.0f} / {first['p99']:.0f} ms" if first else "")
    )
