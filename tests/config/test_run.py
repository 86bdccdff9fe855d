"""The limits and heartbeats that docs/websocket.md promises, as the servers are told them. Whether they keep to them:
tests/faults/test_42_big_frames.py and test_30_vanished_clients.py, which need not wait for 25 seconds."""

from __future__ import annotations

from itertools import pairwise

import pytest

from apps.edge.frames import HEARTBEAT_SECONDS
from config import run

PROMISED = {
    "daphne": {
        "--ping-interval": "25",
        "--ping-timeout": "20",
        "--websocket-max-frame-size": "65536",
        "--websocket-max-message-size": "65536",
    },
    "uvicorn": {
        "--ws-ping-interval": "25",
        "--ws-ping-timeout": "20",
        "--ws-max-size": "65536",
        "--ws-per-message-deflate": "false",
    },
}


@pytest.mark.parametrize("server", run.SERVERS)
def test_servers_are_told_what_is_promised(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_ASGI_SERVER", server)
    command = run.web(host="127.0.0.1", port=8000)
    told = dict(pairwise(command))
    assert PROMISED[server].items() <= told.items()


def test_streams_and_sockets_have_one_heartbeat() -> None:
    assert HEARTBEAT_SECONDS == run.PING_SECONDS
    assert run.PONG_SECONDS < run.PING_SECONDS  # Daphne waits for one answer at a time


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("worker --concurrency 0", "--concurrency"),
        ("worker --concurrency -1", "--concurrency"),
        ("worker --concurrency two", "--concurrency"),
        ("worker --queues nowhere", "--queues"),
        ("web --port 0", "--port"),
        ("web --port 65536", "--port"),
        ("layouts --every 0", "--every"),
        ("layouts --every nan", "--every"),
    ],
)
def test_arguments_by_which_nothing_would_be_done_are_named(
    arguments: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run.command_line(arguments.split())
    assert stopped.value.code == 2
    assert f"error: argument {named}: " in capsys.readouterr().err
