"""What Sentry is sent, by a server on a socket that keeps what it gets."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import orjson
import pytest

from tests.config.sending import CANARY
from tests.environment import ROOT


class Sentry(ThreadingHTTPServer):
    """Takes whatever it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.bodies: list[bytes] = []

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self.server_address[1]}/7"

    def events(self) -> list[dict[str, Any]]:
        lines = [line for body in self.bodies for line in body.splitlines()]
        parsed: list[dict[str, Any]] = [orjson.loads(line) for line in lines if line.startswith(b"{")]
        return [one for one in parsed if "level" in one]


class _Taker(BaseHTTPRequestHandler):
    server: Sentry

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    server = Sentry()
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_error_is_told_with_tenant_release_and_place_and_nothing_that_anybody_wrote(sentry: Sentry) -> None:
    subprocess.run([sys.executable, "-m", "tests.config.sending", sentry.dsn], cwd=ROOT, check=True, timeout=120)
    failed, *others = sentry.events()
    assert failed["logentry"]["message"] == "request.failed"
    assert (failed["release"], failed["environment"]) == ("parley@1.2.3", "production")
    assert failed["tags"] == {"tenant": "acme", "request_id": "request-1"}
    (raised,) = failed["exception"]["values"]
    assert raised["type"] == "ValueError"
    assert raised["stacktrace"]["frames"][-1]["function"] == "main"
    assert [one["logentry"]["message"] for one in others] == ["celery.worker", "asyncio"]
    assert CANARY.encode() not in b"".join(sentry.bodies)
