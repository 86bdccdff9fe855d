"""The scripted inference server as a process of its own: python -m tests.fakes.serving --help

It prints its base URL, and answers until it is interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson

from tests.fakes.dialects import VLLM, Dialect, LlamaCpp
from tests.fakes.huggingface import TEI, TGI, TEIReranker, TGIGenerate
from tests.fakes.inference import FakeInference
from tests.fakes.machine import Machine
from tests.fakes.replies import Reply

DIALECTS: dict[str, type[Dialect]] = {
    "openai": Dialect,
    "vllm": VLLM,
    "tgi": TGI,
    "tgi-generate": TGIGenerate,
    "llamacpp": LlamaCpp,
    "tei": TEI,
    "tei-reranker": TEIReranker,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of the process; manage.py fake_endpoint has the same."""
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--dialect", choices=DIALECTS, default="openai", help="the kind of server to play")
    parser.add_argument("--model", action="append", default=[], help="a model that it has; may be given repeatedly")
    parser.add_argument("--api-key", default="", help="asked for where it is set")
    parser.add_argument("--script", type=Path, help="a file with a JSON list of replies")
    parser.add_argument("--slots", type=int, help="play a GPU that gives so many answers at once")
    parser.add_argument("--queue", type=int, default=0, help="with --slots: how many questions may wait for one")
    parser.add_argument("--tokens-per-second", type=float, default=50.0, help="with --slots: of an answer alone")


def read_script(path: Path) -> list[Reply]:
    """Raises ValueError with a sentence that says what is wrong."""
    try:
        return [Reply(**reply) for reply in orjson.loads(path.read_bytes())]
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    except (orjson.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path} is no JSON list of replies: {error}.") from error


def made(options: dict[str, Any]) -> FakeInference:
    """As the options say. Raises ValueError."""
    dialect = DIALECTS[options["dialect"]](*options["model"])
    fake = FakeInference(options["port"], host=options["host"], dialect=dialect, api_key=options["api_key"])
    if options["script"]:
        fake.script(*read_script(options["script"]))
    if options["slots"]:
        pace = options["tokens_per_second"]
        fake.machine = Machine(slots=options["slots"], queue=options["queue"], tokens_per_second=pace)
    return fake


async def serve(fake: FakeInference) -> None:
    async with fake:
        sys.stdout.write(f"{fake.base_url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A scripted inference server.")
    add_options(parser)
    try:
        asyncio.run(serve(made(vars(parser.parse_args()))))
    except ValueError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(0)
