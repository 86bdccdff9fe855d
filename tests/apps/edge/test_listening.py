"""A process that is about to end takes no new connection, on either server, and serves those that it has."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import httpx
import pytest

from local.home import free_port
from local.processes import healthy, spawn, stop, wait_until
from tests.environment import HOME

PROGRAM = "tests.fakes.leaving:application"


@pytest.fixture(params=["daphne", "uvicorn"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    port = free_port()
    how = ["--port" if request.param == "uvicorn" else "-p", str(port), PROGRAM]
    log = HOME / "leaving.log"
    process = spawn([sys.executable, "-m", request.param, *how], log=log, env=os.environ)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: healthy(url), name=request.param, process=process, log=log)
        yield url
    finally:
        stop(process)


def test_it_takes_no_new_connection_and_serves_those_that_it_has(address: str) -> None:
    with httpx.Client(base_url=address) as kept:
        assert kept.get("/").text == kept.get("/leave").text == "here"
        with pytest.raises(httpx.ConnectError):
            httpx.get(address)
        assert kept.get("/").text == kept.get("/leave").text == "here"
