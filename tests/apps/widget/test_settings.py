"""What pages load: the loader, an assistant's settings for listed sites alone, and its logo."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage
from django.test import AsyncClient

from apps.access import rates, visitors
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit, tenant_scope
from apps.widget import bundle, logos
from apps.widget.models import Widget, is_right_to_left, validate_strings
from chatbot.errors import InvalidRequest
from tests.apps.access.visiting import OTHER, SHOP, Page, change
from tests.apps.conversations.conftest import World, fake, world
from tests.apps.widget.dressed import PNG, build, dressed
from tests.environment import ROOT

__all__ = ["fake", "world"]
WIDGET = "/api/v1/widget/acme/guide"


@pytest.fixture(autouse=True)
def storage(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "media"
    visitors.forget()


@pytest.fixture
async def shop(world: World) -> World:
    await platform_unit(change, world.assistant, visitor_origins=[SHOP])
    return world


def names_of_interface(name: str) -> set[str]:
    """The fields of an interface in frontend/src/types.ts."""
    text = (ROOT / "frontend/src/types.ts").read_text()
    body = re.search(rf"export interface {name} \{{(.*?)^\}}", text, re.DOTALL | re.MULTILINE)
    assert body
    return set(re.findall(r"^  (\w+):", body[1], re.MULTILINE))


async def test_a_listed_page_reads_how_its_widget_looks(shop: World) -> None:
    await dressed(shop.assistant, greeting="Ask me", starters=["Which seal?"], locale="ar", strings={"send": "Los"})
    response = await Page().get(WIDGET)
    told = response.json()
    assert (response.status_code, response["Access-Control-Allow-Origin"]) == (200, SHOP)
    assert set(told) == names_of_interface("Settings")
    assert set(told["theme"]) == names_of_interface("Theme")
    assert (told["tenant"], told["assistant"], told["greeting"]) == ("acme", "guide", "Ask me")
    assert (told["direction"], told["strings"], told["starters"]) == ("rtl", {"send": "Los"}, ["Which seal?"])
    assert "Origin" in response["Vary"]


async def test_one_that_nobody_dressed_has_the_defaults(shop: World) -> None:
    told = (await Page().get(WIDGET)).json()
    assert (told["handoff"], told["consent"], told["identity"], told["theme"]["logo"]) == (None, None, False, "")
    assert await platform_unit(Widget.objects.count) == 0


async def test_it_is_sent_once(shop: World) -> None:
    first = await Page().get(WIDGET)
    again = await Page().get(WIDGET, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content, again["Access-Control-Allow-Origin"]) == (304, b"", SHOP)
    await dressed(shop.assistant, greeting="Changed")
    assert (await Page().get(WIDGET, headers={"If-None-Match": first["ETag"]})).status_code == 200


async def test_everybody_else_gets_the_same_401(shop: World) -> None:
    told = []
    for origin, path in (
        (OTHER, WIDGET),
        ("null", WIDGET),
        ("", WIDGET),
        (SHOP, "/api/v1/widget/acme/nothing"),
        (SHOP, "/api/v1/widget/nobody/guide"),
        (SHOP, "/api/v1/widget/globex/guide"),
        (SHOP, "/api/v1/widget/ac%0Ame/guide"),
        ("http://127.0.0.1:8000", WIDGET),  # Parley's own, while the hosted page is off
    ):
        response = await Page(origin).get(path)
        assert response.status_code == 401, (origin, path)
        assert "Access-Control-Allow-Origin" not in response
        told.append({**response.json(), "request_id": ""})
    assert told == [told[0]] * len(told)


@pytest.mark.parametrize("how", ["switched off", "suspended", "taken off the list"])
async def test_it_ends_with_what_lets_visitors_in(shop: World, how: str) -> None:
    if how == "suspended":
        await platform_unit(Tenant.objects.filter(slug="acme").update, is_active=False)
    elif how == "switched off":
        await platform_unit(change, shop.assistant, is_active=False)
    else:
        await platform_unit(change, shop.assistant, visitor_origins=[OTHER])
    assert (await Page().get(WIDGET)).status_code == 401


async def test_a_crowd_from_one_address_has_to_wait(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.widget.api.LOADS", rates.Rate(burst=2, every=60.0))
    assert [(await Page().get(WIDGET)).status_code for _ in range(3)] == [200, 200, 429]


async def test_other_methods_are_refused(shop: World) -> None:
    response = await Page().post(WIDGET)
    assert (response.status_code, response["Allow"]) == (405, "GET")


# --- The loader -------------------------------------------------------------------------------------------------------


async def test_the_loader_is_for_every_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: None) -> None:
    build(tmp_path / "widget", monkeypatch)
    response = await AsyncClient().get("/widget.js")
    assert (response.status_code, response.content) == (200, b"/* the loader */")
    assert response["Content-Type"] == "text/javascript; charset=utf-8"
    assert response["Access-Control-Allow-Origin"] == "*"
    assert response["Cache-Control"] == "public, max-age=300"
    assert response["X-Content-Type-Options"] == "nosniff"
    again = await AsyncClient().get("/widget.js", headers={"If-None-Match": response["ETag"]})
    assert again.status_code == 304
    (tmp_path / "widget" / "loader.js").write_text("/* another loader */")
    assert (await AsyncClient().get("/widget.js")).content == b"/* another loader */"


async def test_a_loader_that_was_not_built_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: None
) -> None:
    monkeypatch.setattr(bundle, "DIRECTORY", tmp_path)
    response = await AsyncClient().get("/widget.js")
    assert (response.status_code, response.json()["message"]) == (404, bundle.MISSING)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        '{"app": {"file": "../../settings.js", "integrity": "sha384-AAAA"}}',
        '{"app": {"file": "app-abc123.js", "integrity": "\\" onload=alert(1)"}}',
        '{"app": {"file": "gone.js", "integrity": "sha384-AAAA"}}',
    ],
)
def test_a_manifest_that_is_none_is_a_missing_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifest: str
) -> None:
    build(tmp_path / "widget", monkeypatch)
    assert bundle.is_there()
    (tmp_path / "widget" / "manifest.json").write_text(manifest)
    assert not bundle.is_there()


# --- Logos ------------------------------------------------------------------------------------------------------------


def put(widget: Widget, content: bytes) -> Widget:
    with tenant_scope(widget):
        logos.put(widget, content)
        widget.save()
    return widget


async def test_a_logo_is_served_as_the_picture_that_it_is(shop: World) -> None:
    widget = await dressed(shop.assistant)
    await platform_unit(put, widget, PNG)
    address = (await Page().get(WIDGET)).json()["theme"]["logo"]
    assert address.startswith("http://127.0.0.1:8000/widget/logo/")
    response = await AsyncClient().get(address.removeprefix("http://127.0.0.1:8000"))
    assert (response.status_code, response["Content-Type"], response.content) == (200, "image/png", PNG)
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response["Content-Security-Policy"]
    assert "immutable" in response["Cache-Control"]


async def test_a_logo_goes_with_the_next_one(shop: World) -> None:
    widget = await platform_unit(put, await dressed(shop.assistant), PNG)
    first, address = widget.logo, f"/widget/logo/{widget.logo_digest}"
    await platform_unit(put, widget, PNG + b"another")
    assert not default_storage.exists(first)
    assert (await AsyncClient().get(address)).status_code == 404


async def test_there_are_no_others(database: None) -> None:
    for digest in ("0" * 64, "x", "..%2f..%2fetc%2fpasswd", ""):
        assert (await AsyncClient().get(f"/widget/logo/{digest}")).status_code == 404


@pytest.mark.parametrize(
    "content",
    [b"", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", b"<html>", b"GIF89a", b"RIFF0000WAVE"],
)
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="PNG, JPEG or WebP"):
        logos.check(content)


def test_a_large_logo_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="128 KiB"):
        logos.check(PNG + bytes(logos.MOST_BYTES))


# --- What can be set --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strings", "words"),
    [
        ([], "JSON object"),
        ({"a b": "x"}, "is no key"),
        ({"": "x"}, "is no key"),
        ({"send": 1}, "has to be a text"),
        ({"send": "x" * 301}, "more than 300"),
        ({"send": "\0"}, "cannot be stored"),
        ({f"k{n}": "x" for n in range(201)}, "200 texts"),
    ],
)
def test_wording_is_checked(strings: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        validate_strings(strings)


@pytest.mark.parametrize(
    ("locale", "rtl"),
    [("en", False), ("ar", True), ("ar-EG", True), ("he-IL", True), ("az-Arab", True), ("ur-Latn", False)],
)
def test_the_direction_follows_from_the_language(locale: str, rtl: bool) -> None:
    assert is_right_to_left(locale) is rtl


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"locale": "english"}, "locale"),
        ({"primary": "red"}, "primary"),
        ({"primary": "#0f766e\n"}, "primary"),
        ({"font": "x; } body { display: none"}, "font"),
        ({"radius": 33}, "radius"),
        ({"starters": ["a"] * 7}, "starters"),
        ({"consent_text": "x", "consent_link": "javascript:alert(1)"}, "consent_link"),
        ({"consent_link": "https://shop.example/privacy"}, "consent_text"),
        ({"handoff": "email"}, "handoff_address"),
        ({"frame_origins": ["https://x.example/path"]}, "frame_origins"),
    ],
)
def test_bad_input_has_a_sentence(fields: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Widget(**fields).full_clean(exclude=["tenant", "assistant"], validate_unique=False, validate_constraints=False)
    assert set(refused.value.message_dict) == {wrong}
