"""A caller's crowd stands behind itself, and nobody else does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from apps.access.limiting import limited
from apps.edge import turnstile
from apps.edge.turnstile import ABREAST, passing, step_aside


class Work:
    """What callers have done here: how many are at it, and each may go on when it is told."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.go_on = asyncio.Event()

    async def do(self, caller: str, *, aside: bool = False) -> None:
        async with passing(caller):
            self.inside.append(caller)
            if aside:
                step_aside()
            await self.go_on.wait()
            self.inside.remove(caller)


async def begun(*work: asyncio.Task[None]) -> None:
    for _ in range(3 * len(work)):
        await asyncio.sleep(0)


def crowd(work: Work, count: int, **how: bool) -> list[asyncio.Task[None]]:
    return [asyncio.ensure_future(work.do("crowd", **how)) for _ in range(count)]


async def test_few_of_a_callers_requests_are_at_work_and_another_callers_at_once() -> None:
    work = Work()
    tasks = crowd(work, 40)
    tasks.append(asyncio.ensure_future(work.do("calm")))
    await begun(*tasks)
    assert work.inside == ["crowd"] * ABREAST + ["calm"]
    work.go_on.set()
    await asyncio.gather(*tasks)  # and all have their turn


async def test_whoever_waits_for_others_lets_the_next_one_in() -> None:
    work = Work()
    tasks = crowd(work, 40, aside=True)
    await begun(*tasks)
    assert len(work.inside) == 40
    work.go_on.set()
    await asyncio.gather(*tasks)


async def test_stepping_aside_from_a_task_of_its_own_counts_once() -> None:
    work = Work()

    async def in_a_task() -> None:
        async with passing("crowd"):
            await asyncio.shield(asyncio.ensure_future(twice()))
            await work.go_on.wait()

    async def twice() -> None:
        step_aside()
        step_aside()

    first = asyncio.ensure_future(in_a_task())
    await begun(first)
    tasks = crowd(work, 40)
    await begun(*tasks)
    assert len(work.inside) == ABREAST
    work.go_on.set()
    await asyncio.gather(first, *tasks)


async def test_whoever_leaves_while_waiting_takes_no_place() -> None:
    work = Work()
    tasks = crowd(work, 2 * ABREAST)
    await begun(*tasks)
    for task in tasks[ABREAST:] + tasks[:1]:
        task.cancel()
    await asyncio.gather(*tasks[ABREAST:], return_exceptions=True)
    work.inside.pop()
    tasks += crowd(work, 2 * ABREAST)
    await begun(*tasks)
    assert len(work.inside) == ABREAST
    work.go_on.set()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    ("method", "path", "abreast"),
    [
        ("POST", "/api/v1/conversations/1/turns", ABREAST),
        ("POST", "/api/v1/turns/1/regenerate", ABREAST),
        ("POST", "/v1/chat/completions", ABREAST),
        ("POST", "/api/v1/documents", 10),
        ("POST", "/api/v1/search", 10),
        ("POST", "/api/v1/turns/1/stop", 10),
        ("GET", "/api/v1/turns/1/events", 10),
    ],
)
async def test_only_questions_wait_for_each_other(
    rf: RequestFactory, settings: Any, method: str, path: str, abreast: int
) -> None:
    settings.PARLEY_ADDRESS_REQUESTS_A_MINUTE = settings.PARLEY_CREDENTIAL_REQUESTS_A_MINUTE = 0
    inside: list[HttpRequest] = []
    go_on = asyncio.Event()

    async def answer(request: HttpRequest) -> HttpResponse:
        inside.append(request)
        await go_on.wait()
        return HttpResponse()

    door = limited(answer)
    request = rf.generic(method, path, headers={"Authorization": "Bearer one"})
    tasks = [asyncio.ensure_future(door(request)) for _ in range(10)]
    async with asyncio.timeout(30):
        while len(inside) < abreast:  # noqa: ASYNC110 - no event tells of those who may not enter
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert len(inside) == abreast
    go_on.set()
    await asyncio.gather(*tasks)


async def test_nobody_waits_longer_than_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turnstile, "PATIENCE", 0.01)
    work = Work()
    tasks = crowd(work, 40)
    async with asyncio.timeout(30):
        while len(work.inside) < 40:  # noqa: ASYNC110 - though none of those before has left
            await asyncio.sleep(0.01)
    work.go_on.set()
    await asyncio.gather(*tasks)
    assert not turnstile._gates


async def test_nothing_is_kept_of_callers_who_have_left() -> None:
    async with passing("crowd"):
        assert turnstile._gates
    with pytest.raises(ZeroDivisionError):
        async with passing("crowd"):
            raise ZeroDivisionError
    assert not turnstile._gates


async def test_stepping_aside_is_harmless_where_nobody_passes() -> None:
    step_aside()
