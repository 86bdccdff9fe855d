"""Lists order and filter by what they offer and by nothing else, and a key of a JSON body is never a column."""

from __future__ import annotations

import json

import pytest

from apps.tenants.scoping import platform_unit
from tests import factories
from tests.abuse.conftest import bearer, send
from tests.apps.admin_world import logged_in, make_world
from tests.apps.conversations.conftest import World

PROBES = (
    "ordering=tenant__slug",
    "ordering=-id",
    "order_by=digest",
    "tenant={globex}",
    "tenant_id={globex}",
    "tenant__slug=globex",
    "tenant__slug__startswith=g",
    "assistant__tenant__api_keys__digest__startswith=a",
    "end_user__external_id__startswith=z",
    "id__in={globex}",
    "fields=digest",
    "select_related=tenant",
    "query=1) OR 1=1 --",
    "_connector=OR 1=1 OR",
    "_negated=1",
)


@pytest.mark.parametrize("place", ["conversations", "collections", "documents", "assistants"])
async def test_other_parameters_change_nothing(world: World, place: str) -> None:
    globex = await platform_unit(lambda: factories.make_tenant("other").pk)
    plain = json.loads((await send("GET", f"/api/v1/{place}", bearer(world.key))).body)
    for probe in PROBES:
        query = probe.format(globex=globex).replace(" ", "%20").encode()
        answer = await send("GET", f"/api/v1/{place}", bearer(world.key), query=query)
        assert (answer.status, json.loads(answer.body)) == (200, plain), probe


async def test_values_are_values(world: World) -> None:
    for value in ("guide' OR '1'='1", "guide%25", "__in", "$ne", "null", "*"):
        for name in ("assistant", "user"):
            query = f"{name}={value.replace(' ', '%20')}".encode()
            answer = await send("GET", "/api/v1/conversations", bearer(world.key), query=query)
            assert json.loads(answer.body)["results"] == [], value
        query = f"user=ada&q={value.replace(' ', '%20')}".encode()
        answer = await send("GET", "/api/v1/conversations", bearer(world.key), query=query)
        assert json.loads(answer.body)["results"] == [], value


async def test_json_keys_are_no_columns(world: World) -> None:
    headers = bearer(world.key) | {b"content-type": b"application/json"}
    for key in ("tenant__slug", "_connector", 'x") OR 1=1 --', "title__startswith", "assistant__tenant_id"):
        body = json.dumps({"assistant": "guide", "title": "mine", key: "globex"}).encode()
        answer = await send("POST", "/api/v1/conversations", headers, body)
        assert (answer.status, json.loads(answer.body)["title"]) == (201, "mine"), key


async def test_filters_of_a_search_are_no_columns(world: World) -> None:
    headers = bearer(world.key) | {b"content-type": b"application/json"}
    collection = await platform_unit(world.assistant.collections.get)
    asked = {"collection": collection.slug, "query": "pump"}
    plain = json.loads((await send("POST", "/api/v1/search", headers, json.dumps(asked).encode())).body)
    keys = (
        "tenant",
        "tenant_id",
        "tags__contains",
        "language",
        "stemming",
        "collection__tenant__slug",
        "$8",
        "' OR 1=1",
    )
    for key in keys:
        body = json.dumps({**asked, "filter": {key: "globex"}}).encode()
        answer = await send("POST", "/api/v1/search", headers, body)
        assert (answer.status, sorted(json.loads(answer.body)["fields"])) == (400, ["filter"]), key
        # Beside the question it is nothing at all.
        answer = await send("POST", "/api/v1/search", headers, json.dumps({**asked, key: "globex"}).encode())
        assert (answer.status, json.loads(answer.body)["results"]) == (200, plain["results"]), key


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("page", "probe"),
    [
        ("tenants/apikey", "digest__startswith=a"),
        ("tenants/apikey", "created_by__password__startswith=md5"),
        ("tenants/apikey", "tenant__memberships__user__password__startswith=md5"),
        ("conversations/conversation", "turns__question__text__startswith=a"),
        ("conversations/turn", "answer__text__contains=secret"),
        ("knowledge/document", "sha256__startswith=a"),
        ("knowledge/document", "collection__tenant__slug=globex"),
        ("assistants/assistant", "prompt__published__template__startswith=You"),
        ("usage/usagerecord", "api_key__digest__startswith=a"),
    ],
)
def test_an_address_of_the_admin_probes_no_column(page: str, probe: str) -> None:
    client = logged_in(make_world().alice)
    assert client.get(f"/admin/{page}/?{probe}").status_code == 400


@pytest.mark.django_db
def test_the_admin_orders_by_its_columns_alone() -> None:
    client = logged_in(make_world().alice)
    for order in ("digest", "99", "-99", "1,2", "tenant__slug", "1.password"):
        assert client.get(f"/admin/tenants/apikey/?o={order}").status_code == 200
