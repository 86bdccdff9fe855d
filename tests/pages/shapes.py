"""Whether the JSON that a page shows has the shape of what Parley really says.

A page may shorten: a string by `…`, a list by leaving elements out, an object by a member `"…": "…"`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import jsonschema  # type: ignore[import-untyped]
from drf_spectacular.generators import SchemaGenerator

from apps.conversations.serializers import AgainSerializer, AskSerializer
from apps.edge.errors import STATUS_OF_CODE
from apps.edge.schema import ErrorSerializer
from chatbot import events

MORE = "…"
_EVENTS = {
    kind.type: kind for kind in vars(events).values() if isinstance(kind, type) and hasattr(kind, "type")
}  # by the word that clients see
_SENT: dict[str, set[str]] = {
    "auth": {"key"},
    "ready": {"tenant"},
    "ask": {"conversation", "assistant", *AskSerializer().get_fields()},
    "regenerate": {"turn", *AgainSerializer().get_fields()},
    "continue": {"turn", *AgainSerializer().get_fields()},
    "stop": {"turn"},
    "resume": {"turn", "after"},
}
_COMPUTED = {events.Usage: {"total_tokens"}}  # what an event's JSON has beside the fields


def values_in(text: str) -> list[Any]:
    """The JSON objects in a command's output, whatever stands between them."""
    decoder, found, place = json.JSONDecoder(), [], 0
    while start := re.compile(r"^[{\[]", re.MULTILINE).search(text, place):
        try:
            value, place = decoder.raw_decode(text, start.start())
        except ValueError:  # a list of the shell's, not of JSON
            place = start.end()
        else:
            found.append(value)
    return found


def whole_values_in(text: str) -> list[Any]:
    """JSON values one after the other, and nothing else. Raises ValueError."""
    decoder, found, rest = json.JSONDecoder(), [], text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].strip()
    return found


def check_claim(value: Any) -> None:
    """Frames are known by their type and errors by their code; of anything else a page has to say what it is."""
    assert isinstance(value, dict), value
    if (sent := _SENT.get(value.get("type", ""))) is not None:
        assert value.keys() <= {"type"} | sent, value
    elif "type" in value and (value["type"] != "error" or "id" in value):
        check_event(value["type"], value)
    else:
        assert {"code", "message"} <= value.keys(), f"Say what this is with a comment before the block: {value}"
        assert value["code"] in {*STATUS_OF_CODE, "internal"}
        assert value.keys() <= {"type", *ErrorSerializer().get_fields()}, value


def check_stream(text: str) -> None:
    """Server-sent events as they go over the wire: each with its cursor, a known name, and the data of that event."""
    for shown in text.strip().split("\n\n"):
        if shown.startswith(":"):  # a heartbeat
            continue
        fields = dict(line.split(": ", 1) for line in shown.splitlines())
        assert fields.keys() - {"retry"} == {"id", "event", "data"}, shown
        events.Cursor.parse(fields["id"])
        check_event(fields["event"], json.loads(fields["data"]))


def check_event(name: str, shown: dict[str, Any]) -> None:
    """An event's JSON, with what the transports add to it: over WebSocket its type, its place and its turn."""
    assert name in _EVENTS, name
    kind = _EVENTS[name]
    own = {field.name for field in dataclasses.fields(kind)}
    added = {"type", "id", "turn", "client_id"} - own
    check_fits({key: value for key, value in shown.items() if key not in added}, kind)


def check_fits(shown: Any, annotation: Any) -> None:
    """JSON against a type of the engine's. Raises AssertionError."""
    kind = get_origin(annotation) or annotation
    if kind is UnionType:
        options = get_args(annotation)
        if shown is None:
            assert type(None) in options
        else:
            check_fits(shown, next(option for option in options if option is not type(None)))
    elif kind is list:
        for element in shown:
            check_fits(element, get_args(annotation)[0])
    elif dataclasses.is_dataclass(kind):
        _check_fields(shown, kind)
    elif annotation is not Any:
        assert isinstance(shown, (int, float) if kind is float else kind), f"{shown!r} is no {kind.__name__}"


def _check_fields(shown: dict[str, Any], kind: Any) -> None:
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    needed = {name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING}
    unknown = shown.keys() - fields.keys() - _COMPUTED.get(kind, set()) - {MORE}
    assert not unknown, f"{kind.__name__} has no {unknown}"
    assert MORE in shown or needed <= shown.keys(), f"{kind.__name__} without {needed - shown.keys()}"
    for name in shown.keys() & fields.keys():
        check_fits(shown[name], hints[name])


def check_component(shown: Any, component: str) -> None:
    """JSON against a component of the OpenAPI schema. Raises jsonschema.ValidationError."""
    shortened = MORE in json.dumps(shown, ensure_ascii=False)
    schema = {"$ref": f"#/components/schemas/{component}", "components": _components(strict=not shortened)}
    jsonschema.validate(_without_more(shown), schema)


@cache
def _components(*, strict: bool) -> Any:
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return _as_json_schema(schema["components"], strict=strict)


def _as_json_schema(node: Any, *, strict: bool) -> Any:
    """OpenAPI 3.0's `nullable` in JSON Schema's words, and no members that the schema does not name."""
    if isinstance(node, list):
        return [_as_json_schema(element, strict=strict) for element in node]
    if not isinstance(node, dict):
        return node
    said = {key: _as_json_schema(value, strict=strict) for key, value in node.items()}
    if said.get("type") == "object" and "properties" in said:
        said.setdefault("additionalProperties", False)
        if not strict:
            said.pop("required", None)
    return {"anyOf": [said, {"type": "null"}]} if said.pop("nullable", False) is True else said


def _without_more(shown: Any) -> Any:
    if isinstance(shown, dict):
        return {key: _without_more(value) for key, value in shown.items() if key != MORE}
    return [_without_more(element) for element in shown] if isinstance(shown, list) else shown


def differences(shown: Any, said: Any, where: str = "$") -> Iterator[str]:
    """Where the JSON of a page differs from what was really said, in names and types; null stands for any type."""
    if shown is None or said is None:
        return
    if _kind(shown) is not _kind(said):
        yield f"{where} is shown as {shown!r:.60} and is {said!r:.60}"
    elif isinstance(shown, dict):
        if names := [name for name in shown.keys() - said.keys() if name != MORE]:
            yield f"{where} has no {', '.join(names)}"
        if MORE not in shown and (names := list(said.keys() - shown.keys())):
            yield f"{where} has {', '.join(names)} too"
        for name in shown.keys() & said.keys():
            yield from differences(shown[name], said[name], f"{where}.{name}")
    elif isinstance(shown, list):
        yield from _list_differences(shown, said, where)


def _list_differences(shown: list[Any], said: list[Any], where: str) -> Iterator[str]:
    """Each element that is shown is like one that was said."""
    if shown and not said:
        yield f"{where} is shown with elements and is empty"
    for element in shown if said else []:
        found = [list(differences(element, other, f"{where}[]")) for other in said]
        yield from min(found, key=len)


def _kind(value: Any) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)
