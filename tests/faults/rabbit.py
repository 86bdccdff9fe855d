"""A RabbitMQ of Debian's package, for the tests of ingestion that have it for a broker in place of Redis."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.home import free_port
from local.processes import spawn, wait_until
from tests.environment import HOME

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
IS_THERE = SERVER.exists() and shutil.which("epmd") is not None


@contextmanager
def rabbit() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its address, and its process. It listens on this machine alone, and its name daemon ends with it."""
    home = HOME / "rabbit"
    home.mkdir()
    port, names = free_port(), free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),  # where its cookie is
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"parley-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        # Two schedulers that sleep when they have nothing to do: the machine is others', too.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
    }
    log = home / "log"
    epmd = spawn(["epmd", "-port", str(names), "-address", "127.0.0.1"], log=home / "epmd.log", env=environment)
    server = spawn([SERVER], log=log, env=environment)
    try:
        wait_until(lambda: _answers(port), name="rabbitmq", process=server, log=log)
        yield f"amqp://guest:guest@127.0.0.1:{port}//", server
    finally:
        for process in (server, epmd):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int) -> bool:
    """It greets in its protocol, or says which it speaks; a connection alone may be of a server that only begins."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.settimeout(1)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return len(connection.recv(1)) == 1
    except OSError:
        return False
