"""The clients in docs/examples against the running product, over a network that cuts their connections."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.environment import ROOT
from tests.fakes.inference import Reply
from tests.journeys.conftest import PASSAGE, World, web_process, worker_process
from tests.journeys.cutting import CuttingProxy

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]
EXAMPLES = ROOT / "docs" / "examples"
TOKENS = ["Prime ", "the ", "pump ", "before ", "the ", "first ", "brew ", "[1]."]
CUTS = 3

PYTHON = """
import json, sys
from pathlib import Path
from parley_client import Parley, ParleyError

address, key, file = sys.argv[1:]
parley = Parley(address, key)
conversation = parley.begin("guide", user="customer-17")
told = [[event.name, event.cursor, event.data] for event in parley.ask(conversation, "How do I prime it?")]
document = parley.upload("manuals", Path(file))
found = parley.search("manuals", "opening hours", limit=2)
try:
    parley.begin("nobody")
except ParleyError as error:
    refused = [error.code, error.request_id, str(error)]
try:
    parley.upload("manuals", Path(file).with_suffix(".exe"))
except ParleyError as error:
    unread = error.code
print(json.dumps([told, document, found, refused, unread]))
"""
JAVASCRIPT = """
import {{ readFile }} from "node:fs/promises";
import {{ Parley }} from "{examples}/client.mjs";

const [address, key, file] = process.argv.slice(2);
const parley = new Parley(address, key);
const conversation = await parley.begin("guide", "customer-17");
const told = [];
for await (const event of parley.ask(conversation, "How do I prime it?")) {{
  told.push([event.name, event.cursor, event.data]);
}}
const document = await parley.upload("manuals", new Blob([await readFile(file)]), "hours.md");
const found = await parley.search("manuals", "opening hours", 2);
const refused = await parley.begin("nobody").catch((error) => [error.code, error.requestId, error.message]);
const unread = await parley.upload("manuals", new Blob(["x"]), "hours.exe").catch((error) => error.code);
console.log(JSON.stringify([told, document, found, refused, unread]));
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with web_process("daphne") as address, worker_process():
        yield int(address.rpartition(":")[2])


@pytest.fixture
async def proxy(port: int) -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy(port, word=b"event: token", cuts=CUTS).listening() as proxy:
        yield proxy


def program(language: str, folder: Path) -> list[str]:
    """How to run the client; its arguments follow."""
    if language == "python":
        (folder / "run.py").write_text(f"import sys\nsys.path.insert(0, {str(EXAMPLES)!r})\n{PYTHON}")
        return [sys.executable, str(folder / "run.py")]
    (folder / "run.mjs").write_text(JAVASCRIPT.format(examples=EXAMPLES))
    return ["node", str(folder / "run.mjs")]


@pytest.mark.parametrize("language", ["python", "javascript"])
async def test_a_client_survives_a_cut_connection(
    world: World, proxy: CuttingProxy, tmp_path: Path, language: str
) -> None:
    world.model.script(Reply(tokens=TOKENS, delay=0.05))
    file = tmp_path / "hours.md"
    file.write_text(f"# Opening hours\n\nMonday to Friday, 8 to 17, says {language}.")
    file.with_suffix(".exe").write_bytes(b"x")
    command = [*program(language, tmp_path), proxy.address, world.key, str(file)]
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=150, check=False)
    assert ran.returncode == 0, ran.stderr
    told, document, found, refused, unread = json.loads(ran.stdout)

    assert proxy.cuts == 0, "no connection was cut"
    as_told(told)
    assert document["status"] == "ready"
    assert document["id"] in [source["document"] for source in found]
    assert refused[0] == "invalid_request"
    assert refused[1]
    assert refused[2] == "The request is not valid."
    assert unread == "unsupported_type"
    assert len(world.model.requests("/v1/chat/completions")) == 1 + ["python", "javascript"].index(language)


def as_told(told: list[Any]) -> None:
    """Every event once and in order, and the whole answer."""
    names = [name for name, _, _ in told]
    cursors = [tuple(map(int, cursor.split("-"))) for _, cursor, _ in told]
    assert names[:2] == ["turn.started", "sources"]
    assert set(names[2:-1]) == {"token"}
    assert names[-1] == "turn.finished"
    assert cursors == sorted(set(cursors))
    said = "".join(data["text"] for name, _, data in told if name == "token")
    assert said == told[-1][2]["text"] == "".join(TOKENS)
    assert [citation["text"] for citation in told[-1][2]["citations"]] == [PASSAGE]


def test_the_python_client_is_typed() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(EXAMPLES / "parley_client.py")]
    checked = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
