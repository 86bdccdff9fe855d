"""Secrets that people set, change and remove appear nowhere but where they are meant to be shown once."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import URLPattern, reverse
from redis import Redis

from apps.inference.models import Endpoint
from apps.tenants.models import ApiKey
from apps.webhooks.models import Webhook
from local import postgres
from tests import factories
from tests.apps.admin_world import World, logged_in, make_world, row_of
from tests.environment import PASSWORDS, POSTGRES_PORT, ROOT

UPSTREAM, RENEWED = "sk-canary-upstream-credential", "sk-canary-renewed-credential"
PASSWORD = "canary-password-of-somebody"


@pytest.fixture
def world(database: None) -> World:
    return make_world()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Any:
    caplog.set_level(logging.DEBUG)  # as LOG_LEVEL=DEBUG does

    def everything() -> str:
        return caplog.text + "".join(str(record.__dict__) for record in caplog.records) + "".join(capfd.readouterr())

    return everything


def stored_rows() -> str:
    """Every row of every table, as an administrator of the database reads them."""
    with postgres.connect(POSTGRES_PORT, PASSWORDS[postgres.SUPERUSER], postgres.DATABASE) as superuser:
        tables = [row[0] for row in superuser.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        rows = [row[0] for table in tables for row in superuser.execute(f'SELECT t::text FROM "{table}" t').fetchall()]
    return "\n".join(rows)


def pages(world: World) -> Iterator[str]:
    """Every page of the admin that shows rows of acme's or the platform's."""
    for page in admin.site._registry.values():
        name = f"admin:{page.opts.app_label}_{page.opts.model_name}"
        yield reverse(f"{name}_changelist")
        row: Any = row_of(page.model, world.acme) or page.model._default_manager.first()
        for pattern in page.get_urls():
            if isinstance(pattern, URLPattern) and pattern.name and set(pattern.pattern.converters) == {"object_id"}:
                yield reverse(f"admin:{pattern.name}", args=[row.pk])


def text_of(client: Client, url: str) -> str:
    response = client.get(url, follow=True)
    content = b"".join(response) if response.streaming else response.content
    return content.decode() + str(response.headers)


def endpoint_form(endpoint: Endpoint, **changes: str) -> dict[str, str]:
    return {
        "name": endpoint.name, "kind": "chat", "protocol": "openai", "base_url": endpoint.base_url, "model": "m",
        "context_length": "4096", "first_token_seconds": "15", "enabled": "on", **factories.ENDPOINT_LIMITS, **changes,
    }  # fmt: skip


def test_what_is_set_in_the_admin_is_shown_stored_and_logged_nowhere(world: World, said: Any) -> None:
    operator, alice = logged_in(world.operator), logged_in(world.alice)
    endpoint = factories.make_endpoint(name="GPU", api_key=UPSTREAM)
    change = reverse("admin:inference_endpoint_change", args=[endpoint.pk])
    told = [
        text_of(operator, change),
        operator.post(change, endpoint_form(endpoint, new_key=RENEWED), follow=True).content.decode(),
        # Refused forms repeat what was typed, but not this.
        operator.post(change, endpoint_form(endpoint, new_key=UPSTREAM, name=""), follow=True).content.decode(),
    ]
    endpoint.refresh_from_db()
    assert endpoint.api_key == RENEWED
    webhook = Webhook.objects.for_tenant(world.acme).get()
    alice.post(reverse("admin:webhooks_webhook_rotate", args=[webhook.pk]), {"_form_submitted": "1"})
    issued = alice.post(reverse("admin:tenants_apikey_add"), {"name": "Web shop", "scopes": ["chat:read"]})
    key = issued.context["key"]
    webhook.refresh_from_db()
    told += [text_of(client, url) for client in (operator, alice) for url in pages(world)]
    told += [told_of_guesses(key), said(), stored_rows()]
    digest = bytes(ApiKey.objects.get(name="Web shop").digest)
    # The database holds the digest, and nobody else.
    elsewhere = "".join(told[:-1])
    assert "request.finished" in elsewhere
    assert not [text for text in (digest.hex(), str(digest)) if text in elsewhere]
    everywhere = "".join(told)
    canaries = [
        UPSTREAM, RENEWED, PASSWORD, key.split("_")[2][:20], webhook.secret, webhook.previous_secret,
        django_settings.SECRET_KEY, django_settings.PARLEY_KEY_PEPPER, *django_settings.PARLEY_ENCRYPTION_KEYS,
    ]  # fmt: skip
    assert not [canary for canary in canaries if canary in everywhere]


def told_of_guesses(key: str) -> str:
    """What is answered to keys and passwords that are almost right."""
    answers = []
    for guess in (key[:-1], key[:-6] + "aaaaaa", f"Bearer {key}x"):
        answers.append(Client().get("/api/v1/assistants", headers={"Authorization": f"Bearer {guess}"}))
        answers.append(Client().get("/api/v1/assistants", headers={"X-Api-Key": guess}))
    login = {"username": "alice@acme.example", "password": PASSWORD}
    answers += [Client().post("/admin/login/", login) for _ in range(11)]  # until the lock-out says so
    assert {answer.status_code for answer in answers} >= {401}
    return "".join(answer.content.decode() + str(answer.headers) for answer in answers)


def test_a_blank_field_keeps_the_key_a_tick_removes_it_and_another_host_does(world: World) -> None:
    operator = logged_in(world.operator)
    endpoint = factories.make_endpoint(name="GPU", api_key=UPSTREAM)
    change = reverse("admin:inference_endpoint_change", args=[endpoint.pk])

    def key_after(**changes: str) -> str:
        Endpoint.objects.filter(pk=endpoint.pk).update(api_key=UPSTREAM)
        assert operator.post(change, endpoint_form(endpoint, **changes)).status_code == 302
        endpoint.refresh_from_db()
        return str(endpoint.api_key)

    assert key_after() == UPSTREAM
    assert key_after(forget_key="on") == ""
    assert key_after(new_key=RENEWED) == RENEWED
    assert key_after(base_url="http://localhost:9") == ""


def test_tasks_are_told_no_secret(world: World) -> None:
    alice = logged_in(world.alice)
    webhook = Webhook.objects.for_tenant(world.acme).get()
    alice.post(reverse("admin:webhooks_webhook_send_test", args=[webhook.pk]), {"_form_submitted": "1"})
    with Redis.from_url(django_settings.CELERY_BROKER_URL) as redis:
        queued = str(redis.lrange("celery", 0, -1)) + str(redis.keys())
    assert webhook.secret not in queued


# --- Error reports ----------------------------------------------------------------------------------------------------

# A view that fails with everything secret at hand: in the address, the headers, the cookies, the body and its own
# variables. It is asked as a server asks it.
FAILING = """
import asyncio
import sys
import django
django.setup()
import sentry_sdk
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path

