"""Coming back to a turn's events: by the address or by EventSource's header, and where both say something, by the
farther one, since an EventSource asks for the same address each time."""

from __future__ import annotations

import pytest

from tests.apps.conversations.conftest import Api, World, read_sse


@pytest.mark.parametrize(
    ("after", "header", "first"),
    [("", "", "1-1"), ("1-2", "", "1-3"), ("", "1-2", "1-3"), ("1-1", "1-2", "1-3"), ("1-2", "1-1", "1-3")],
)
async def test_the_farther_cursor_counts(world: World, api: Api, after: str, header: str, first: str) -> None:
    world.script("Prime ", "it.")
    turn = (await api.ask(world.turns, "pump?")).json()["id"]
    headers = {"Last-Event-ID": header} if header else {}
    response = await api.get(f"/api/v1/turns/{turn}/events", {"after": after} if after else {}, headers=headers)
    cursors = [event.cursor async for event in read_sse(response)]
    assert cursors[0] == first


@pytest.mark.parametrize(("after", "header"), [("1", ""), ("1-2", "x-1"), ("1-2", "0-" + "0" * 23)])
async def test_what_is_no_cursor_is_refused(world: World, api: Api, after: str, header: str) -> None:
    turn = (await api.ask(world.turns, "pump?")).json()["id"]
    headers = {"Last-Event-ID": header} if header else {}
    response = await api.get(f"/api/v1/turns/{turn}/events", {"after": after}, headers=headers)
    assert (response.status_code, list(response.json()["fields"])) == (400, ["after"])
