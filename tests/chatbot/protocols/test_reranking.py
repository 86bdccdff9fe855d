"""Reranking through every protocol that can: the same scores in the order of the texts, and the same errors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chatbot.errors import InvalidRequest, ModelBusy, ModelError, ModelFailed, ModelTimeout, ModelUnavailable
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Deadlines
from tests.chatbot.protocols.conftest import RERANKING, TOKEN, Start
from tests.fakes.inference import Reply
from tests.fakes.vectors import ranking

QUERY = "how to prime the pump"
TEXTS = ["the colour of money", "prime the pump with water", "a pump", "how"]


@pytest.mark.parametrize("name", RERANKING)
async def test_every_text_gets_its_score(start: Start, client: Client, name: str) -> None:
    fake, endpoint = await start(name, "rerank")
    scores = await client.rerank(endpoint, QUERY, TEXTS)
    assert scores == [pytest.approx(score) for _, score in sorted(ranking(QUERY, TEXTS))]
    assert scores.index(max(scores)) == 1
    assert {request.headers["Authorization"] for request in fake.requests} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("name", RERANKING)
async def test_nothing_is_asked_about_no_texts(start: Start, client: Client, name: str) -> None:
    fake, endpoint = await start(name, "rerank")
    assert await client.rerank(endpoint, QUERY, []) == []
    assert not fake.requests


@pytest.mark.parametrize(("name", "most"), [("tei", 32), ("hf-dedicated", 32), ("vllm", 70)])
async def test_as_many_at_once_as_the_server_takes(start: Start, client: Client, name: str, most: int) -> None:
    fake, endpoint = await start(name, "rerank")
    texts = [f"passage number {n}" for n in range(70)]
    scores = await client.rerank(endpoint, "number 33", texts)
    assert scores == [pytest.approx(score) for _, score in sorted(ranking("number 33", texts))]
    sent = [len(request.payload.get("documents") or request.payload["texts"]) for request in fake.requests]
    assert (max(sent), sum(sent)) == (most, 70)


FAULTS = [
    (Reply(fault="overloaded"), ModelBusy),
    (Reply(status=500), ModelFailed),
    (Reply(status=401), ModelFailed),
    (Reply(cut_after=0), ModelFailed),
    (Reply(hang_after=0), ModelTimeout),
]


@pytest.mark.parametrize(("reply", "expected"), FAULTS)
@pytest.mark.parametrize("name", RERANKING)
async def test_each_fault_has_one_error(
    start: Start, client: Client, name: str, reply: Reply, expected: type[ModelError]
) -> None:
    deadlines = Deadlines(first_token=0.5) if expected is ModelTimeout else Deadlines()
    fake, endpoint = await start(name, "rerank", deadlines=deadlines)
    fake.script(replace(reply, kind="rerank"))
    with pytest.raises(expected):
        await client.rerank(endpoint, QUERY, TEXTS)


# Answers about two texts, with `score` for the name under which a score is told.
NO_SCORES = {
    "{": "not understood",
    '"much"': "not understood",
    "[1, 2]": "not understood",
    '[{"index": 0, "score": NaN}, {"index": 1, "score": 0.5}]': "not understood",
    '[{"index": 0, "score": 0.5}]': "gave 1 scores for 2 texts",
    '[{"index": 0, "score": 1}, {"index": 1, "score": 1}, {"index": 2, "score": 1}]': "gave 3 scores for 2 texts",
    '[{"index": 0, "score": 1}, {"index": 0, "score": 1}]': "which texts",
    '[{"index": 0, "score": 1}, {"index": 2, "score": 1}]': "which texts",
    '[{"score": 1}, {"score": 1}]': "which texts",
    '[{"index": 0, "score": 1}, {"index": true, "score": 1}]': "which texts",
    '[{"index": 0, "score": null}, {"index": 1, "score": 1}]': "no numbers",
    '[{"index": 0, "score": "1"}, {"index": 1, "score": 1}]': "no numbers",
    '[{"index": 0}, {"index": 1}]': "no numbers",
}


@pytest.mark.parametrize("answer", NO_SCORES)
@pytest.mark.parametrize("name", ["openai", "tei"])
async def test_what_is_no_scores_is_a_failure(start: Start, client: Client, name: str, answer: str) -> None:
    fake, endpoint = await start(name, "rerank")
    body = answer if name == "tei" else '{"results": ' + answer.replace("score", "relevance_score") + "}"
    fake.script(Reply(kind="rerank", garbage=body))
    with pytest.raises(ModelFailed, match=NO_SCORES[answer]):
        await client.rerank(endpoint, QUERY, TEXTS[:2])


async def test_text_that_is_not_unicode_is_refused(start: Start, client: Client) -> None:
    for name in ("openai", "tei"):
        _, endpoint = await start(name, "rerank")
        with pytest.raises(InvalidRequest):
            await client.rerank(endpoint, "\ud800", TEXTS)


async def test_inference_providers_do_not_rerank(start: Start, client: Client) -> None:
    fake, endpoint = await start("hf-dedicated", "rerank")
    with pytest.raises(ModelFailed, match="dedicated"):
        await client.rerank(replace(endpoint, base_url=""), QUERY, TEXTS)
    assert not fake.requests


async def test_a_dedicated_endpoint_that_sleeps_says_so(start: Start, client: Client) -> None:
    fake, endpoint = await start("hf-dedicated", "rerank")
    fake.script(Reply(kind="rerank", status=503))
    with pytest.raises(ModelUnavailable, match="asleep"):
        await client.rerank(endpoint, QUERY, TEXTS)


async def test_a_server_that_cannot_is_not_ill(start: Start, client: Client) -> None:
    fake, endpoint = await start("llamacpp", "rerank")
    fake.script(Reply(kind="rerank", status=501))
    with pytest.raises(ModelFailed) as refused:
        await client.rerank(endpoint, QUERY, TEXTS)
    assert (refused.value.at_fault, refused.value.status) == (False, 501)
