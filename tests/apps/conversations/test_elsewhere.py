"""A question that a process about to end did not accept is sent on by nginx as shipped, which asks for that, and is
refused to everybody else. One that was accepted is never sent on."""

from __future__ import annotations

import pytest

from apps.conversations import draining
from apps.edge.errors import ServiceUnavailable
from tests.apps.conversations.conftest import Api, World

ASKED_BY_NGINX = {"X-Parley-Elsewhere": "yes"}


def leave(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ServiceUnavailable(retry_after=1, elsewhere=True)

    monkeypatch.setattr(draining, "refuse_questions", refuse)


@pytest.mark.parametrize("door", ["json", "sse", "openai"])
async def test_nginx_is_told_and_nobody_else(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    async def ask(**headers: str) -> tuple[int, str | None, str | None]:
        if door == "openai":
            body = {"model": "guide", "messages": [{"role": "user", "content": "pump?"}]}
            response = await api.post("/v1/chat/completions", body, content_type="application/json", headers=headers)
        else:
            accept = {"Accept": "text/event-stream"} if door == "sse" else {}
            response = await api.ask(world.turns, "pump?", **accept, **headers)
        return response.status_code, response.get("X-Accel-Redirect"), response.get("Retry-After")

    leave(monkeypatch)
    assert await ask() == (503, None, "1")
    assert await ask(**ASKED_BY_NGINX) == (503, "@elsewhere", "1")


async def test_what_was_accepted_is_never_sent_on(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its replica ends while the client waits for the answer."""

    def over() -> None:
        raise ServiceUnavailable(retry_after=1)

    monkeypatch.setattr(draining, "refuse_waiting", over)
    response = await api.ask(world.turns, "pump?", **ASKED_BY_NGINX)
    assert response.status_code == 503
    assert response.json()["turn"]
    assert "X-Accel-Redirect" not in response
