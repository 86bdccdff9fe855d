"""The OpenAPI schema's generator: what is alike for every route is said here once, so that a view says its own only."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema

from apps.edge.errors import STATUS
from apps.edge.event_schemas import component_of, event_component, stream_schema, turn_events
from apps.edge.schema import IDEMPOTENCY_KEY, MEANINGS
from chatbot.errors import ExtractionFailed, ParleyError

PREFIX = "/api/v1"
REQUEST_ID = "e641f664db314e61"  # in examples
TAGS = {
    "assistants": "Assistants",
    "conversations": "Conversations",
    "turns": "Turns",
    "collections": "Collections",
    "documents": "Documents",
    "search": "Search",
    "usage": "Usage",
    "webhooks": "Webhooks",
    "feedback": "Conversations",
    "visitors": "Visitors",
    "widget": "Visitors",
    "share": "Conversations",
    "handoff": "Conversations",
}
ABOUT = """Ask assistants, manage the documents that they answer from, search.

**Authentication.** `Authorization: Bearer <key>`, or the same key as `x-api-key`. Operators issue keys in the admin. A
key belongs to one tenant; what belongs to another one answers 404, as what does not exist. Each operation takes one
scope of the key, which its security requirement names; without it the answer is 403.

**Errors** have one body whatever their status: a `code` for programs, a `message` for people, the `request_id`.

**Lists** are pages: follow `next` until it is null.

