"""SQL, NUL, a megabyte or bytes that are no text in a credential are a 401 with one body, whatever is wrong."""

from __future__ import annotations

import json

import pytest

from tests.abuse.conftest import send
from tests.apps.conversations.conftest import World
from tests.apps.conversations.test_websocket import Socket

HOSTILE = {
    "nothing": b"",
    "no scheme": b"parley",
    "another scheme": b"Basic YTpi",
    "no key": b"Bearer ",
    "SQL": b"Bearer ' OR 1=1; DROP TABLE tenants_apikey; --",
    "NUL": b"Bearer parley_\x00",
    "a megabyte": b"Bearer " + b"a" * 1_000_000,
    "no UTF-8": b"Bearer \xff\xfe\xed\xa0\x80",
    "digits of another script": "Bearer parley_٠٠٠".encode(),
    "of the form": b"Bearer parley_" + b"a" * 12 + b"_" + b"b" * 43 + b"cccccc",
    "a line more": b"Bearer parley_" + b"a" * 12 + b"_" + b"b" * 43 + b"cccccc\n",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_header(world: World, name: str) -> None:
    bodies = set()
    for header, value in ((b"authorization", HOSTILE[name]), (b"x-api-key", HOSTILE[name].removeprefix(b"Bearer "))):
        for method, path in (("GET", "conversations"), ("POST", "search"), ("GET", f"turns/{world.conversation.pk}")):
            answer = await send(method, f"/api/v1/{path}", {header: value})
            assert answer.status == 401, (header, path)
            assert answer.headers["www-authenticate"] == 'Bearer realm="parley"'
            bodies.add(str({k: v for k, v in json.loads(answer.body).items() if k != "request_id"}))
    assert bodies == {"{'code': 'not_authenticated', 'message': 'Valid credentials are required.'}"}


@pytest.mark.parametrize("key", ["", "' OR 1=1 --", "\0", "a" * 200_000, "٠", None, 5, [], {"$ne": ""}, True])
async def test_a_frame(world: World, key: object) -> None:
    socket = Socket()
    await socket.connect()
    await socket.say(type="auth", key=key)
    frame = await socket.hear()
    assert (frame["type"], frame["code"]) == ("error", "not_authenticated")
    assert (await socket.receive_output())["code"] == 4401
    await socket.disconnect()
