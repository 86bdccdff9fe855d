"""What sends data out, webhooks, takes the tenant's own objects only, and tells nobody its secrets."""

from __future__ import annotations

import json
import logging
import uuid
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from redis import Redis

from apps.assistants.models import Assistant
from apps.knowledge.models import Collection
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit
from apps.webhooks import courier
from apps.webhooks.models import Delivery, Webhook
from tests.abuse.conftest import bearer, send
from tests.apps.conversations.conftest import Api, World
from tests.apps.webhooks.receiver import Answer, Receiver

NEW = {"name": "x", "url": "https://r.example/", "events": ["turn.finished", "document.ready"]}


async def post(key: str, body: dict[str, Any], path: str = "", method: str = "POST") -> tuple[int, dict[str, Any]]:
    headers = bearer(key) | {b"content-type": b"application/json"}
    answer = await send(method, f"/api/v1/webhooks{path}", headers, json.dumps(body).encode())
    told = json.loads(answer.body)
    told.pop("request_id", None)
    return answer.status, told


def foreign(tenant: Tenant) -> dict[str, str]:
    return {
        "assistants": str(Assistant.objects.for_tenant(tenant).get().pk),
        "collections": str(Collection.objects.for_tenant(tenant).get().pk),
    }


async def test_anothers_objects_are_refused_as_unknown_ones_are(world: World) -> None:
    status, own = await post(world.outsider_key, NEW)
    assert status == 201
    for kind, key in (await platform_unit(foreign, world.tenant)).items():
        for method, path, body in (("POST", "", NEW), ("PATCH", f"/{own['id']}", {})):
            answers = [
                await post(world.outsider_key, {**body, kind: [wanted]}, path, method)
                for wanted in (key, str(uuid.uuid4()))
            ]
            assert answers[0] == answers[1]
            assert answers[0][0] == 400
            assert list(answers[0][1]["fields"]) == [kind]
    stored = await platform_unit(lambda: list(Webhook.objects.values_list("assistants", "collections")))
    assert stored == [([], [])]


async def test_anothers_events_are_never_told(world: World, api: Api) -> None:
    """Not even where the id of a foreign assistant got into a row past every check."""
    _, outsider = await post(world.outsider_key, NEW)
    await platform_unit(lambda: Webhook.objects.filter(pk=outsider["id"]).update(assistants=[world.assistant.pk]))
    _, own = await post(world.key, {**NEW, "tenant": outsider["id"]})
    assert (await api.ask(world.turns, "pump?")).status_code == 200
    told = await platform_unit(lambda: [str(pk) for pk in Delivery.objects.values_list("webhook", flat=True)])
    assert told == [own["id"]]


async def test_its_secret_is_told_to_nobody_and_content_to_no_receiver(
    world: World, api: Api, settings: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    settings.PARLEY_PRIVATE_WEBHOOK_HOSTS = ["127.0.0.1"]
    async with Receiver() as receiver:
        receiver.script(Answer(500, body=b"canary of the receiver", headers={"X-Canary": "canary of the receiver"}))
        _, made = await post(world.key, {**NEW, "url": receiver.url("/canary-path")})
        world.script("canaryanswer")
        await api.ask(world.turns, "canaryquestion")
        await courier.run()
    (request,) = receiver.requests
    assert b"canary" not in request.body
    out, err = capfd.readouterr()
    logged = caplog.text + "".join(str(record.__dict__) for record in caplog.records) + out + err
    assert "delivery.attempted" in logged
    with Redis.from_url(django_settings.CELERY_BROKER_URL) as broker:
        queued = str(broker.lrange("celery", 0, -1))
    stored = await platform_unit(everything_stored)
    secret = made["secret"].removeprefix("whsec_")
    for where, text in (("log", logged), ("broker", queued), ("database", stored)):
        assert secret not in text, where
        assert "canary of the receiver" not in text, where
    assert "canary-path" not in logged + queued
    listed = await send("GET", f"/api/v1/webhooks/{made['id']}/deliveries", bearer(world.key))
    assert b"canary" not in listed.body
    assert json.loads(listed.body)["results"][0]["error"] == "It answered 500."


def everything_stored() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT w::text FROM webhooks_webhook w UNION ALL SELECT d::text FROM webhooks_delivery d")
        return "".join(row[0] for row in cursor.fetchall())
