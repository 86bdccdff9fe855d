"""`manage.py fake_endpoint` is the scripted server of the tests, and says so where those are missing."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from apps.ops.management.commands import fake_endpoint
from tests.environment import ROOT


def test_it_answers_as_its_options_say(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[{"status": 503, "headers": {"Retry-After": "2"}}]')
    command = [sys.executable, "manage.py", "fake_endpoint", "--dialect", "vllm", "--model", "mine"]
    with subprocess.Popen([*command, "--script", str(script)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert [card["id"] for card in httpx.get(f"{url}/v1/models").json()["data"]] == ["mine"]
            asked = {"model": "mine", "messages": [{"role": "user", "content": "Is it on?"}]}
            refused, answered = (httpx.post(f"{url}/v1/chat/completions", json=asked) for _ in range(2))
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
            assert answered.json()["choices"][0]["message"]["content"] == "You asked: Is it on? [1]"
        finally:
            process.terminate()


def test_what_it_cannot_do_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=re.escape("missing.json cannot be read")):
        call_command("fake_endpoint", "--script", str(tmp_path / "missing.json"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CommandError, match="cannot listen there"):
            call_command("fake_endpoint", "--port", str(taken.getsockname()[1]))


def test_without_the_source_tree_it_says_where_to_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_endpoint, "SERVER", "tests.fakes.not_shipped")
    with pytest.raises(CommandError, match="run this in a checkout"):
        call_command("fake_endpoint")
