"""The API takes what its schema says and nothing that merely looks like it."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import AsyncClient, Client
from rest_framework import serializers

from apps.edge.fields import Number, Text, Truth
from apps.tenants.scoping import platform_unit
from tests import factories


class Asked(serializers.Serializer[Any]):
    text = Text(required=False)
    limit = Number(required=False)
    enabled = Truth(required=False)


@pytest.mark.parametrize(
    "sent",
    [
        {"text": 5},
        {"text": True},
        {"text": ["a"]},
        {"limit": "5"},
        {"limit": True},
        {"limit": 5.5},
        {"enabled": 1},
        {"enabled": "yes"},
    ],
)
def test_what_is_of_another_type_is_refused(sent: dict[str, Any]) -> None:
    asked = Asked(data=sent)
    assert not asked.is_valid()
    assert set(asked.errors) == set(sent)


@pytest.mark.parametrize("sent", [{"text": "5"}, {"limit": 5}, {"limit": 5.0}, {"enabled": False}])
def test_what_is_of_its_type_is_taken(sent: dict[str, Any]) -> None:
    asked = Asked(data=sent)
    assert asked.is_valid()
    assert asked.validated_data == sent


@pytest.mark.parametrize(
    ("limit", "status"), [("", 400), ("0", 400), ("-1", 400), ("many", 400), ("²", 400), ("1", 200)]
)
def test_a_page_has_a_number_of_rows(db: None, limit: str, status: int) -> None:
    client = Client(headers={"Authorization": f"Bearer {factories.make_key(tenant=factories.make_tenant())}"})
    response = client.get("/api/v1/collections", {"limit": limit})
    assert response.status_code == status, response.content


def test_a_page_has_two_hundred_rows_at_most(db: None) -> None:
    tenant = factories.make_tenant()
    index = factories.make_index(tenant=tenant)
    for _ in range(201):
        factories.make_collection(tenant=tenant, index=index)
    client = Client(headers={"Authorization": f"Bearer {factories.make_key(tenant=tenant)}"})
    for limit in ("201", "9" * 5000):
        assert len(client.get("/api/v1/collections", {"limit": limit}).json()["results"]) == 200


async def test_a_refused_method_is_told_which_are_not(database: None) -> None:
    tenant = await platform_unit(factories.make_tenant)
    key = await platform_unit(lambda: factories.make_key(tenant=tenant))
    for path, allowed in (("search", "POST"), ("usage", "GET, HEAD, OPTIONS")):
        response = await AsyncClient().delete(f"/api/v1/{path}", headers={"Authorization": f"Bearer {key}"})
        assert (response.status_code, response["Allow"]) == (405, allowed)
        assert response.json()["code"] == "method_not_allowed"
