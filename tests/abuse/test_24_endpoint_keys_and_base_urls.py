"""Abuse case 24: base URLs in a request are ignored; changing an endpoint's host clears its key."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apps.inference.models import Endpoint
from apps.knowledge.models import Collection
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.apps.admin_world import logged_in
from tests.apps.conversations.conftest import Api, World
from tests.apps.inference.test_admin import form_of
from tests.fakes.inference import FakeInference

KEY = "sk-meant-for-the-old-host"


@pytest.fixture
def endpoint(database: None) -> Endpoint:
    factories.make_endpoint("http://tgi:8080", name="chat", api_key=KEY)
    return Endpoint.objects.get(name="chat")


def stored_key() -> str:
    key: str = Endpoint.objects.get(name="chat").api_key
    return key


@pytest.mark.parametrize("url", ["http://evil.example", "http://tgi:8081", "https://tgi:8080", "http://tgi.evil:8080"])
def test_a_new_host_gets_no_old_key(endpoint: Endpoint, url: str) -> None:
    endpoint.base_url = url
    endpoint.save()
    assert (endpoint.api_key, stored_key()) == ("", "")


def test_nor_does_it_when_only_the_address_is_written(endpoint: Endpoint) -> None:
    endpoint.base_url = "http://evil.example"
    endpoint.save(update_fields=["base_url"])
    assert stored_key() == ""


def test_nor_through_a_query(endpoint: Endpoint) -> None:
    Endpoint.objects.filter(pk=endpoint.pk).update(base_url="http://evil.example")
    assert stored_key() == ""
    Endpoint.objects.filter(pk=endpoint.pk).update(base_url="http://tgi:8080", api_key="sk-new")
    assert stored_key() == "sk-new"


def test_nor_through_update_or_create(endpoint: Endpoint) -> None:
    Endpoint.objects.update_or_create(name="chat", defaults={"base_url": "http://evil.example"})
    assert stored_key() == ""


def test_nor_in_two_steps(endpoint: Endpoint) -> None:
    for url in ("http://evil.example", "http://tgi:8080"):
        endpoint.base_url = url
        endpoint.save()
    assert stored_key() == ""


def test_the_same_host_keeps_its_key(endpoint: Endpoint) -> None:
    endpoint.base_url = "http://TGI:8080/v1"
    endpoint.save()
    assert stored_key() == KEY


def test_a_key_given_with_the_new_address_stays(endpoint: Endpoint) -> None:
    operator = logged_in(factories.make_user("operator@example.com", is_superuser=True))
    for host in ("one", "two"):  # the second time it is the same text, but given anew
        save(operator, endpoint, base_url=f"http://{host}:8080", new_key="sk-new")
        assert stored_key() == "sk-new"


def test_the_admins_form_clears_it_too(endpoint: Endpoint) -> None:
    operator = logged_in(factories.make_user("operator@example.com", is_superuser=True))
    save(operator, endpoint, base_url="http://evil.example")
    assert stored_key() == ""


def save(operator: Client, endpoint: Endpoint, **changes: str) -> None:
    response = operator.post(
        reverse("admin:inference_endpoint_change", args=(endpoint.pk,)), form_of(endpoint, **changes)
    )
    assert response.status_code == 302


ELSEWHERE = ("base_url", "api_base", "endpoint", "api_key", "url", "proxy", "protocol", "model_url")


async def test_base_urls_in_a_request_are_ignored(world: World, api: Api) -> None:
    collection = await platform_unit(lambda: Collection.objects.for_tenant(world.tenant).get().slug)
    bodies: dict[str, dict[str, Any]] = {
        "/api/v1/conversations": {"assistant": "guide"},
        world.turns: {"text": "Prime the pump?"},
        "/api/v1/search": {"collection": collection, "query": "pump"},
        "/v1/chat/completions": {"model": "guide", "messages": [{"role": "user", "content": "Prime the pump?"}]},
    }
    async with FakeInference() as evil:
        for path, body in bodies.items():
            stray = dict.fromkeys(ELSEWHERE, evil.base_url)
            headers = {"x-base-url": evil.base_url, "openai-base-url": evil.base_url}
            response = await api.post(path, body | stray, content_type="application/json", headers=headers)
            assert response.status_code < 300, response.content
    assert not evil.requests
    assert len(world.fake.requests) >= 2  # the question, and what was searched for
