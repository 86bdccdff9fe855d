"""A deploy: SIGTERM drains, readers come back through the other replica, no word is lost or doubled.

Row 3: rolling restarts under streams. Row 4: a turn outlives the limit and is handed over.
"""

from __future__ import annotations

import os

import httpx
import pytest

from tests.faults.conftest import ANSWER, Cluster
from tests.journeys.conftest import manage

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

STREAMS, ROUNDS = (100, 10) if os.environ.get("PARLEY_FAULTS_FULL") else (15, 2)


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_03_rolling_restarts_lose_and_double_nothing(cluster: Cluster, server: str) -> None:
    cluster.script(delay=0.05)
    replicas = [cluster.add(server, PARLEY_DRAIN_SECONDS="20"), cluster.add(server, PARLEY_DRAIN_SECONDS="20")]
    for _ in range(ROUNDS):
        readers = [cluster.ask(*replicas) for _ in range(STREAMS)]
        for reader in readers:
            reader.wait_for_tokens(2)
        replicas[0].terminate()
        assert replicas[0].process.wait(40) is not None
        for reader in readers:
            reader.finish()
            assert reader.text == ANSWER
            cluster.check(reader)
        replicas = [replicas[1], cluster.add(server, PARLEY_DRAIN_SECONDS="20")]


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_04_a_turn_that_outlives_the_limit_is_handed_over(cluster: Cluster, server: str) -> None:
    cluster.script(delay=0.15)
    one, other = cluster.add(server, PARLEY_DRAIN_SECONDS="1"), cluster.add(server)
    asker = cluster.ask(one, other)
    asker.wait_for_tokens(3)
    one.terminate()
    one.process.wait(20)
    asker.finish()
    assert asker.text == ANSWER
    cluster.check(asker)
    assert asker.cursor.epoch == 2


def test_while_it_drains_a_replica_is_not_ready_and_says_so(cluster: Cluster) -> None:
    cluster.script(delay=0.1)
    one, other = cluster.add("daphne", PARLEY_DRAIN_SECONDS="30"), cluster.add("daphne")
    asker = cluster.ask(one, other)
    asker.wait_for_tokens(2)
    with cluster.http(one) as http, httpx.Client(base_url=one.address) as probe:
        assert http.get("assistants").status_code == probe.get("/healthz/ready").status_code == 200
        one.terminate()
        asker.wait_for_tokens(12)
        # Who is connected is answered; others are not let in any more, and go elsewhere.
        assert probe.get("/healthz/ready").status_code == 503
        assert probe.get("/healthz/live").status_code == 200
        refused = http.post(f"conversations/{asker.conversation}/turns", json={"text": "and now?"})
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{one.address}/healthz/live")
    assert (refused.status_code, refused.json()["code"]) == (503, "service_unavailable")
    asker.finish()
    assert asker.text == ANSWER
    assert asker.reconnected > 0
    cluster.check(asker)


def test_what_the_last_process_leaves_the_next_one_goes_on_with(cluster: Cluster) -> None:
    cluster.script(delay=0.15)
    one = cluster.add("daphne")
    asker = cluster.ask(one)
    asker.wait_for_tokens(3)
    assert "Drained 1 web process" in manage("drain")
    assert manage("drain", "--list") == ""
    asker.addresses = [cluster.add("daphne").address]
    asker.finish()
    assert asker.text == ANSWER
    cluster.check(asker)
