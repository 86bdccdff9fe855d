"""Abuse case 21, endpoints: no address leads into the operator's network unless the operator names its host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from asgiref.sync import sync_to_async
from django.test import Client, override_settings
from django.urls import reverse

from apps.inference.models import Endpoint
from apps.inference.probe import probe
from chatbot.addresses import REFUSED
from chatbot.errors import ModelFailed
from chatbot.inference.client import Client as ModelClient
from chatbot.inference.wire import ChatRequest, Message
from tests import factories
from tests.apps.admin_world import logged_in
from tests.apps.inference.test_admin import form_of
from tests.fakes.inference import FakeInference, make_endpoint

HOSTILE = [
    "http://127.0.0.1:6379",
    "http://10.0.0.1",
    "http://192.168.1.1",
    "http://172.16.0.1",
    "http://169.254.169.254/latest/meta-data",
    "http://100.64.0.1",
    "http://224.0.0.1",
    "http://0.0.0.0",
    "http://[::1]",
    "http://[::ffff:a9fe:a9fe]",
    "http://[64:ff9b::a9fe:a9fe]",
    "http://[2002:a9fe:a9fe::]",
    "http://[fd00::1]",
    "http://[fe80::1%25eth0]",
    "http://api.openai.com@169.254.169.254",
    "http://user:password@tgi:8080",
    "http://tgi\\@169.254.169.254",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
]
PROTOCOLS = ["openai", "vllm", "tgi", "tgi-generate", "llamacpp", "hf"]


@pytest.fixture(autouse=True)
def nothing_private() -> Iterator[None]:
    """As in production, where the list is empty unless an operator fills it."""
    with override_settings(PARLEY_PRIVATE_ENDPOINT_HOSTS=[]):
        yield


@pytest.mark.parametrize("url", HOSTILE)
def test_the_admin_stores_no_such_address(database: None, url: str) -> None:
    endpoint = factories.make_endpoint("https://api.example.com")
    operator: Client = logged_in(factories.make_user("operator@example.com", is_superuser=True))
    page = reverse("admin:inference_endpoint_change", args=(endpoint.pk,))
    response = operator.post(page, form_of(endpoint, base_url=url))
    assert response.status_code == 200
    assert response.context["errors"]
    assert Endpoint.objects.get(pk=endpoint.pk).base_url == "https://api.example.com"


def test_the_refusal_names_the_setting_that_allows_it(database: None) -> None:
    endpoint = factories.make_endpoint("https://api.example.com")
    operator = logged_in(factories.make_user("operator@example.com", is_superuser=True))
    page = reverse("admin:inference_endpoint_change", args=(endpoint.pk,))
    refused = operator.post(page, form_of(endpoint, base_url="http://10.0.0.1:8080"))
    assert "PARLEY_PRIVATE_ENDPOINT_HOSTS" in refused.content.decode()
    with override_settings(PARLEY_PRIVATE_ENDPOINT_HOSTS=["10.0.0.1"]):
        assert operator.post(page, form_of(endpoint, base_url="http://10.0.0.1:8080")).status_code == 302


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:7f00:1]"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_no_protocol_connects_there(protocol: str, host: str) -> None:
    """Whatever stands in the row: an address by number as well as a name that leads to one."""
    client = ModelClient()
    request = ChatRequest((Message("user", "Hello?"),), max_tokens=8)
    async with FakeInference() as fake:
        endpoint = make_endpoint(fake, base_url=f"http://{host}:{fake.port}", protocol=protocol, api_key="hf_x")
        with pytest.raises(ModelFailed, match=REFUSED):
            async for _ in client.chat(endpoint, request):
                pass
    await client.close()
    assert not fake.requests


@pytest.mark.parametrize("protocol", ["openai", "tei", "hf"])
async def test_nor_does_embedding_or_looking(protocol: str) -> None:
    client = ModelClient()
    async with FakeInference() as fake:
        endpoint = make_endpoint(
            fake, base_url=f"http://localhost:{fake.port}", protocol=protocol, kind="embedding", api_key="hf_x"
        )
        with pytest.raises(ModelFailed, match=REFUSED):
            await client.embed(endpoint, ["a"], input_type="query")
        with pytest.raises(ModelFailed, match=REFUSED):
            await client.look(endpoint)
    await client.close()
    assert not fake.requests


async def test_the_test_of_an_endpoint_does_not_either(database: None) -> None:
    async with FakeInference() as fake:
        row = await sync_to_async(factories.make_endpoint)(fake.base_url)
        assert "PARLEY_PRIVATE_ENDPOINT_HOSTS" in (await probe(row)).error
    assert not fake.requests