**Events.** Where a route answers `text/event-stream`, the response's schema is that of one event: its `id` (a cursor to
come back with), its name, and a JSON object whose schema goes by the name. The same events come over the WebSocket
`/ws/chat`, whose frames are described in `docs/websocket.md`."""
_VERBS = {"GET": "get", "PATCH": "update", "PUT": "replace", "DELETE": "delete"}
_RETRY_LATER = {"429", "503"}
HEADERS = {
    "X-Request-Id": {
        "description": "Names this request in Parley's log; your own, if you sent one of 8 to 64 letters and digits.",
        "schema": {"type": "string"},
        "example": REQUEST_ID,
    },
    "Retry-After": {
        "description": "Seconds after which asking again may succeed, where that is known.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 5,
    },
    "RateLimit": {
        "description": "Of each limit what is left, `r`, and in how many seconds all of it is there again, `t`. Where a"
        " question is asked it tells of what may be used, too.",
        "schema": {"type": "string"},
        "example": '"address";r=1987;t=1, "credential";r=1999;t=1',
    },
    "RateLimit-Policy": {
        "description": "Of each limit how much it allows at once, `q`, of what, `qu`, requests unless told, and in how"
        " many seconds it is there again, `w`.",
        "schema": {"type": "string"},
        "example": '"address";q=2000;w=20, "credential";q=2000;w=20',
    },
    "Idempotent-Replayed": {
        "description": "`true` where the request was sent before, with the same idempotency key.",
        "schema": {"type": "string", "enum": ["true"]},
        "example": "true",
    },
    "WWW-Authenticate": {
        "description": "How to authenticate.",
        "schema": {"type": "string"},
        "example": 'Bearer realm="parley"',
    },
}


class Schema(AutoSchema):
    """Names an operation as a client's method would be, and adds the refusals that follow from its shape."""

    def get_operation_id(self) -> str:
        parts = self._parts()
        if parts and parts[-1].startswith("{"):
            return f"{_VERBS.get(self.method, self.method.lower())}_{_singular(parts[-2])}"
        nouns = [part for part in parts if not part.startswith("{")]
        if self.method == "GET":
            return f"list_{nouns[-1]}"
        return f"create_{_singular(nouns[-1])}" if len(nouns) == 1 else f"{nouns[-1]}_{_singular(nouns[-2])}"

    def get_tags(self) -> list[str]:
        parts = self._parts()
        known = [TAGS[part] for part in parts if part in TAGS]
        return known[-1:] or parts[:1]

    def get_summary(self) -> str:
        """The first sentence of the description, which is plain text here."""
        plain = " ".join(self.get_description().replace("`", "").split())
        return re.split(r"(?<=\w)[.;](?:\s|$)", plain, maxsplit=1)[0].rstrip(".")

    def get_operation(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(path, *args, **kwargs)
        if operation is None:
            return None
        responses: dict[str, Any] = operation["responses"]
        if path.startswith(f"{PREFIX}/"):
            for status in _refusals(path, operation):
                if responses.get(status, {}).get("description", MEANINGS[int(status)]) == MEANINGS[int(status)]:
                    responses[status] = {"$ref": f"#/components/responses/{_name(status)}"}
            _describe_errors(responses)
            _describe_events(responses)
        for status, response in responses.items():
            if "$ref" not in response:
                replayed = status.startswith("2") and _is_repeatable(operation)
                names = [*_headers_of(status), *(["Idempotent-Replayed"] if replayed else [])]
                response["headers"] = {**_headers(names), **response.get("headers", {})}
        operation["responses"] = dict(sorted(responses.items()))
        return operation

    def _parts(self) -> list[str]:
        """The path's segments below the prefix."""
        return [part for part in self.path.removeprefix(PREFIX).split("/") if part]


def _singular(noun: str) -> str:
    return noun.removesuffix("s")


def _name(status: str) -> str:
    return f"Error{status}"


def _refusals(path: str, operation: dict[str, Any]) -> list[str]:
    """The statuses that follow from a route's shape."""
    found = ["400", "401", "406", "429", "500", "503"]
    listed = any(parameter["name"] == "cursor" for parameter in operation.get("parameters", ()))
    if operation.get("security"):
        found.append("403")
    if "{" in path or listed:
        found.append("404")
    if "requestBody" in operation:
        found += ["413", "415"]
    if _is_repeatable(operation):
        found.append("422")
    return found


def _is_repeatable(operation: dict[str, Any]) -> bool:
    return any(parameter["name"] == IDEMPOTENCY_KEY.name for parameter in operation.get("parameters", ()))


def _headers_of(status: str) -> list[str]:
    names = ["X-Request-Id", "RateLimit", "RateLimit-Policy"]
    if status in _RETRY_LATER:
        names.append("Retry-After")
    if status == "401":
        names.append("WWW-Authenticate")
    return names


def _headers(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _describe_errors(responses: dict[str, Any]) -> None:
    """Give what a view says of its own errors examples: every code that comes with the status."""
    for status, response in responses.items():
        for content in response.get("content", {}).values():
            if content["schema"].get("$ref") == "#/components/schemas/Error":
                content["examples"] = _examples(int(status))


def _describe_events(responses: dict[str, Any]) -> None:
    for response in responses.values():
        for media_type, content in response.get("content", {}).items():
            if media_type == "text/event-stream" and "oneOf" not in content["schema"]:
                content["schema"] = stream_schema(turn_events())


def _examples(status: int) -> dict[str, Any]:
    """An error of each code that has this status."""
    kinds = [kind for kind, of in STATUS.items() if of == status and kind is not ExtractionFailed]
    return {kind.code: {"value": _body(kind, status)} for kind in kinds or [ParleyError]}


def _body(kind: type[ParleyError], status: int) -> dict[str, Any]:
    body: dict[str, Any] = {"code": kind.code, "message": kind.default_message, "request_id": REQUEST_ID}
    if str(status) in _RETRY_LATER:
        body["retry_after"] = 5.0
    if kind.code == "invalid_request":
        body["fields"] = {"text": "This field may not be blank."}
    return body


def _link(paths: dict[str, Any]) -> None:
    """Say of what is created where its id is used next: for people in Swagger, and for programs that try everything."""
    for path, operations in paths.items():
        created = operations.get("post")
        if created is None or path.endswith("}"):
            continue
        below = re.compile(rf"{PREFIX}/{path.rpartition('/')[2]}/{{(\w+)}}[^{{]*")
        links = {
            operation["operationId"]: {
                "operationId": operation["operationId"],
                "parameters": {match[1]: "$response.body#/id"},
            }
            for other, its in paths.items()
            if (match := below.fullmatch(other))
            for operation in its.values()
        }
        for status, response in created["responses"].items():
            if status.startswith("2") and links:
                response["links"] = links


class Generator(SchemaGenerator):
    """Adds what routes refer to. The schema is the same for everybody, so a process makes it once."""

    def get_schema(self, request: Any = None, public: bool = False) -> dict[str, Any]:
        return _whole() if public else self.fresh(request)

    def fresh(self, request: Any = None) -> dict[str, Any]:
        schema: dict[str, Any] = super().get_schema(request=request, public=True)  # type: ignore[no-untyped-call]
        schema["info"]["description"] = ABOUT
        used = {tag for path in schema["paths"].values() for operation in path.values() for tag in operation["tags"]}
        schema["tags"] = [{"name": tag} for tag in dict.fromkeys([*TAGS.values(), *sorted(used)]) if tag in used]
        _link(schema["paths"])
        components = schema["components"]
        components["headers"] = HEADERS
        components["responses"] = {
            _name(str(status)): {
                "description": meaning,
                "headers": _headers(_headers_of(str(status))),
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/Error"},
                        "examples": _examples(status),
                    }
                },
            }
            for status, meaning in MEANINGS.items()
        }
        components["schemas"] |= {component_of(kind): event_component(kind) for kind in turn_events()}
        components["schemas"] = dict(sorted(components["schemas"].items()))
        return schema


@cache
def _whole() -> dict[str, Any]:
    return Generator().fresh()  # type: ignore[no-untyped-call]
