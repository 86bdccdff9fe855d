"""The hosted page: what it holds, who may frame it, and that its own visitors are let in there and nowhere else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from apps.access import rates, visitors
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit
from apps.widget import bundle
from apps.widget.models import Widget
from tests import factories
from tests.apps.access.visiting import OTHER, PAGE, SHOP, Page, change
from tests.apps.conversations.conftest import World, fake, world
from tests.apps.conversations.test_websocket import Socket
from tests.apps.widget.dressed import OWN, build, dressed

__all__ = ["fake", "world"]
HOSTED = "/chat/acme/guide/"


@pytest.fixture(autouse=True)
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "widget", monkeypatch)
    visitors.forget()


@pytest.fixture
async def hosted(world: World) -> World:
    await dressed(world.assistant, hosted=True, greeting="Ask me")
    return world


def embedded(response: Any) -> Any:
    found = re.search(r'<script id="parley-settings" type="application/json">(.*?)</script>', response.content.decode())
    assert found
    return json.loads(found[1])


def policy(response: Any) -> dict[str, list[str]]:
    parts = [part.split() for part in response["Content-Security-Policy"].split(";")]
    return {name: sources for name, *sources in parts}


async def test_the_page_holds_the_settings_and_the_app(hosted: World) -> None:
    response = await Page("").get(HOSTED)
    text = response.content.decode()
    assert response.status_code == 200
    assert embedded(response) == {"mode": "page", "settings": embedded(response)["settings"]}
    assert embedded(response)["settings"]["greeting"] == "Ask me"
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', text))
    app = f'<script type="module" nonce="{nonce}" src="/static/widget/app-abc123.js" integrity="sha384-{"A" * 64}"'
    assert app in text
    assert '<div id="parley"></div>' in text
    assert "<noscript>" in text
    assert response["Referrer-Policy"] == "no-referrer"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "camera=()" in response["Permissions-Policy"]
    assert response["Cache-Control"] == "no-store"
    assert "X-Frame-Options" not in response


async def test_the_policy_allows_what_is_ours_and_no_more(hosted: World) -> None:
    first, second = [policy(await Page("").get(HOSTED)) for _ in range(2)]
    (nonce,) = first["script-src"]
    assert re.fullmatch(r"'nonce-[A-Za-z0-9_-]{22}'", nonce)
    assert nonce not in second["script-src"]
    assert first == {
        "default-src": ["'none'"],
        "script-src": [nonce],
        "style-src": [nonce],
        "connect-src": ["'self'", OWN.replace("http", "ws")],
        "img-src": ["'self'"],
        "font-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }


async def test_texts_of_an_operator_stay_text(hosted: World) -> None:
    hostile = "</script><script>alert(1)</script><!--"
    await platform_unit(change, hosted.assistant, name=hostile)
    await dressed(hosted.assistant, greeting=hostile, starters=[hostile])
    response = await Page("").get(HOSTED)
    assert hostile.encode() not in response.content
    assert b"<script>alert" not in response.content
    assert embedded(response)["settings"]["greeting"] == hostile


@pytest.mark.parametrize("how", ["off", "no widget", "assistant off", "suspended", "unknown", "malformed"])
async def test_what_is_not_there_looks_alike(hosted: World, how: str) -> None:
    address = HOSTED
    if how == "off":
        await dressed(hosted.assistant, hosted=False)
    elif how == "no widget":
        await platform_unit(Widget.objects.all().delete)
    elif how == "assistant off":
        await platform_unit(change, hosted.assistant, is_active=False)
    elif how == "suspended":
        await platform_unit(Tenant.objects.filter(slug="acme").update, is_active=False)
    else:
        address = {"unknown": "/chat/nobody/guide/", "malformed": "/chat/ac%0Ame/GUIDE/"}[how]
    response = await Page("").get(address)
    assert response.status_code == 404
    assert b"There is nothing here." in response.content
    assert b"guide" not in response.content.lower()
    assert b"parley-settings" not in response.content
    assert policy(response)["frame-ancestors"] == ["'none'"]


async def test_without_the_bundle_it_says_so(hosted: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "DIRECTORY", tmp_path / "nothing")
    assert b"The widget was not built" in (await Page("").get(HOSTED)).content


async def test_a_crowd_from_one_address_has_to_wait(hosted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.widget.api.LOADS", rates.Rate(burst=1, every=60.0))
    first, second = [await Page("").get(HOSTED) for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 429)
    assert b"try again in a minute" in second.content


# --- Its visitors -----------------------------------------------------------------------------------------------------

SAME = {"Sec-Fetch-Site": "same-origin"}


async def test_the_page_lets_its_visitors_in(hosted: World) -> None:
    """Browsers send no Origin where a page of ours reads from us."""
    page = Page(OWN)
    assert (await page.enter()).status_code == 201
    begun = await page.say("conversations", {"assistant": "guide"})
    assert begun.status_code == 201
    reading = Page("", token=page.token)
    listed = await reading.get("/api/v1/conversations", headers=SAME)
    assert [row["id"] for row in listed.json()["results"]] == [begun.json()["id"]]
    assert (await reading.get("/api/v1/conversations")).status_code == 401
    assert (await reading.get("/api/v1/conversations", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 401
    assert (await Page(SHOP, page.token).get("/api/v1/conversations", headers=SAME)).status_code == 401
    socket = Socket(Origin=OWN)
    await socket.connect()
    await socket.say(type="auth", key=page.token)
    assert (await socket.hear())["type"] == "ready"
    await socket.disconnect()


async def test_another_sites_token_is_not_its_own(hosted: World) -> None:
    await platform_unit(change, hosted.assistant, visitor_origins=[SHOP])
    page = Page()
    await page.enter()
    assert (await Page("", page.token).get("/api/v1/conversations", headers=SAME)).status_code == 401


async def test_switched_off_it_lets_nobody_in_and_ends_who_was(hosted: World) -> None:
    page = Page(OWN)
    await page.enter()
    await dressed(hosted.assistant, hosted=False)
    visitors.forget()
    assert (await page.post(PAGE)).status_code == 401
    assert (await page.get("/api/v1/conversations")).status_code == 401


async def test_the_hosted_page_of_one_opens_no_other(hosted: World) -> None:
    """Its switch is each assistant's own."""
    await platform_unit(lambda: factories.make_assistant(tenant=hosted.tenant, slug="other"))
    assert (await Page(OWN).post("/api/v1/visitors/acme/other")).status_code == 401
    assert (await Page(OTHER).post(PAGE)).status_code == 401
