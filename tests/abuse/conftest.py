"""The cast of the attacks: acme owns everything, and globex, a stranger or a browser tries to get at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from asgiref.testing import ApplicationCommunicator

from apps.conversations import runner
from apps.conversations.models import Turn
from apps.tenants.scoping import platform_unit
from config.asgi import application
from tests.apps.conversations.conftest import World, api, fake
from tests.apps.conversations.conftest import world as undisturbed
from tests.browser.conftest import browser

__all__ = ["api", "browser", "fake", "undisturbed"]


@pytest.fixture(autouse=True)
def storage(settings: Any, tmp_path: Any) -> None:
    """Each test's uploads in a directory of its own."""
    settings.MEDIA_ROOT = tmp_path / "media"


@pytest.fixture
async def world(undisturbed: World) -> AsyncIterator[World]:
    """The cast; what an attack leaves running is stopped, since nobody listens any more."""
    yield undisturbed
    for turn in await platform_unit(lambda: list(Turn.objects.filter(state__in=Turn.OPEN))):
        runner.stop(turn.pk)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


async def send(
    method: str,
    path: str,
    headers: Mapping[bytes, bytes] | Sequence[tuple[bytes, bytes]] = (),
    body: bytes = b"",
    *,
    query: bytes = b"",
    root_path: str = "",
    client: str = "127.0.0.1",
) -> Answer:
    """Bytes to the ASGI application as a server hands them over, past every client's own good manners."""
    given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogateescape"),
        "query_string": query,
        "root_path": root_path,
        "headers": [(b"host", b"testserver"), (b"content-length", b"%d" % len(body)), *given],
        "client": [client, 40000],
        "server": ["127.0.0.1", 80],
    }
    talk = ApplicationCommunicator(application, scope)
    await talk.send_input({"type": "http.request", "body": body, "more_body": False})
    start = await talk.receive_output(60)
    answer = b""
    more = True
    while more:
        part = await talk.receive_output(60)
        answer += part.get("body", b"")
        more = part.get("more_body", False)
    await talk.wait()
    return Answer(start["status"], {k.decode().lower(): v.decode("latin-1") for k, v in start["headers"]}, answer)


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {key}".encode()}