def fail(request):
    key = "canary-variable"
    raise RuntimeError("it broke")

urlpatterns = [path("fail", fail)]
settings.ROOT_URLCONF = sys.modules[__name__]
settings.SECURE_SSL_REDIRECT = False
settings.MIDDLEWARE = []

async def ask():
    body = b"password=canary-password&text=canary-question"
    headers = {"host": "127.0.0.1", "authorization": "Bearer canary-bearer", "x-api-key": "canary-key",
               "cookie": "sessionid=canary-session", "content-type": "application/x-www-form-urlencoded",
               "content-length": str(len(body))}
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/fail",
             "query_string": b"token=canary-in-an-address", "client": ["127.0.0.1", 1], "server": ["127.0.0.1", 80],
             "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    talk = ApplicationCommunicator(get_asgi_application(), scope)
    await talk.send_input({"type": "http.request", "body": body, "more_body": False})
    assert (await talk.receive_output(10))["status"] == 500

asyncio.run(ask())
sentry_sdk.flush(10)
"""


class Collector(BaseHTTPRequestHandler):
    received: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(zlib.decompress(body, 31) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_error_reports_hold_no_secret() -> None:
    received: list[bytes] = []
    server = HTTPServer(("127.0.0.1", 0), type("Receiving", (Collector,), {"received": received}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        environment = {**os.environ, "SENTRY_DSN": f"http://public@127.0.0.1:{server.server_port}/1"}
        command = [sys.executable, "-c", FAILING]
        subprocess.run(
            command, env={**environment, "DJANGO_SETTINGS_MODULE": "config.settings"}, cwd=ROOT, check=True,
            capture_output=True, timeout=60,
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    report = b"".join(received).decode()
    assert '"type":"RuntimeError"' in report
    assert "it broke" not in report  # it may quote what somebody asked
    assert "canary" not in report
    assert django_settings.SECRET_KEY not in report
    assert json.dumps(django_settings.PARLEY_KEY_PEPPER) not in report


@pytest.mark.django_db
def test_the_database_shows_which_key_encrypted_and_not_the_key() -> None:
    factories.make_endpoint(api_key=UPSTREAM)
    with connection.cursor() as cursor:
        cursor.execute("SELECT api_key FROM inference_endpoint")
        written_with, _, token = cursor.fetchone()[0].partition(":")
    assert len(written_with) == 8
    assert UPSTREAM not in token
    assert not [key for key in django_settings.PARLEY_ENCRYPTION_KEYS if written_with in key]
