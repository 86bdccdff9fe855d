"""Every route, frame, page, action and task that takes an id answers another tenant's exactly as an unknown one."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.urls import reverse

from apps.conversations.consumers import ChatConsumer
from apps.conversations.models import Attachment, Conversation, Turn
from apps.knowledge.crawl.running import run_slice
from apps.knowledge.ingest import ingest
from apps.knowledge.models import Chunk, Collection, Document, SecondIndex, Source, SourceRun, Upload
from apps.knowledge.second.building import run_slice as build_slice
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit
from apps.webhooks.models import Delivery, Event, Webhook
from apps.webhooks.registration import register
from config.celery import app
from tests import factories
from tests.abuse.conftest import bearer, send
from tests.apps.admin_world import logged_in, make_world, row_of
from tests.apps.conversations.conftest import World
from tests.apps.conversations.test_websocket import Socket
from tests.architecture.test_routes import OURS, PUBLIC, ROUTES
from tests.browser.conftest import session_of

# A form, as the headers then say.
FORM = '--b\r\nContent-Disposition: form-data; name="file"; filename="x.txt"\r\n\r\nx\r\n--b--\r\n'
WEBHOOK = '{"name": "x", "url": "https://r.example/", "events": ["turn.finished"], %s}'
# How each route takes ids, in its address, its query or its body; `{}` stands for the id. Below /api/v1/ unless told.
WAYS: dict[str, list[tuple[str, str, str]]] = {
    "api/v1/assistants": [],
    "api/v1/collections": [],
    "api/v1/collections/<str:key>": [
        (method, "collections/{collection}", '{"name": "x"}') for method in ("GET", "PATCH", "DELETE")
    ],
    "api/v1/collections/<str:key>/second-index": [
        (method, "collections/{collection}/second-index", '{"model": "x"}') for method in ("POST", "DELETE")
    ],
    "api/v1/collections/<str:key>/second-index/switch": [("POST", "collections/{collection}/second-index/switch", "")],
    "api/v1/collections/<str:key>/second-index/retry": [("POST", "collections/{collection}/second-index/retry", "")],
    "api/v1/documents": [
        ("GET", "documents?collection={collection}", ""),
        ("POST", "documents", '{"collection": "{collection}", "text": "x"}'),
    ],
    "api/v1/documents/<uuid:document_id>": [
        (method, "documents/{document}", body)
        for method, body in (("GET", ""), ("PUT", '{"text": "x"}'), ("PATCH", '{"tags": ["x"]}'), ("DELETE", ""))
    ],
    "api/v1/documents/<uuid:document_id>/events": [("GET", "documents/{document}/events", "")],
    "api/v1/documents/<uuid:document_id>/retry": [("POST", "documents/{document}/retry", "")],
    "api/v1/sources": [
        ("GET", "sources?collection={collection}", ""),
        ("POST", "sources", '{"collection": "{collection}", "kind": "site", "location": "https://r.example/"}'),
    ],
    "api/v1/sources/<uuid:source_id>": [
        *((method, "sources/{source}", '{"name": "x"}') for method in ("GET", "PATCH", "DELETE")),
        ("DELETE", "sources/{source}?documents=keep", ""),
    ],
    "api/v1/sources/<uuid:source_id>/run": [("POST", "sources/{source}/run", "")],
    "api/v1/sources/<uuid:source_id>/stop": [("POST", "sources/{source}/stop", "")],
    "api/v1/sources/<uuid:source_id>/runs": [("GET", "sources/{source}/runs", "")],
    # The collection stands in a header: test_uploads.py
    "api/v1/uploads": [],
    "api/v1/uploads/<uuid:upload_id>": [(method, "uploads/{upload}", "") for method in ("GET", "PATCH", "DELETE")],
    "api/v1/search": [("POST", "search", '{"collection": "{collection}", "query": "pump"}')],
    "api/v1/conversations": [("POST", "conversations", '{"assistant": "{assistant}"}')],
    "api/v1/conversations/<uuid:conversation_id>": [
        (method, "conversations/{conversation}", '{"title": "x"}') for method in ("GET", "PATCH", "DELETE")
    ],
    "api/v1/conversations/<uuid:conversation_id>/messages": [("GET", "conversations/{conversation}/messages", "")],
    "api/v1/conversations/<uuid:conversation_id>/turns": [
        ("POST", "conversations/{conversation}/turns", '{"text": "x"}'),
        ("POST", "conversations/{conversation}/turns", '{"text": "x", "edits": "{turn}"}'),
        ("POST", "conversations/{conversation}/turns", '{"text": "x", "attachments": ["{attachment}"]}'),
    ],
    "api/v1/conversations/<uuid:conversation_id>/share": [
        ("POST", "conversations/{conversation}/share", "{}"),
        ("DELETE", "conversations/{conversation}/share", ""),
    ],
    "api/v1/conversations/<uuid:conversation_id>/handoff": [("POST", "conversations/{conversation}/handoff", "{}")],
    "api/v1/conversations/<uuid:conversation_id>/attachments": [
        ("GET", "conversations/{conversation}/attachments", ""),
        ("POST", "conversations/{conversation}/attachments", FORM),
    ],
    "api/v1/conversations/<uuid:conversation_id>/attachments/<uuid:attachment_id>": [
        ("DELETE", "conversations/{conversation}/attachments/{attachment}", "")
    ],
    "api/v1/turns/<uuid:turn_id>": [("GET", "turns/{turn}", "")],
    "api/v1/turns/<uuid:turn_id>/events": [("GET", "turns/{turn}/events", "")],
    "api/v1/turns/<uuid:turn_id>/stop": [("POST", "turns/{turn}/stop", "")],
    "api/v1/turns/<uuid:turn_id>/regenerate": [("POST", "turns/{turn}/regenerate", "")],
    "api/v1/turns/<uuid:turn_id>/continue": [("POST", "turns/{turn}/continue", "")],
    "api/v1/webhooks": [
        ("POST", "webhooks", WEBHOOK % '"assistants": ["{assistant}"]'),
        ("POST", "webhooks", WEBHOOK % '"collections": ["{collection}"]'),
    ],
    "api/v1/webhooks/<uuid:webhook_id>": [
        (method, "webhooks/{webhook}", '{"name": "x"}') for method in ("GET", "PATCH", "DELETE")
    ],
    "api/v1/webhooks/<uuid:webhook_id>/secret": [("POST", "webhooks/{webhook}/secret", "")],
    "api/v1/webhooks/<uuid:webhook_id>/deliveries": [("GET", "webhooks/{webhook}/deliveries", "")],
    "v1/chat/completions": [
        ("POST", "/v1/chat/completions", '{"model": "{assistant}", "messages": [{"role": "user", "content": "x"}]}')
    ],
    "v1/models": [],
    "v1/models/<path:model>": [("GET", "/v1/models/{assistant}", "")],
    "v1/embeddings": [("POST", "/v1/embeddings", '{"model": "{assistant}", "input": "x"}')],
    "v1/<path:rest>": [("GET", "/v1/files/{document}", "")],
    "api/v1/messages/<uuid:message_id>/feedback": [
        ("POST", "messages/{message}/feedback", '{"rating": "up"}'),
        ("DELETE", "messages/{message}/feedback", ""),
    ],
    "api/v1/visitors": [("POST", "visitors", '{"assistant": "{assistant}", "origin": "https://shop.example"}')],
    "api/v1/visitors/renew": [],
    # Names, not ids, and no key: test_19_visitor_tokens.py
    "api/v1/visitors/<str:tenant>/<str:assistant>": [],
    "api/v1/widget/<str:tenant>/<str:assistant>": [],
    "api/v1/usage": [],
    "api/v1/usage/records": [],
}


def test_every_route_is_known_here() -> None:
    assert set(WAYS) == set(OURS) - PUBLIC, "say in WAYS how the new route takes ids"


def ids_of(world: World) -> dict[str, str]:
    turn = Turn.objects.for_tenant(world.tenant).get()
    document = Document.objects.for_tenant(world.tenant).get()
    return {
        "assistant": str(world.assistant.pk),
        "collection": str(document.collection_id),
        "conversation": str(world.conversation.pk),
        "document": str(document.pk),
        "turn": str(turn.pk),
        "message": str(turn.question_id),
        "attachment": str(factories.make_attachment(conversation=world.conversation).pk),
        "source": str(Source.objects.for_tenant(world.tenant).get().pk),
        "upload": str(Upload.objects.for_tenant(world.tenant).get().pk),
        "webhook": str(Webhook.objects.for_tenant(world.tenant).get().pk),
    }


def more_rows(world: World) -> None:
    document = Document.objects.for_tenant(world.tenant).select_related("collection").get()
    source = factories.make_source(tenant=world.tenant, collection=document.collection)
    SourceRun.objects.create(tenant=world.tenant, source=source)
    SecondIndex.objects.create(
        tenant=world.tenant, collection=document.collection, index=factories.make_index(tenant=world.tenant)
    )
    factories.make_upload(tenant=world.tenant, collection=document.collection)


def filled(text: str, ids: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], text)


def filled_out(text: str, ids: dict[str, str]) -> str:
    """The text without the ids that were asked about: OpenAI's clients are told what they named."""
    return re.sub("|".join(ids.values()), "…", text)


