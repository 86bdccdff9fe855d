"""Dedicated Inference Endpoints: which a token's owner has, and starting one that sleeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chatbot.errors import ModelError, ModelFailed, ModelUnavailable
from chatbot.inference import hub
from chatbot.inference.waking import Dedicated
from tests.fakes.hub import TOKEN, FakeHub, Kept
from tests.fakes.inference import make_endpoint

HOST = "https://abc.eu-west-1.aws.endpoints.huggingface.cloud"


@pytest.fixture
async def there(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeHub]:
    kept = [
        Kept("acme/sleeper", HOST, "scaledToZero"),
        Kept("alice/awake", HOST.replace("abc", "def"), "running", "org/embedder", "sentence-embeddings"),
    ]
    async with FakeHub(*kept) as fake:
        fake.point_at(monkeypatch)
        yield fake


def sleeper(**fields: Any) -> Any:
    return make_endpoint(None, **{"base_url": f"{HOST}/v1", "protocol": "hf", "api_key": TOKEN, **fields})


async def test_those_of_the_owner_and_of_organisations_are_listed(there: FakeHub) -> None:
    assert await hub.owned(TOKEN) == [
        Dedicated("alice/awake", "org/embedder", "sentence-embeddings", "running", HOST.replace("abc", "def")),
        Dedicated("acme/sleeper", "org/model", "text-generation", "scaledToZero", HOST),
    ]


async def test_where_the_token_may_not_look_the_rest_is_listed(there: FakeHub) -> None:
    there.refused = {"acme"}
    assert [found.full_name for found in await hub.owned(TOKEN)] == ["alice/awake"]


async def test_one_that_is_paused_has_no_address(there: FakeHub) -> None:
    there.kept[0].state = "paused"
    assert [found.url for found in await hub.owned(TOKEN)][1] == ""


async def test_an_endpoint_scaled_to_zero_is_started_by_its_address(there: FakeHub) -> None:
    assert (await hub.start(sleeper())).state == "pending"
    assert there.asked[-1] == "POST /endpoint/acme/sleeper/resume"


async def test_a_paused_one_is_started_by_its_name(there: FakeHub) -> None:
    there.kept[0].state = "paused"
    with pytest.raises(ModelFailed, match="no Inference Endpoint at this address"):
        await hub.start(sleeper())
    assert (await hub.start(sleeper(hub_name="acme/sleeper"))).state == "pending"
    assert there.resumed == 1


async def test_one_that_runs_is_left_alone(there: FakeHub) -> None:
    there.kept[0].state = "running"
    assert (await hub.start(sleeper())).state == "running"
    assert there.resumed == 0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"base_url": "https://other.endpoints.huggingface.cloud"}, "no Inference Endpoint at this address"),
        ({"hub_name": "acme/gone"}, "no Inference Endpoint at this address"),
        ({"api_key": "hf_wrong"}, "does not let this token"),
        ({"api_key": "hf_grün"}, "does not let this token"),
        ({"api_key": ""}, "asks for a token"),
    ],
)
async def test_what_cannot_be_started_says_why(there: FakeHub, fields: dict[str, str], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        await hub.start(sleeper(**fields))


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_hub_that_is_out_of_order_is_not_the_tokens_fault(there: FakeHub, status: int) -> None:
    there.status = status
    with pytest.raises(ModelUnavailable, match="out of order"):
        await hub.owned(TOKEN)
