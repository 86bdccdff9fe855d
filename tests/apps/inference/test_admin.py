"""Endpoints in the admin: their keys are written and never shown, and a test is one real request."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async
from django.test import Client
from django.urls import reverse

from apps.inference.models import Endpoint
from apps.inference.probe import last_probed, probe
from tests import factories
from tests.apps.admin_world import logged_in
from tests.fakes.dialects import VLLM
from tests.fakes.huggingface import TEI, TEIReranker
from tests.fakes.inference import DIMENSION, FakeInference, Reply

SECRET = "sk-never-shown-again"


@pytest.fixture
def client(database: None) -> Client:
    return logged_in(factories.make_user("operator@example.com", is_superuser=True))


def form_of(endpoint: Endpoint, **changes: str) -> dict[str, str]:
    return {
        "name": endpoint.name,
        "kind": endpoint.kind,
        "protocol": endpoint.protocol,
        "base_url": endpoint.base_url,
        "model": endpoint.model,
        "context_length": str(endpoint.context_length),
        "first_token_seconds": str(endpoint.first_token_seconds),
        "dimension": str(endpoint.dimension or ""),
        "enabled": "on",
        **factories.ENDPOINT_LIMITS,
        **changes,
    }


def save(client: Client, endpoint: Endpoint, **changes: str) -> Endpoint:
    response = client.post(
        reverse("admin:inference_endpoint_change", args=(endpoint.pk,)), form_of(endpoint, **changes)
    )
    assert response.status_code == 302, response.context["errors"]
    return Endpoint.objects.get(pk=endpoint.pk)


def test_key_is_never_shown(client: Client) -> None:
    endpoint = factories.make_endpoint(api_key=SECRET)
    text = client.get(reverse("admin:inference_endpoint_change", args=(endpoint.pk,))).content.decode()
    assert "A key is set" in text
    assert SECRET not in text
    assert SECRET not in client.get(reverse("admin:inference_endpoint_changelist")).content.decode()


def test_blank_keeps_the_key(client: Client) -> None:
    endpoint = factories.make_endpoint("http://tgi:8080", api_key=SECRET)
    assert save(client, endpoint, base_url="http://tgi:8080/v1").api_key == SECRET


@pytest.mark.parametrize("url", ["http://elsewhere:8080", "http://tgi:8081", "https://tgi:8080"])
def test_another_host_does_not_get_the_key(client: Client, url: str) -> None:
    endpoint = factories.make_endpoint("http://tgi:8080", api_key=SECRET)
    assert save(client, endpoint, base_url=url).api_key == ""
    assert save(client, endpoint, base_url="http://tgi:8080", new_key="sk-new").api_key == "sk-new"


def test_key_can_be_removed(client: Client) -> None:
    endpoint = factories.make_endpoint(api_key=SECRET)
    assert save(client, endpoint, forget_key="on").api_key == ""


def test_embedding_endpoint_needs_a_dimension(client: Client) -> None:
    endpoint = factories.make_endpoint(kind=Endpoint.Kind.EMBEDDING)
    url = reverse("admin:inference_endpoint_change", args=(endpoint.pk,))
    response = client.post(url, form_of(endpoint, dimension=""))
    assert "needs the dimension" in response.content.decode()


def test_a_reranking_endpoint_has_no_dimension(client: Client) -> None:
    endpoint = factories.make_endpoint(protocol="vllm")
    saved = save(client, endpoint, kind="rerank", dimension="384")
    assert (saved.kind, saved.dimension) == ("rerank", None)
    assert "Reranking" in client.get(reverse("admin:inference_endpoint_changelist")).content.decode()


async def test_a_test_shows_the_scores(database: None) -> None:
    async with FakeInference(dialect=TEIReranker()) as fake:

        def shown() -> str:
            row = factories.make_endpoint(fake.base_url, kind="rerank", protocol="tei")
            operator = logged_in(factories.make_user("operator@example.com", is_superuser=True))
            url = reverse("admin:inference_endpoint_test_now", args=(row.pk,))
            return operator.post(url, {"_form_submitted": "1"}).content.decode()

        page = await sync_to_async(shown)()
    assert "Score of a text that fits" in page
    assert "First token" not in page


async def test_probe_measures_a_generation(database: None) -> None:
    async with FakeInference() as fake:
        fake.script(Reply(tokens=["Books", " for", " all."], first_delay=0.05, delay=0.02))
        row = await sync_to_async(factories.make_endpoint)(fake.base_url)
        result = await probe(row)
    assert result.error == ""
    assert result.words == "Books for all."
    assert result.first_ms is not None
    assert 50 <= result.first_ms < result.total_ms
    assert result.tokens_per_second == pytest.approx(2000 / (result.total_ms - result.first_ms))


async def test_probe_finds_the_dimension(database: None) -> None:
    async with FakeInference() as fake:
        row = await sync_to_async(factories.make_endpoint)(
            fake.base_url, kind=Endpoint.Kind.EMBEDDING, dimension=DIMENSION
        )
        assert (await probe(row)).dimension == DIMENSION
        row.dimension = 768
        assert "384 dimensions where 768" in (await probe(row)).error


async def test_probe_says_what_is_wrong(database: None) -> None:
    async with FakeInference() as fake:
        fake.script(Reply(status=401))
        row = await sync_to_async(factories.make_endpoint)(fake.base_url)
        assert "does not accept our key" in (await probe(row)).error
    assert "cannot be reached" in (await probe(row)).error


async def test_test_now_runs_on_post_only_and_is_remembered(database: None) -> None:
    async with FakeInference() as fake:

        def opened() -> tuple[Client, Endpoint, str]:
            row = factories.make_endpoint(fake.base_url)
            operator = logged_in(factories.make_user("operator@example.com", is_superuser=True))
            return operator, row, reverse("admin:inference_endpoint_test_now", args=(row.pk,))

        operator, row, url = await sync_to_async(opened)()
        await sync_to_async(operator.get)(url)
        assert fake.requests == []
        assert await sync_to_async(last_probed)([row]) == {}
        response = await sync_to_async(operator.post)(url, {"_form_submitted": "1"})
        assert "works." in response.content.decode()
        assert len(fake.requests) == 1
        assert (await sync_to_async(last_probed)([row]))[str(row.pk)].ok


async def test_what_the_server_says_is_taken_over_on_post_only(database: None) -> None:
    async with FakeInference(dialect=VLLM(context_length=2048)) as fake:

        def opened() -> tuple[Client, Endpoint, str]:
            row = factories.make_endpoint(fake.base_url, protocol="vllm")
            operator = logged_in(factories.make_user("operator@example.com", is_superuser=True))
            return operator, row, reverse("admin:inference_endpoint_adopt", args=(row.pk,))

        operator, row, url = await sync_to_async(opened)()
        await sync_to_async(operator.get)(url)
        await sync_to_async(row.refresh_from_db)()
        assert row.context_length == 8192
        response = await sync_to_async(operator.post)(url, {"_form_submitted": "1"})
        assert "2,048 tokens" in response.content.decode()
        await sync_to_async(row.refresh_from_db)()
        assert row.context_length == 2048
        assert (
            "Nothing to change" in (await sync_to_async(operator.post)(url, {"_form_submitted": "1"})).content.decode()
        )


async def test_a_wrong_dimension_is_taken_over(database: None) -> None:
    async with FakeInference(dialect=TEI()) as fake:

        def adopted() -> int | None:
            row = factories.make_endpoint(fake.base_url, kind="embedding", protocol="tei", dimension=768)
            operator = logged_in(factories.make_user("operator@example.com", is_superuser=True))
            url = reverse("admin:inference_endpoint_adopt", args=(row.pk,))
            operator.post(url, {"_form_submitted": "1"})
            row.refresh_from_db()
            return row.dimension

        assert await sync_to_async(adopted)() == DIMENSION


def test_only_a_dedicated_endpoint_of_hugging_face_can_be_woken(client: Client) -> None:
    rows = {
        "dedicated": factories.make_endpoint("https://abc.endpoints.huggingface.cloud", protocol="hf"),
        "providers": factories.make_endpoint("", protocol="hf"),
        "other": factories.make_endpoint("https://api.example.com"),
    }
    offered = {
        name
        for name, row in rows.items()
        if "Wake it up" in client.get(reverse("admin:inference_endpoint_change", args=(row.pk,))).content.decode()
    }
    assert offered == {"dedicated"}
    refused = client.post(
        reverse("admin:inference_endpoint_wake_up", args=(rows["other"].pk,)), {"_form_submitted": "1"}
    )
    assert refused.status_code == 403


def test_waking_without_a_token_says_what_is_missing(client: Client) -> None:
    row = factories.make_endpoint("https://abc.endpoints.huggingface.cloud", protocol="hf")
    url = reverse("admin:inference_endpoint_wake_up", args=(row.pk,))
    assert "asks for a token" in client.post(url, {"_form_submitted": "1"}).content.decode()


def test_the_form_explains_every_protocol(client: Client) -> None:
    text = client.get(reverse("admin:inference_endpoint_add")).content.decode()
    for value, label in Endpoint.Protocol.choices:
        assert f'value="{value}"' in text
        assert f"{label}:" in text
