"""A reader who vanishes loses nothing; a stop that races the end leaves one end."""

from __future__ import annotations

import threading

import httpx
import pytest

from tests.faults.conftest import Cluster

pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]


def test_28_the_whole_answer_is_there_on_return(cluster: Cluster) -> None:
    one, other = cluster.add("daphne"), cluster.add("daphne")
    cluster.script(*(f"{n} " for n in range(20)), delay=0.05)
    with cluster.http(one) as http:
        conversation = http.post("conversations", json={"assistant": "guide"}).raise_for_status().json()["id"]
        headers = {"Accept": "text/event-stream"}
        with http.stream("POST", f"conversations/{conversation}/turns", json={"text": "x"}, headers=headers) as answer:
            assert next(answer.iter_lines())
    ((turn,),) = cluster.rows("SELECT id FROM conversations_turn WHERE conversation_id = %s", conversation)
    reader = cluster.follow(str(turn), other)
    reader.finish()
    assert reader.text == "".join(f"{n} " for n in range(20))
    cluster.check(reader)


def test_29_a_stop_that_races_the_end_leaves_one(cluster: Cluster) -> None:
    one, other = cluster.add("daphne"), cluster.add("daphne")
    words = [f"{n} " for n in range(6)]
    for attempt in range(6):
        cluster.script(*words, delay=0.05)
        reader = cluster.ask(one)
        reader.wait_for_tokens(3 + attempt % 3)
        answers: list[httpx.Response] = []

        def stop(replica: str, turn: str = reader.turn, answers: list[httpx.Response] = answers) -> None:
            headers = {"Authorization": f"Bearer {cluster.world.key}"}
            answers.append(httpx.post(f"{replica}/api/v1/turns/{turn}/stop", headers=headers, timeout=30))

        threads = [threading.Thread(target=stop, args=(replica.address,)) for replica in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        end = reader.finish()
        assert {answer.status_code for answer in answers} == {200}
        assert "".join(words).startswith(reader.text)
        cluster.check(reader, state=end["state"], bill="delivered" if end["state"] == "stopped" else "once")
