"""Runs the blocks of a page in order, in one shell and one Python, as a reader would, and keeps what each printed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.environment import ROOT
from tests.pages.blocks import Block

# An error fails a block wherever in it it happens: in a pipe, in $(…), or in a response, for which curl alone would not
# fail. A reader's shell goes on after an error, and so does this one.
_PROLOGUE = """\
set -E -o pipefail
trap 'failed=1' ERR
"""
_PYTHON = """\
exec 4>&1
coproc python {{ exec '{python}' '{session}'; }}
in_python() {{
    local status
    env -0 >"$1.env"
    echo "$1" >&"${{python[1]}}"
    read -r status <&"${{python[0]}}" && return "$status"
}}
"""
_MARK = "=====8<=====", "=====>8====="
_RUN = {"sh": "source '{file}'", "python": "in_python '{file}'", "js": "node '{file}'"}
_SUFFIX = {"sh": ".sh", "python": ".py", "js": ".mjs"}


def walk(
    blocks: Sequence[Block],
    directory: Path,
    environment: Mapping[str, str],
    *,
    scripts: Path,
    seconds: float,
    values: Mapping[str, str] | None = None,
) -> list[tuple[str, bool]]:
    """What each block printed, and whether it ended well.

    The blocks run in `directory`; `scripts` is a directory to write them to. `values` are put for the examples in the
    text. Raises subprocess.TimeoutExpired, with what was printed until then.
    """
    (scripts / ".curlrc").write_text("fail-with-body\n")
    main = scripts / "main.sh"
    main.write_text("\n".join([_prologue(blocks), *(_step(block, scripts, values or {}) for block in blocks)]))
    said = _printed(["bash", str(main)], directory, {**environment, "CURL_HOME": str(scripts)}, seconds)
    opens, closes = _MARK
    found = re.findall(rf"{opens}\n(.*?){closes} (\d+)\n", said, re.DOTALL)
    assert len(found) == len(blocks), said
    return [(printed, status == "0") for printed, status in found]


def _prologue(blocks: Sequence[Block]) -> str:
    python = _PYTHON.format(python=ROOT / ".venv/bin/python", session=Path(__file__).with_name("python_session.py"))
    return _PROLOGUE + (python if any(block.language == "python" for block in blocks) else "")


def _step(block: Block, scripts: Path, values: Mapping[str, str]) -> str:
    text = block.text
    for example, value in values.items():
        text = text.replace(example, value)
    file = scripts / f"{block.page.stem}-line-{block.line}{_SUFFIX[block.language]}"
    file.write_text(text)
    opens, closes = _MARK
    return f"echo '{opens}'; failed=0\n{_RUN[block.language].format(file=file)}\necho \"{closes} $failed\"\n"


def _printed(command: list[str], directory: Path, environment: Mapping[str, str], seconds: float) -> str:
    """Standard output and error together; nothing of the command's group is left running."""
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=seconds)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
