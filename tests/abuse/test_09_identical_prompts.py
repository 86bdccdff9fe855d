"""Identical questions to identical assistants of two tenants share no answer, no passage and no cache entry."""

from __future__ import annotations

import asyncio

from apps.inference.models import Endpoint
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.apps.conversations.conftest import Api, World
from tests.fakes.inference import embedding

TEMPLATE = "You are {{ assistant }} of {{ tenant }}.\n{{ passages }}"
QUESTION = "How is the pump started?"


def make_twin(tenant: Tenant, base_url: str) -> tuple[str, str]:
    """The same slug, name, template and question in each tenant; only the passage differs. A key and a conversation."""
    endpoint = factories.make_endpoint(base_url, kind=Endpoint.Kind.EMBEDDING)
    collection = factories.make_collection(
        tenant=tenant, index=factories.make_index(tenant=tenant, endpoint=endpoint), slug="twin", name="Twin"
    )
    document = factories.make_document(tenant=tenant, collection=collection, title="Manual", sha256="0" * 64)
    text = f"The pump of {tenant.slug} is started."
    factories.make_passage(tenant=tenant, document=document, text=text, vector=embedding(text), digest="0" * 64)
    assistant = factories.make_assistant(
        tenant=tenant,
        collections=(collection,),
        slug="twin",
        name="Twin",
        prompt=factories.make_prompt(tenant=tenant, template=TEMPLATE, name="Twin"),
    )
    person = factories.make_end_user(tenant=tenant, external_id="zoe")
    conversation = factories.make_conversation(tenant=tenant, assistant=assistant, end_user=person)
    return factories.make_key(tenant=tenant), str(conversation.pk)


async def test_twins_share_nothing(world: World) -> None:
    tenants = await platform_unit(lambda: list(Tenant.objects.filter(slug__in=["acme", "globex"]).order_by("slug")))
    twins = [await platform_unit(make_twin, tenant, world.fake.base_url) for tenant in tenants]

    async def ask(key: str, conversation: str) -> str:
        url = f"/api/v1/conversations/{conversation}/turns"
        response = await Api(key).ask(url, QUESTION, **{"Idempotency-Key": "the same"})
        assert response.status_code == 200
        return str(response.json())

    for _ in range(2):  # the second time everything that is cached is warm
        first, second = await asyncio.gather(*(ask(*twin) for twin in twins))
        assert "acme" in first
        assert "globex" not in first
        assert "globex" in second
        assert "acme" not in second
    prompts = [str(request.payload["messages"]) for request in world.fake.requests if "messages" in request.payload]
    assert len(prompts) == 2, "the repeats were answered from each tenant's own turn"
    assert sorted("acme" in prompt for prompt in prompts) == [False, True]
    assert not any("acme" in prompt and "globex" in prompt for prompt in prompts)