@pytest.fixture
async def asked(world: World) -> dict[str, str]:
    """Ids of acme's rows, its turn still running."""
    await platform_unit(more_rows, world)
    await platform_unit(register, world.tenant, name="x", url="https://r.example/", events=[Event.DOCUMENT_READY])
    world.script(*["word "] * 50, delay=0.05)
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    await socket.hear()
    await socket.say(type="ask", conversation=str(world.conversation.pk), text="pump?")
    await socket.hear()
    await socket.disconnect()
    return await platform_unit(ids_of, world)


async def test_rest(world: World, asked: dict[str, str]) -> None:
    unknown = {name: str(uuid.uuid4()) for name in asked}
    before = await platform_unit(everything, world.tenant)
    for ways in WAYS.values():
        for method, path, body in ways:
            answers = []
            for ids in (asked, unknown):
                address, _, query = filled(path if path.startswith("/") else f"/api/v1/{path}", ids).partition("?")
                kind = b"multipart/form-data; boundary=b" if body is FORM else b"application/json"
                headers = bearer(world.outsider_key) | {b"content-type": kind}
                sent = filled(body, ids).encode()
                answer = await send(method, address, headers, sent, query=query.encode())
                told = json.loads(filled_out(answer.body.decode(), ids))
                answers.append((answer.status, {k: v for k, v in told.get("error", told).items() if k != "request_id"}))
            assert answers[0] == answers[1], (method, path)
            assert answers[0][0] in {400, 404}, (method, path)
    assert await platform_unit(everything, world.tenant) == before


