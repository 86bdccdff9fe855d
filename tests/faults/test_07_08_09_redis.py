"""Redis forgets, is full or hangs: what runs goes on, what is asked is refused and kept.

Row 7, better than the catalogue asks: a process that lives has its turns whole, and writes their journals again.
"""

from __future__ import annotations

import signal
import time

import httpx
import pytest

from local import redis_server
from tests.environment import REDIS_PASSWORD, REDIS_PORT
from tests.faults.conftest import ANSWER, Cluster, Replica

pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]


def refused(cluster: Cluster, replica: Replica) -> tuple[int, str, float]:
    """A new question's refusal, and how long that took; the question is kept, and costs nothing."""
    with cluster.http(replica) as http:
        conversation = http.post("conversations", json={"assistant": "guide"}).raise_for_status().json()["id"]
        begun = time.monotonic()
        answer = http.post(f"conversations/{conversation}/turns", json={"text": "kept?"})
        seconds = time.monotonic() - begun
    (turn,) = cluster.rows("SELECT id, state FROM conversations_turn WHERE conversation_id = %s", conversation)
    assert turn[1] == "failed"
    assert cluster.rows("SELECT text FROM conversations_message WHERE conversation_id = %s", conversation) == [
        ("kept?",)
    ]
    assert cluster.rows("SELECT state, bill FROM usage_usagerecord WHERE turn_id = %s", turn[0]) == [
        ("settled", "none")
    ]
    return answer.status_code, answer.json()["code"], seconds


def test_07_what_redis_forgot_is_written_again(cluster: Cluster) -> None:
    one, other = cluster.add("daphne"), cluster.add("daphne")
    cluster.script(delay=0.1)
    asker = cluster.ask(one)
    asker.wait_for_tokens(5)
    watcher = cluster.follow(asker.turn, other)
    watcher.wait_for_tokens(3)
    cluster.servers.empty_redis()
    asker.wait_for_tokens(15)
    latecomer = cluster.follow(asker.turn, other)
    for reader in (asker, watcher, latecomer):
        reader.finish()
        assert reader.text == ANSWER
        cluster.check(reader)


def test_07_redis_and_the_runner_lost_together_end_in_an_answer(cluster: Cluster) -> None:
    one, other = cluster.add("daphne"), cluster.add("daphne")
    cluster.script(delay=0.1)
    asker = cluster.ask(one, other)
    asker.wait_for_tokens(5)
    one.hang()  # it must not write the journal again
    cluster.servers.empty_redis()
    one.kill()
    asker.finish()
    assert asker.text == ANSWER
    cluster.check(asker)


def test_08_a_full_redis_takes_no_new_questions(cluster: Cluster) -> None:
    one = cluster.add("daphne")
    cluster.script(delay=0.0)
    with redis_server.client(REDIS_PORT, REDIS_PASSWORD) as redis:
        redis.config_set("maxmemory", "1")
        try:
            assert refused(cluster, one)[:2] == (503, "service_unavailable")
        finally:
            redis.config_set("maxmemory", "0")
    reader = cluster.ask(one)
    reader.finish()
    cluster.check(reader)


def test_09_a_redis_that_hangs_takes_no_new_questions_and_stops_no_running_ones(cluster: Cluster) -> None:
    one = cluster.add("daphne")
    cluster.script(delay=0.1)
    asker = cluster.ask(one)
    asker.wait_for_tokens(3)
    cluster.servers.redis.send_signal(signal.SIGSTOP)
    try:
        status, code, seconds = refused(cluster, one)
        assert (status, code) == (503, "service_unavailable")
        assert seconds < 5, "1 s promised; the limit here is for a busy machine"
        assert httpx.get(f"{one.address}/healthz/ready").status_code == 200
    finally:
        cluster.servers.redis.send_signal(signal.SIGCONT)
    asker.finish()
    assert asker.text == ANSWER
    cluster.check(asker)
