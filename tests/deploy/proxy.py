"""nginx as shipped, in front of whatever a test puts behind it; and two things to put there that are not Parley."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socketserver
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from local.home import free_port
from local.postgres import system_user
from local.processes import healthy, spawn, stop, wait_until
from tests.environment import HOME, ROOT

START = ROOT / "deploy" / "nginx" / "start.sh"
_MARK = "log-"


@dataclass(frozen=True)
class Proxy:
    url: str
    home: Path

    def log(self) -> list[dict[str, Any]]:
        """The access log so far. Fails where a line is not JSON."""
        lines = [json.loads(line) for line in self.raw_log().splitlines() if "nginx.request" in line]
        return [line for line in lines if not line["request_id"].startswith(_MARK)]

    def raw_log(self) -> str:
        """All of what was answered until now: lines come a little after it, in their order."""
        mark = f"{_MARK}{uuid.uuid4().hex}"
        httpx.get(f"{self.url}/metrics", headers={"X-Request-Id": mark}, verify=False)
        until = time.monotonic() + 60
        while mark not in (found := (self.home / "nginx.log").read_text(encoding="utf-8")):
            assert time.monotonic() < until, found[-1000:]
            time.sleep(0.02)
        return found


def place(home: Path, port: int, **settings: str) -> dict[str, str]:
    """The environment that start.sh takes what differs from place to place from."""
    return {
        **os.environ,
        "NGINX_HOME": str(home),
        "NGINX_PORT": f"127.0.0.1:{port}",
        "NGINX_STATUS_PORT": str(free_port()),
        "NGINX_ROOT": str(HOME),
        **settings,
    }


@contextmanager
def directory() -> Iterator[Path]:
    """A directory that nginx may write to; like its container, it is not root."""
    HOME.chmod(0o711)
    home = Path(tempfile.mkdtemp(prefix="nginx-", dir=HOME))
    (home / "nginx.log").touch()
    if user := system_user():
        shutil.chown(home, user)
        os.chown(home / "nginx.log", pwd.getpwnam(user).pw_uid, -1)
    try:
        yield home
    finally:
        shutil.rmtree(home)


@contextmanager
def nginx(*web: str, output: Path | None = None, **settings: str) -> Iterator[Proxy]:
    """nginx in front of web processes, each host:port. output: where it writes instead of its log. settings:
    start.sh's."""
    port = free_port()
    with directory() as home:
        env = place(home, port, NGINX_WEB=" ".join(web), **settings)
        log = home / "nginx.log"
        process = spawn([START], log=output or log, env=env, user=system_user())
        try:
            status = f"http://127.0.0.1:{env['NGINX_STATUS_PORT']}/healthz"
            wait_until(lambda: healthy(status), name="nginx", process=process, log=log)
            yield Proxy(f"http://127.0.0.1:{port}", home)
        finally:
            stop(process)


class Backend(socketserver.ThreadingTCPServer):
    """Reads requests; answers each with what it read, or cuts the connection. With `answer`, a whole response, that but
    for what the proxy did not ask for."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, *, rude: bool, answer: bytes) -> None:
        self.rude = rude
        self.answer = answer
        self.requests: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Connection)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Connection(socketserver.StreamRequestHandler):
    server: Backend

    def handle(self) -> None:
        lines = []
        while (line := self.rfile.readline()).strip():
            lines.append(line)
        if not lines:
            return
        self.server.requests.append(b"".join(lines))
        if self.server.answer:
            asked = b"x-parley-elsewhere: yes" in b"".join(lines).lower()
            self.wfile.write(self.server.answer if asked else re.sub(rb"X-Accel.*\r\n", b"", self.server.answer))
        elif not self.server.rude:
            length = re.search(rb"(?i)^content-length: (\d+)", b"".join(lines), re.MULTILINE)
            body = b"".join(lines) + (self.rfile.read(int(length[1])) if length else b"")
            head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body)


@contextmanager
def backend(*, rude: bool = False, answer: bytes = b"") -> Iterator[Backend]:
    with Backend(rude=rude, answer=answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