async def test_slugs_are_a_tenants_own(world: World, asked: dict[str, str]) -> None:
    slug = await platform_unit(lambda: Collection.objects.for_tenant(world.tenant).get().slug)
    headers = bearer(world.outsider_key) | {b"content-type": b"application/json"}
    assert (await send("GET", f"/api/v1/collections/{slug}", headers)).status == 404
    assert (await send("POST", "/api/v1/conversations", headers, b'{"assistant": "guide"}')).status == 400


async def test_frames(world: World, asked: dict[str, str]) -> None:
    unknown = {name: str(uuid.uuid4()) for name in asked}
    charlie = await platform_unit(lambda: factories.make_member(tenant=Tenant.objects.get(slug="globex")))
    session = await platform_unit(session_of, charlie)
    doors: list[dict[str, str]] = [
        {"Authorization": f"Bearer {world.outsider_key}"},
        {"Cookie": f"sessionid={session}", "Origin": "http://testserver", "Host": "testserver"},
    ]
    for headers in doors:
        socket = Socket(**headers)
        await socket.connect()
        if "Authorization" in headers:
            await socket.hear()
        for frame in (
            {"type": "ask", "conversation": "{conversation}", "text": "go on"},
            {"type": "ask", "conversation": "{conversation}", "text": "go on", "edits": "{turn}"},
            {"type": "ask", "conversation": "{conversation}", "text": "go on", "attachments": ["{attachment}"]},
            {"type": "ask", "assistant": "{assistant}", "text": "hello"},
            {"type": "regenerate", "turn": "{turn}"},
            {"type": "continue", "turn": "{turn}"},
            {"type": "resume", "turn": "{turn}"},
            {"type": "stop", "turn": "{turn}"},
        ):
            heard = []
            for ids in (asked, unknown):
                await socket.say(**json.loads(filled(json.dumps(frame).replace("{{", "{"), ids)))
                answer = await socket.hear()
                heard.append({name: value for name, value in answer.items() if name != "request_id"})
            assert heard[0] == heard[1], frame
            assert heard[0]["code"] in {"not_found", "invalid_request"}
        await socket.disconnect()
    assert await platform_unit(lambda: Turn.objects.get(pk=asked["turn"]).state) == Turn.State.RUNNING


