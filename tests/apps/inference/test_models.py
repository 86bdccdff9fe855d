"""Endpoint rows: which combinations exist, which addresses are accepted, and who receives the key."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import override_settings

from apps.inference.gateway import engine_endpoint
from apps.inference.models import Endpoint
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "fields",
    [
        {"protocol": "smoke"},
        {"protocol": "tei"},
        {"protocol": "tgi", "kind": "embedding"},
        {"protocol": "tgi", "kind": "rerank"},
        {"kind": "smell"},
        {"protocol": "tgi-generate", "kind": "embedding"},
        {"base_url": ""},
        {"base_url": "", "protocol": "vllm"},
    ],
    ids=str,
)
def test_what_cannot_work_cannot_be_stored(fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        factories.make_endpoint(**{"base_url": "http://tgi:8080", **fields})


def test_hugging_face_needs_no_address() -> None:
    row = factories.make_endpoint("", protocol="hf", model="org/model:together")
    row.full_clean()
    assert engine_endpoint(row).protocol == "hf"


@pytest.mark.parametrize("protocol", ["openai", "vllm", "llamacpp", "tei", "hf"])
def test_those_that_can_rerank_may(protocol: str) -> None:
    row = factories.make_endpoint("http://tei:8080", protocol=protocol, kind="rerank")
    assert engine_endpoint(row).kind == "rerank"


def test_an_endpoint_from_before_speaks_openais_protocol() -> None:
    assert factories.make_endpoint().protocol == Endpoint.Protocol.OPENAI


@override_settings(PARLEY_PRIVATE_ENDPOINT_HOSTS=["10.0.0.7", "tgi"])
def test_named_hosts_may_be_private() -> None:
    for url in ("http://10.0.0.7:8080", "http://tgi:8080", "https://api.example.com/v1"):
        Endpoint(name="a", model="m", base_url=url).full_clean(exclude=["tenants"])
    with pytest.raises(ValidationError, match="PARLEY_PRIVATE_ENDPOINT_HOSTS"):
        Endpoint(name="a", model="m", base_url="http://10.0.0.8:8080").full_clean(exclude=["tenants"])
