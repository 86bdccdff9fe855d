"""Who may frame what: the hosted and shared pages in the configured origins alone, the admin's preview in the admin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse

from apps.assistants.models import Assistant
from apps.tenants.scoping import platform_unit
from tests.abuse.conftest import send
from tests.apps.access.visiting import OTHER, SHOP, Page, change, token_for
from tests.apps.admin_world import logged_in, make_world
from tests.apps.conversations.conftest import World
from tests.apps.widget.dressed import build, dress, dressed

PARTNER = "https://partner.example"


@pytest.fixture(autouse=True)
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "widget", monkeypatch)


def ancestors(headers: Any) -> list[str]:
    parts = [part.split() for part in headers["content-security-policy"].split(";")]
    return next(sources for name, *sources in parts if name == "frame-ancestors")


@pytest.mark.parametrize(
    ("listed", "framing", "expected"),
    [
        ([], [], ["'none'"]),
        ([SHOP], [], [SHOP]),
        ([SHOP], [PARTNER], [SHOP, PARTNER]),
        ([], [PARTNER], [PARTNER]),
        ([SHOP], [SHOP], [SHOP]),
    ],
)
async def test_the_hosted_page_is_framed_by_the_configured_origins(
    world: World, listed: list[str], framing: list[str], expected: list[str]
) -> None:
    await platform_unit(change, world.assistant, visitor_origins=listed)
    world.assistant.visitor_origins = listed
    await dressed(world.assistant, hosted=True, frame_origins=framing)
    answer = await send("GET", "/chat/acme/guide/")
    assert answer.status == 200
    assert ancestors(answer.headers) == expected
    assert OTHER not in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


async def test_who_may_frame_it_is_let_in_as_no_visitor(world: World) -> None:
    """A page that may show the hosted page does not thereby get tokens for itself."""
    await dressed(world.assistant, hosted=True, frame_origins=[PARTNER])
    assert (await Page(PARTNER).enter()).status_code == 401
    assert (await Page(PARTNER).get("/api/v1/widget/acme/guide")).status_code == 401


async def test_a_shared_page_is_framed_by_nobody(world: World) -> None:
    await platform_unit(change, world.assistant, visitor_origins=[SHOP])
    await dressed(world.assistant, hosted=True, frame_origins=[PARTNER])
    page = Page(token=await token_for(world, user="zoe"))
    conversation = (await page.say("conversations", {"assistant": "guide"})).json()["id"]
    world.script("Prime it [1].")
    await page.say(f"conversations/{conversation}/turns", {"text": "pump?"})
    url = (await page.say(f"conversations/{conversation}/share")).json()["url"]
    answer = await send("GET", url.removeprefix("http://127.0.0.1:8000"))
    assert answer.status == 200
    assert ancestors(answer.headers) == ["'none'"]


def test_the_admins_preview_is_framed_by_the_admin(database: None) -> None:
    cast = make_world()
    widget = dress(Assistant.objects.for_tenant(cast.acme).get())
    client = logged_in(cast.alice)
    response = client.get(reverse("admin:widget_widget_preview", args=[widget.pk]))
    assert response.status_code == 200
    assert ancestors({name.lower(): value for name, value in response.headers.items()}) == ["'self'"]
    assert "X-Frame-Options" not in response
    page = client.get(reverse("admin:widget_widget_page", args=[widget.pk]))
    assert page["X-Frame-Options"] == "DENY"
    assert logged_in(cast.charlie).get(response.request["PATH_INFO"]).status_code == 404
