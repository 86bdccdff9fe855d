"""The OpenAPI document itself: complete, the same each time, and true to its own words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any
from uuid import uuid4

import pytest
import yaml
from django.test import AsyncClient
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from apps.edge.event_schemas import component_of, turn_events
from apps.edge.openapi import Generator
from apps.ops.api_examples import EXAMPLES
from apps.tenants import rights
from chatbot.events import Failed, Restarted, Source, Sources, Timings, Token, TurnFinished, TurnStarted, Usage

DOCUMENT: dict[str, Any] = Generator().fresh()
OPERATIONS = {
    operation["operationId"]: operation
    for operations in DOCUMENT["paths"].values()
    for operation in operations.values()
}
PUBLIC = {"create_page_visitor", "get_widget"}  # by their origin instead of a key
SOURCE = Source(1, str(uuid4()), str(uuid4()), "Manual", ["Spare parts"], None, "The seal.", 0.5)


PLAIN = json.loads(json.dumps(DOCUMENT, default=str))
REGISTRY = Registry().with_resource("urn:parley", Resource.from_contents(PLAIN, DRAFT202012))


def faults(schema: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with a value, by a schema that stands in the document."""
    schema = json.loads(json.dumps(schema, default=str).replace('"#/', '"urn:parley#/'))
    validator = Draft202012Validator(schema, registry=REGISTRY, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [error.message for error in validator.iter_errors(value)]


def bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each body of each operation, errors included."""
    for name, operation in OPERATIONS.items():
        responses = {**operation["responses"], "request": operation.get("requestBody", {})}
        for status, body in responses.items():
            if "$ref" in body:
                body = DOCUMENT["components"]["responses"][body["$ref"].rpartition("/")[2]]  # noqa: PLW2901
            for media_type, content in body.get("content", {}).items():
                yield f"{name} {status} {media_type}", content


def test_every_operation_says_what_a_client_needs() -> None:
    for name, operation in OPERATIONS.items():
        assert operation["summary"], name
        assert len(operation["summary"]) <= 100, name
        assert operation["description"], name
        assert len(operation["tags"]) == 1, name
        assert name.isidentifier(), name
        if name in PUBLIC:
            assert "security" not in operation, name
        else:
            (scope,) = operation["security"][0]["bearer"]
            assert operation["security"] == [{"bearer": [scope]}, {"x-api-key": [scope]}], name
            assert scope in rights.SCOPES, name
            assert "403" in operation["responses"], name
        assert {"401", "500", "503"} <= set(operation["responses"]), name
    assert len(OPERATIONS) == sum(len(operations) for operations in DOCUMENT["paths"].values())


def test_every_response_tells_its_request_id() -> None:
    for name, operation in OPERATIONS.items():
        for status, response in operation["responses"].items():
            if "$ref" in response:
                response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]  # noqa: PLW2901
            assert "X-Request-Id" in response["headers"], (name, status)


def test_every_body_has_an_example() -> None:
    missing = [
        where
        for where, content in bodies()
        if not where.endswith(("form-data", "octet-stream")) and not {"example", "examples"} & set(content)
    ]
    assert missing == [], "add them to apps/ops/api_examples.py"


def test_every_example_is_as_its_schema_says() -> None:
    checked = 0
    for where, content in bodies():
        for name, example in content.get("examples", {}).items():
            checked += 1
            assert faults(content["schema"], example["value"]) == [], (where, name)
    assert checked > len(OPERATIONS)


def test_no_example_is_of_a_body_that_is_gone() -> None:
    assert set(EXAMPLES) <= set(DOCUMENT["components"]["schemas"])


def test_an_example_that_lies_is_found() -> None:
    assert faults({"$ref": "#/components/schemas/Turn"}, {"id": 5})


@pytest.mark.parametrize(
    "event",
    [
        TurnStarted("t", "c", "q"),
        TurnStarted("t", None, "q"),
        Sources([SOURCE]),
        Token("x"),
        Restarted(2, 7),
        TurnFinished("t", "finished", "stop", "a", "text", Usage(1, 2), [SOURCE], Timings(1.0, None, 3.0)),
        Failed("model_failed", "It failed.", "t", "r"),
        Failed("model_busy", "Busy.", "t", "r", 5.0),
    ],
    ids=lambda event: event.type,
)
def test_events_are_as_their_schemas_say(event: Any) -> None:
    payload = json.loads(json.dumps(event.payload()))
    schema = {"$ref": f"#/components/schemas/{component_of(type(event))}"}
    assert faults(schema, payload) == []
    assert faults(schema, {})


def events_of(operation: str) -> dict[str, dict[str, Any]]:
    """The schemas of a stream's data, by the event's name."""
    schema = OPERATIONS[operation]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    return {
        block["properties"]["event"]["const"]: block["properties"]["data"]["contentSchema"] for block in schema["oneOf"]
    }


def test_every_event_of_a_turn_is_described() -> None:
    assert set(events_of("follow_turn")) == set(events_of("ask")) == {kind.type for kind in turn_events()}
    for kind in turn_events():
        shape = DOCUMENT["components"]["schemas"][component_of(kind)]
        assert set(shape["properties"]) == {field.name for field in fields(kind)}


@pytest.mark.parametrize("operation", ["ask", "follow_turn", "follow_document"])
def test_a_streams_example_is_made_of_its_events(operation: str) -> None:
    shapes = events_of(operation)
    example = OPERATIONS[operation]["responses"]["200"]["content"]["text/event-stream"]["example"]
    for block in example.strip().split("\n\n"):
        told = dict(line.split(": ", 1) for line in block.splitlines())
        assert faults(shapes[told["event"]], json.loads(told["data"])) == []


def test_the_document_is_the_same_each_time() -> None:
    assert json.dumps(Generator().fresh(), default=str) == json.dumps(DOCUMENT, default=str)


async def test_it_is_served_as_json_and_as_yaml(database: None) -> None:
    client = AsyncClient()
    as_json = await client.get("/api/schema", {"format": "json"})
    as_yaml = await client.get("/api/schema")
    assert as_json.json() == yaml.safe_load(as_yaml.content) == PLAIN
    assert b"swagger-ui" in (await client.get("/api/docs")).content
