"""No request, however malformed, makes the product fail: it is refused, and said so."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
from django.urls import reverse

from apps.edge import metrics
from apps.tenants.models import User
from tests import factories
from tests.abuse.conftest import Answer, bearer, send
from tests.apps.admin_world import logged_in
from tests.apps.conversations.conftest import World
from tests.apps.conversations.test_websocket import Socket

UNKNOWN = str(uuid.uuid4())
JSON = {b"content-type": b"application/json"}
DEEP = b"[" * 100_000
BODIES = {
    "null": b"null",
    "list": b"[]",
    "number": b"1",
    "text": b'"x"',
    "nothing": b"",
    "not UTF-8": b'{"text": "\xff"}',
    "UTF-16": '{"text": "x"}'.encode("utf-16"),
    "deep list": DEEP,
    "deep object": b'{"text":' * 50_000,
    "deep value": b'{"text":' + b"[" * 900 + b"]" * 900 + b"}",
    "lone surrogate": rb'{"text": "\ud800", "assistant": "\ud800", "query": "\ud800", "name": "\ud800"}',
    "lone surrogates in lists": rb'{"name": "x", "url": "https://example.org/", "events": ["\ud800"]}',
    "NUL": rb'{"text": "\u0000", "assistant": "\u0000", "collection": "\u0000", "query": "x", "name": "\u0000"}',
    "huge number": b'{"text": "x", "query": "x", "collection": "x", "limit": ' + b"9" * 5000 + b"}",
    "infinity": b'{"text": "x", "query": "x", "collection": "x", "limit": 1e999, "assistant": Infinity}',
    "wrong types": b'{"text": {}, "assistant": [], "collection": 1.5, "query": [[]], "name": null, "title": {}}',
    "repeated": b'{"text": "x", "text": null, "assistant": null}',
}
PLACES = ("conversations", "conversations/{}/turns", "collections", "documents", "search", "turns/{}/stop", "webhooks")
# What no longer names one content type, or names a character set that nobody knows.
TYPES = (
    b"",
    b";;;===",
    b"\xff\xfe",
    b"text/xml",
    b"application/json; charset=bogus",
    b"application/json; charset*=bogus''x",
    b"application/json" + b"; a=b" * 2000,
    b"application/x-www-form-urlencoded",
    b"multipart/form-data",
    b"multipart/form-data; boundary=" + b"x" * 500,
    b"multipart/form-data; boundary*=bogus''x",
)
QUERIES = (
    b"user=%00",
    b"assistant=%00",
    b"collection=%00",
    b"status=%00",
    b"cursor=%00",
    b"cursor=AAAA",
    b"limit=-1",
    b"limit=" + b"9" * 5000,
    b"user=%ff%fe%ed%a0%80",
    b"after=" + b"9" * 5000,
    b"after=1-99999999999999999999",
    b"&".join(b"a%d" % n for n in range(6000)),
    *(
        b"cursor=" + base64.b64encode(place)
        for place in (b"p=\0", b"p=9999-99-99", b"p=0001-01-01T00:00:00%2B23:59", b"p=99999-01-01", b"o=" + b"9" * 30)
    ),
)


def fine(answer: Answer) -> bool:
    """Answered or refused in our shape, and not as an error of ours."""
    if answer.status < 400:
        return True
    return answer.status < 500 and (not answer.body or answer.body[:1] != b"{" or "code" in json.loads(answer.body))


@pytest.fixture
def credential(world: World) -> dict[bytes, bytes]:
    return bearer(world.key)


@pytest.mark.parametrize("place", PLACES)
async def test_bodies(world: World, credential: dict[bytes, bytes], place: str) -> None:
    path = "/api/v1/" + place.format(world.conversation.pk)
    for name, body in BODIES.items():
        for method in ("POST", "PATCH", "PUT"):
            answer = await send(method, path, credential | JSON, body)
            assert fine(answer), (name, method, answer)


async def test_content_types(world: World, credential: dict[bytes, bytes]) -> None:
    for place in PLACES:
        for kind in TYPES:
            answer = await send("POST", "/api/v1/" + place.format(UNKNOWN), credential | {b"content-type": kind}, b"{}")
            assert 400 <= answer.status < 500, (place, kind[:50], answer)


async def test_queries(world: World, credential: dict[bytes, bytes]) -> None:
    own = world.conversation.pk
    places = ("conversations", f"conversations/{own}", f"conversations/{own}/messages", "documents", "collections")
    for place in (*places, f"turns/{UNKNOWN}", f"turns/{UNKNOWN}/events"):
        for query in QUERIES:
            answer = await send("GET", f"/api/v1/{place}", credential, query=query)
            assert fine(answer), (place, query[:60], answer)


async def test_headers(world: World, credential: dict[bytes, bytes]) -> None:
    hostile: dict[str, list[tuple[bytes, bytes]]] = {
        "10,000 times the same": [(b"x-a", b"b")] * 10_000,
        "10,000 keys": [(b"x-api-key", b"b")] * 10_000,
        "an accept that ranks nothing": [(b"accept", b"*/*;q=nan,a/b/c;q=-1,,;;")],
        "a host that is none": [(b"host", b"[::1")],
        "cookies that are none": [(b"cookie", b'a,b=c; {x}=1; sessionid="\\000aaaaaaaa"; messages=[["')],
        "an idempotency key of bytes": [(b"idempotency-key", b"\xff\x00")],
        "a place in the stream": [(b"last-event-id", b"\xff")],
    }
    for name, headers in hostile.items():
        for method, path in (
            ("GET", "/api/v1/conversations"),
            ("POST", f"/api/v1/conversations/{world.conversation.pk}/turns"),
            ("GET", f"/api/v1/turns/{UNKNOWN}/events"),
            ("GET", "/admin/login/"),
            ("POST", "/admin/login/"),
        ):
            sent = [*credential.items(), *JSON.items(), *headers]
            answer = await send(method, path, sent, b"null" if method == "POST" else b"")
            assert answer.status < 500, (name, path, answer)


async def test_paths(database: None) -> None:
    for path in ("/\udcff", "/%00", "//", "/static/../manage.py", "/static/\0", "/admin/\0/", "/api/v1/turns/é/", "*"):
        assert (await send("GET", path)).status < 500, path


async def test_no_client_chooses_our_addresses(database: None) -> None:
    """Daphne takes the root path from a header."""
    answer = await send("GET", "/admin/", root_path="//evil.example")
    assert answer.headers["location"] == "/admin/login/?next=/admin/"
    answer = await send("GET", "/admin/", {b"x-forwarded-host": b"evil.example", b"x-original-url": b"/metrics"})
    assert answer.headers["location"] == "/admin/login/?next=/admin/"


async def test_invented_methods_leave_no_trace_in_memory(database: None) -> None:
    def kept() -> int:
        return sum(len(metric.samples) for metric in metrics.REQUESTS.collect())

    before = kept()
    for n in range(50):
        assert (await send(f"M{n}", "/api/v1/conversations")).status in {401, 405}
    assert kept() <= before + 4


FRAMES = (
    " ",
    "{",
    "null",
    "[]",
    DEEP.decode(),
    '{"type": %s}' % ("[" * 900 + "]" * 900),
    '{"type": "stop", "turn": %s}' % ("[" * 900 + "]" * 900),
    '{"type": "stop", "turn": %s}' % ("9" * 5000),
    json.dumps({"type": "resume", "turn": UNKNOWN, "after": "9" * 5000}),
    r'{"type": "ask", "assistant": "\u0000", "text": "x"}',
    r'{"type": "ask", "assistant": "guide", "text": "\ud800"}',
    r'{"type": "ask", "assistant": "guide", "text": "x", "user": "\u0000"}',
    '{"type": "ask", "assistant": {}, "text": "x"}',
    '{"type": "ask", "conversation": {"a": []}, "text": "x", "client_id": {}}',
    "x" * 300_000,
)


async def test_frames(world: World) -> None:
    """Each is answered by an error frame, and the socket goes on."""
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    await socket.hear()
    for text in FRAMES:
        await socket.send_to(text_data=text)
        frame = await socket.hear()
        assert (frame["type"], frame["code"] in {"invalid_request", "not_found"}) == ("error", True), text[:80]
    await socket.send_to(bytes_data=b"\x00\xff")
    assert (await socket.hear())["code"] == "invalid_request"
    await socket.say(type="ask", assistant="guide", text="pump?")
    assert (await socket.hear_turn())[-1]["type"] == "turn.finished"
    await socket.disconnect()


@pytest.mark.parametrize("cookie", ["{x}=1; a/b=2", 'sessionid="\\000aaaaaaaa"', "sessionid=" + "a" * 5000])
async def test_cookies_of_a_socket(world: World, cookie: str) -> None:
    socket = Socket(Cookie=cookie, Origin="http://testserver", Host="testserver")
    await socket.connect()
    await socket.say(type="ask", assistant=str(world.assistant.pk), text="x")
    assert (await socket.hear())["code"] == "not_authenticated"
    await socket.disconnect()


async def test_sockets_elsewhere_are_refused(database: None) -> None:
    socket = Socket()
    socket.scope["path"] = "/ws/nowhere"
    connected, _ = await socket.connect()
    assert not connected


ADMIN_QUERIES = ("q=%00", "p=-1", "o=x", "e=1", "_to_field=password", "status__exact=%00", "id__in=%00", "term=%00")


def test_admin(database: None) -> None:
    operator: User = factories.make_user("operator@example.com", is_superuser=True)
    client: Any = logged_in(operator)
    lists = [
        reverse(f"admin:{name}_changelist") for name in ("knowledge_document", "tenants_user", "usage_usagerecord")
    ]
    places = [*lists, reverse("admin:search"), reverse("admin:autocomplete"), reverse("admin:tenants_tenant_add")]
    for place in places:
        for query in ADMIN_QUERIES:
            status = client.get(f"{place}?{query}").status_code
            assert status < 500, (place, query)
        for chosen in ("\0", "abc", UNKNOWN):
            data = {"action": "delete_selected", "_selected_action": chosen, "memberships-TOTAL_FORMS": "1e9"}
            assert client.post(place, data).status_code < 500, (place, chosen)


async def test_a_question_with_ten_million_characters_is_not_read(world: World, credential: dict[bytes, bytes]) -> None:
    body = json.dumps({"text": "x" * 10_000_000}).encode()
    answer = await send("POST", f"/api/v1/conversations/{world.conversation.pk}/turns", credential | JSON, body)
    assert (answer.status, json.loads(answer.body)["code"]) == (413, "payload_too_large")