async def test_ingesting_anothers_document_does_nothing(world: World, asked: dict[str, str]) -> None:
    await platform_unit(lambda: Document.objects.update(status=Document.Status.QUEUED))
    globex = await platform_unit(lambda: Tenant.objects.get(slug="globex"))
    before = await platform_unit(everything, world.tenant)
    await asyncio.to_thread(ingest, globex.pk, asked["document"])
    assert await platform_unit(everything, world.tenant) == before


async def test_running_anothers_source_does_nothing(world: World, asked: dict[str, str]) -> None:
    globex = await platform_unit(lambda: Tenant.objects.get(slug="globex"))
    run = await platform_unit(lambda: SourceRun.objects.get().pk)
    before = await platform_unit(everything, world.tenant)
    await run_slice(globex.pk, run, 0)
    assert await platform_unit(everything, world.tenant) == before


async def test_building_anothers_index_does_nothing(world: World, asked: dict[str, str]) -> None:
    globex = await platform_unit(lambda: Tenant.objects.get(slug="globex"))
    second = await platform_unit(lambda: SecondIndex.objects.for_tenant(world.tenant).get().pk)
    before = await platform_unit(everything, world.tenant)
    await build_slice(globex.pk, second, 0)
    assert await platform_unit(everything, world.tenant) == before


# What the worker is sent, and where its ids are tried as a stranger's.
TASKS = {
    "knowledge.ingest": "test_ingesting_anothers_document_does_nothing",
    "access.mail_invitation": "takes an invitation and its tenant: tests/apps/access/test_invitations.py",
    "access.mail_new_password": "takes an address",
    "access.prune_idempotency_keys": "takes nothing",
    "access.prune_failed_logins": "takes nothing",
    "access.prune_sessions": "takes nothing",
    "access.record_failed_login": "takes an address",
    "conversations.close_abandoned_turns": "takes nothing",
    "conversations.forget_quotations": "takes nothing",
    "conversations.forget_unused_attachments": "takes nothing",
    "conversations.remove_old": "takes nothing",
    "conversations.guard_recall": "takes nothing",
    "knowledge.build_index": "test_building_anothers_index_does_nothing",
    "knowledge.forget_deleted": "takes nothing",
    "knowledge.resend_documents": "takes nothing",
    "knowledge.resume_indexes": "takes nothing",
    "knowledge.resume_sources": "takes nothing",
    "knowledge.run_source": "test_running_anothers_source_does_nothing",
    "oauth.prune_tokens": "takes nothing",
    "usage.look_at_limits": "takes nothing",
    "usage.prune_alerts": "takes nothing",
    "usage.reconcile": "takes nothing",
    "usage.roll_up": "takes nothing",
    "usage.sweep_reservations": "takes nothing",
    "usage.tell_of_limits": "takes a tenant and nothing of it",
    "webhooks.tell_operators": "takes what happened to the platform itself",
    "webhooks.deliver": "takes nothing",
    "webhooks.prune_deliveries": "takes nothing",
}


