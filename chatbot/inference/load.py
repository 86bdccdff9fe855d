"""Reads from a server's own metrics how busy it is, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from chatbot.inference.endpoint import ProtocolName
from chatbot.inference.state import ServerLoad

Figure = Literal["running", "waiting", "cache"]

# vLLM: vllm/v1/metrics/loggers.py; before 0.10 the cache's use is gpu_cache_usage_perc. TGI: router/src/infer and
# backends/v3 of 3.x. llama.cpp: tools/server/server-context.cpp, with --metrics only.
_TGI: Final[Mapping[str, Figure]] = {"tgi_batch_current_size": "running", "tgi_queue_size": "waiting"}
FIGURES: Final[Mapping[ProtocolName, Mapping[str, Figure]]] = {
    "vllm": {
        "vllm:num_requests_running": "running",
        "vllm:num_requests_waiting": "waiting",
        "vllm:kv_cache_usage_perc": "cache",
        "vllm:gpu_cache_usage_perc": "cache",
    },
    "tgi": _TGI,
    "tgi-generate": _TGI,
    "llamacpp": {"llamacpp:requests_processing": "running", "llamacpp:requests_deferred": "waiting"},
}


def read_load(page: str, figures: Mapping[str, Figure]) -> ServerLoad | None:
    """None where the page has none of the figures. A figure with several labels (vLLM's engines) is added up, the use
    of caches is that of the fullest."""
    found: dict[Figure, float] = {}
    for line in page.splitlines():
        figure = figures.get(line.partition("{")[0].partition(" ")[0])
        if figure is None:
            continue
        value = _value(line)
        if value is not None:
            before = found.get(figure, 0.0)
            found[figure] = max(before, value) if figure == "cache" else before + value
    return ServerLoad(found.get("running"), found.get("waiting"), found.get("cache")) if found else None


def _value(line: str) -> float | None:
    """The number of a sample; its label values may hold blanks and braces, and a time may follow it."""
    fields = (line[line.rfind("}") + 1 :] if "}" in line else line.partition(" ")[2]).split()
    try:
        value = float(fields[0])
    except (ValueError, IndexError):
        return None
    return value if 0 <= value < float("inf") else None
