"""What servers tell of their load on /metrics."""

from __future__ import annotations

import pytest

from chatbot.inference.load import FIGURES, read_load
from chatbot.inference.state import ServerLoad

VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a {b} c"} 3.0
vllm:num_requests_running{engine="1",model_name="a {b} c"} 2.0
vllm:num_requests_waiting{engine="0",model_name="a {b} c"} 4.0 1712345678
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
vllm:num_requests_waiting_by_reason{engine="0"} 9.0
"""
TGI = "# TYPE tgi_queue_size gauge\ntgi_queue_size 7\ntgi_batch_current_size 12\n"


def test_vllms_engines_are_added_up() -> None:
    assert read_load(VLLM, FIGURES["vllm"]) == ServerLoad(running=5.0, waiting=4.0, cache=0.75)


def test_tgi_tells_its_queue_and_batch() -> None:
    assert read_load(TGI, FIGURES["tgi"]) == ServerLoad(running=12.0, waiting=7.0, cache=None)


@pytest.mark.parametrize(
    "page", ["", "<html>", "tgi_queue_size", "tgi_queue_size NaN", "tgi_queue_size -1\n", "\n{} 1"]
)
def test_what_tells_nothing_is_none(page: str) -> None:
    assert read_load(page, FIGURES["tgi"]) is None
