"""The JSON schemas of the events of a stream, read off the dataclasses that are sent, so that they cannot differ."""

from __future__ import annotations

import types
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from chatbot import events
from chatbot.events import Event

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}
# Events leave these out where there is nothing to say.
_OPTIONAL = {"retry_after", "waking"}


def component_of(kind: type[Event]) -> str:
    """`turn.finished` is described by the component TurnFinishedEvent."""
    return f"{kind.__name__}Event"


def turn_events() -> list[type[Event]]:
    """Those of a turn, which the engine defines; an app may have streams of its own."""
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    return [kind for kind in kinds if kind is not Event]


def event_component(kind: type[Event]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split()),
        "properties": {field.name: _schema(hints[field.name]) for field in fields(kind)},
        "required": [field.name for field in fields(kind) if not _may_be_missing(field)],
    }


def _may_be_missing(field: Field[Any]) -> bool:
    return field.name in _OPTIONAL and field.default is not MISSING


def _schema(hint: Any) -> dict[str, Any]:
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if is_dataclass(hint) and isinstance(hint, type):
        # What events are made of has the shape that the rest of the API gives it: Source, Usage, Timings.
        return {"$ref": f"#/components/schemas/{hint.__name__}"}
    if get_origin(hint) is list:
        return {"type": "array", "items": _schema(*get_args(hint))}
    if get_origin(hint) is types.UnionType:
        (inner,) = (argument for argument in get_args(hint) if argument is not types.NoneType)
        return {"anyOf": [_schema(inner), {"type": "null"}]}
    return {"type": "object", "additionalProperties": True}


def stream_schema(kinds: list[type[Event]]) -> dict[str, Any]:
    """Each event of a stream that can be come back to: its name says of which schema its data is."""
    cursor = {"id": {"type": "string", "description": "A cursor to come back with."}}
    return {"oneOf": [event_block(kind.type, component_of(kind), **cursor) for kind in kinds]}


def event_block(name: str, component: str, **more: Any) -> dict[str, Any]:
    """An event whose data is JSON as `component` describes it; `more` are other fields that it has."""
    data = {"$ref": f"#/components/schemas/{component}"}
    return {
        "type": "object",
        "title": name,
        "properties": {
            **more,
            "event": {"const": name},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data},
        },
        "required": ["event", "data"],
    }