def test_every_task_is_known() -> None:
    app.loader.import_default_modules()
    assert {name for name in app.tasks if not name.startswith("celery.")} == set(TASKS)


def test_every_frame_is_known() -> None:
    """test_frames asks as a stranger by each of them."""
    assert set(ChatConsumer.scopes) == {"ask", "regenerate", "continue", "resume", "stop"}


def everything(tenant: Tenant) -> dict[str, Any]:
    """What a trespasser could have changed."""
    found: dict[str, Any] = {}
    for model in (
        Collection,
        Document,
        Chunk,
        SecondIndex,
        Source,
        SourceRun,
        Conversation,
        Attachment,
        Webhook,
        Delivery,
    ):
        rows = model.objects.for_tenant(tenant).order_by("pk").values()
        found[model.__name__] = [{k: v for k, v in row.items() if k != "tsv"} for row in rows]
    return found


# --- The admin: tests/apps/tenants/test_admin_isolation.py compares every page about a row; here is what is left ------

# Addresses of the admin that take something else than the id of one row, and what it is.
OTHER = {
    "admin/r/<path:content_type_id>/<path:object_id>/": "a content type and a row",
    "admin/tenants/user/<id>/password/": "a user, for operators only",
    "admin/password_reset/<uidb64>/<token>/": "a user with the secret that was mailed: test_16_password_reset.py",
    "admin/security/passkeys/<int:pk>/remove/": "a passkey of one's own: tests/apps/access/test_login.py",
    "admin/^(?P<app_label>…)/$": "an app",
    "admin/(?P<url>.*)$": "anything: the admin's own 404",
}


def test_every_address_of_the_admin_is_known() -> None:
    pages = {route for route in ROUTES if route.startswith("admin/") and re.search(r"<|\(\?P", route)}
    about_rows = {route for route in pages if re.search(r"/(?<!>/)<(path|uuid):object_id>/", route)}
    assert {re.sub(r"(?<=<app_label>)[^)]+", "…", route) for route in pages - about_rows} == set(OTHER)
    nameless = [route for route in about_rows if not ROUTES[route].name and not route.endswith("<path:object_id>/")]
    assert not nameless, "test_admin_isolation finds pages by their names"


@pytest.mark.django_db
def test_view_on_site_tells_nothing() -> None:
    world = make_world()
    client = logged_in(world.charlie)
    kind = ContentType.objects.get_for_model(Conversation).pk
    own = row_of(Conversation, world.acme)
    assert own is not None
    answers = [client.get(f"/admin/r/{kind}/{key}/").status_code for key in (own.pk, uuid.uuid4())]  # type: ignore[attr-defined]
    assert answers == [404, 404]


@pytest.mark.django_db
def test_actions_on_foreign_rows_change_nothing() -> None:
    world = make_world()
    client = logged_in(world.charlie)
    for model, model_admin in admin.site._registry.items():
        foreign = row_of(model, world.acme)
        if foreign is None:
            continue
        url = reverse(f"admin:{model_admin.opts.app_label}_{model_admin.opts.model_name}_changelist")
        data = {"action": "delete_selected", "_selected_action": str(foreign.pk), "post": "yes"}  # type: ignore[attr-defined]
        response = client.post(url, data, follow=True)
        assert "acme" not in response.content.decode().lower(), model
        assert row_of(model, world.acme) == foreign, model
