"""Secrets appear in no log, error, metric or task argument: not keys, passwords, questions or answers, nor digests."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from redis import Redis

from apps.inference.models import Endpoint
from apps.tenants.models import ApiKey
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.abuse.conftest import bearer, send
from tests.apps.conversations.conftest import Api, World
from tests.apps.conversations.test_websocket import Socket
from tests.fakes.inference import Reply

UPSTREAM = "sk-canary-upstream-credential"
QUESTION, ANSWER = "canaryquestion", "canaryanswer"
PASSWORD = "canary-password-of-alice"


@pytest.fixture
async def logged(world: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Any:
    """All that is said in the open, as one text, asked for at the end."""
    caplog.set_level(logging.DEBUG)
    for chatty in ("aiohttp", "asyncio", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.DEBUG)

    def everything() -> str:
        out, err = capfd.readouterr()
        return caplog.text + "".join(str(record.__dict__) for record in caplog.records) + out + err

    return everything


def canaries(world: World) -> list[str]:
    row = ApiKey.objects.for_tenant(world.tenant).get()
    secret = world.key.split("_")[2]
    return [
        world.key,
        secret[:20],
        bytes(row.digest).hex(),
        UPSTREAM,
        QUESTION,
        ANSWER,
        PASSWORD,
        django_settings.PARLEY_KEY_PEPPER,
        django_settings.SECRET_KEY,
    ]


async def test_nothing_secret_is_told(world: World, api: Api, logged: Any) -> None:
    await platform_unit(lambda: [e.save() for e in _with_secret(Endpoint.objects.filter(kind=Endpoint.Kind.CHAT))])
    told: list[str] = []
    for reply in (
        Reply(tokens=[ANSWER]),
        Reply(status=401, body=f"bad key {UPSTREAM} for {QUESTION}"),
        Reply(status=400, body=f'{{"error": {{"message": "{UPSTREAM} {QUESTION}"}}}}'),
        Reply(status=500, body=UPSTREAM),
        Reply(status=429, body=UPSTREAM),
        Reply(tokens=[ANSWER], error_event={"error": {"message": f"{UPSTREAM} {QUESTION}"}}),
        Reply(tokens=[ANSWER], garbage=f"data: {UPSTREAM}\n\n"),
    ):
        world.fake.script(reply)
        response = await api.ask(world.turns, QUESTION)
        told.append(str(response.headers))
        if response.status_code >= 400:
            told.append(response.content.decode())
    # An unforeseen failure, with the question in its frames.
    headers = bearer(world.key) | {b"content-type": b"application/json"}
    for body in (f'{{"text": "{QUESTION}"', f'{{"text": ["{QUESTION}"]}}', f'{{"assistant": "{QUESTION}\\u0000"}}'):
        answers = [await send("POST", path, headers, body.encode()) for path in (world.turns, "/api/v1/conversations")]
        told += [answer.body.decode() for answer in answers]
    for credential in (world.key[:-1] + ("y" if world.key.endswith("x") else "x"), world.key + "x"):
        told.append((await send("GET", "/api/v1/conversations", bearer(credential))).body.decode())
        socket = Socket()
        await socket.connect()
        await socket.say(type="auth", key=credential)
        told.append(json.dumps(await socket.hear()))
        await socket.disconnect()
    told.append((await send("GET", "/metrics")).body.decode())
    open_text = "".join(told) + logged()
    assert "request.finished" in open_text, "nothing was captured"
    assert "turn.finished" in open_text
    found = [canary for canary in await platform_unit(canaries, world) if canary in open_text]
    assert not found


def _with_secret(rows: Any) -> Any:
    for row in rows:
        row.api_key = UPSTREAM
        yield row


@pytest.mark.django_db
def test_a_password_is_not_logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    factories.make_user("alice@acme.example")
    Client().post("/admin/login/", {"username": "alice@acme.example", "password": PASSWORD})
    attempt = AccessAttempt.objects.get()
    assert PASSWORD not in caplog.text + capfd.readouterr().err + str(vars(attempt))


def test_a_task_is_told_ids_alone(database: None) -> None:
    tenant = factories.make_tenant("acme")
    index = factories.make_index(tenant=tenant, endpoint=factories.make_endpoint(kind=Endpoint.Kind.EMBEDDING))
    factories.make_collection(tenant=tenant, index=index, slug="manuals")
    client = Client(headers={"Authorization": f"Bearer {factories.make_key(tenant=tenant)}"})
    body = {"collection": "manuals", "text": QUESTION, "title": ANSWER}
    document = client.post("/api/v1/documents", body, content_type="application/json").json()
    with Redis.from_url(django_settings.CELERY_BROKER_URL) as broker:
        (sent,) = broker.lrange("documents", 0, -1)  # type: ignore[misc]
    arguments, options, _ = json.loads(base64.b64decode(json.loads(sent)["body"]))
    assert (arguments, options) == ([str(tenant.pk), document["id"]], {})
    assert not any(canary in str(sent) for canary in (QUESTION, ANSWER))


@pytest.mark.django_db
def test_the_database_holds_no_secret_in_the_clear() -> None:
    tenant = factories.make_tenant("acme")
    key = factories.make_key(tenant=tenant)
    endpoint = factories.make_endpoint(api_key=UPSTREAM)
    with connection.cursor() as cursor:
        cursor.execute("SELECT e::text FROM inference_endpoint e WHERE id = %s", [endpoint.pk])
        stored = cursor.fetchone()[0]
        cursor.execute("SELECT k::text FROM tenants_apikey k")
        stored += cursor.fetchone()[0]
    assert UPSTREAM not in stored
    assert key.split("_")[2][:20] not in stored
