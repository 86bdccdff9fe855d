"""What visitors and strangers can read, by a shared link, too, tells nothing of an API key or a model server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from apps.inference.models import Endpoint
from apps.tenants.models import ApiKey
from apps.tenants.scoping import platform_unit
from tests.abuse.conftest import send
from tests.apps.access.visiting import PAGE, SHOP, Page, change, token_for
from tests.apps.conversations.conftest import World
from tests.apps.conversations.test_websocket import Socket
from tests.apps.widget.dressed import build
from tests.architecture.test_routes import PUBLIC
from tests.fakes.inference import Reply

UPSTREAM = "sk-canary-of-the-model-server"


def arrange(world: World) -> list[str]:
    """All by which a key or a model server could be recognised."""
    key = ApiKey.objects.for_tenant(world.tenant).get()
    ApiKey.objects.for_tenant(world.tenant).update(name="canary-key-name")
    for number, endpoint in enumerate(Endpoint.objects.all()):
        endpoint.name, endpoint.api_key = f"canary-endpoint-{number}", UPSTREAM
        endpoint.save()
    told = [world.key, key.key_id, str(key.pk), key.pk.hex, bytes(key.digest).hex(), "canary-key-name", UPSTREAM]
    told.append(world.fake.base_url.removeprefix("http://"))
    for endpoint in Endpoint.objects.all():
        told += [str(endpoint.pk), endpoint.name, endpoint.base_url]
    return told


class Heard(list[str]):
    """Everything that was told."""

    async def of(self, response: Any) -> Any:
        body = b"".join([part async for part in response.streaming_content]) if response.streaming else response.content
        self.append(f"{response.headers} {body.decode()}")
        return response


@pytest.fixture
async def canaries(world: World) -> list[str]:
    await platform_unit(change, world.assistant, visitor_origins=[SHOP])
    return await platform_unit(arrange, world)


async def test_a_visitor_reads_nothing_of_keys_and_model_servers(world: World, canaries: list[str]) -> None:
    heard = Heard()
    page = Page(token=await token_for(world, user="zoe"))
    own = await heard.of(await page.post(PAGE))
    await heard.of(await page.say("visitors/renew"))
    await heard.of(await page.get("/api/v1/assistants"))
    begun = await heard.of(await page.say("conversations", {"assistant": "guide"}))
    path = f"conversations/{begun.json()['id']}"
    for reply in (
        Reply(tokens=["Prime it [1]."]),
        Reply(status=401, body=f"bad key {UPSTREAM}"),
        Reply(status=500, body=UPSTREAM),
        Reply(tokens=["Half"], error_event={"error": {"message": UPSTREAM}}),
        Reply(tokens=["Half"], garbage=f"data: {UPSTREAM}\n\n"),
    ):
        for accept in ("application/json", "text/event-stream"):
            world.fake.script(reply)
            await heard.of(await page.say(f"{path}/turns", {"text": "pump?"}, Accept=accept))
    await platform_unit(Endpoint.objects.update, base_url="http://127.0.0.1:9")
    await heard.of(await page.say(f"{path}/turns", {"text": "pump?"}))
    for where in ("", "/messages", "?user=x"):
        await heard.of(await page.get(f"/api/v1/{path}{where}"))
    for refused in ("usage", "webhooks", "collections", "nothing"):
        await heard.of(await page.get(f"/api/v1/{refused}"))
    socket = Socket(Origin=SHOP)
    await socket.connect()
    await socket.say(type="auth", key=own.json()["token"])
    await socket.say(type="ask", assistant="guide", text="pump?")
    heard += [str(frame) for frame in [await socket.hear(), *await socket.hear_turn()]]
    await socket.disconnect()
    assert len(heard) > 20
    assert not [canary for canary in canaries if any(canary in told for told in heard)]


async def test_a_stranger_reads_nothing_of_them(world: World, canaries: list[str]) -> None:
    heard = Heard()
    stranger = Page()
    await heard.of(await stranger.post(PAGE))
    await heard.of(await Page("https://evil.example").post(PAGE))
    for route in sorted(route for route in PUBLIC if not route.startswith("favicon")):
        heard.append(str(await send("GET", f"/{route}")))
    for path in ("/api/v1/assistants", "/v1/models", "/admin/login/", "/nowhere"):
        heard.append(str(await send("GET", path)))
    assert not [canary for canary in canaries if any(canary in told for told in heard)]


async def test_a_shared_page_tells_what_was_said_and_nothing_else(
    world: World, canaries: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key, no id of anything, no name of a tenant or an end user."""
    build(tmp_path, monkeypatch)
    page = Page(token=await token_for(world, user="zoe@shop.example"))
    conversation = (await page.say("conversations", {"assistant": "guide", "title": "Pumps"})).json()["id"]
    world.script("Prime it [1].")
    turn = (await page.say(f"conversations/{conversation}/turns", {"text": "pump?"})).json()
    url = (await page.say(f"conversations/{conversation}/share")).json()["url"]
    shown = await send("GET", urlsplit(url).path)
    text = f"{shown.headers} {shown.body.decode()}"
    assert shown.status == 200
    assert "Prime it [1]." in text
    assert "The pump must be primed" in text
    ids = set(re.findall(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", json.dumps(turn)))
    assert len(ids) >= 5
    hidden = {*canaries, *ids, *(one.replace("-", "") for one in ids), "zoe", "acme", str(world.tenant.pk)}
    hidden |= {str(world.assistant.pk), page.token, world.assistant.slug}
    assert [one for one in hidden if one in text] == []
