"""The admin of widgets: made when first opened, checked in sentences, and closed to other tenants and lesser roles."""

from __future__ import annotations

import datetime
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from apps.assistants.models import Assistant
from apps.tenants.models import AuditEntry, Membership
from apps.widget import bundle
from apps.widget.checking import judge
from apps.widget.models import Widget
from tests import factories
from tests.apps.admin_world import World, logged_in, make_world
from tests.apps.widget.dressed import OWN, PNG, build

pytestmark = pytest.mark.usefixtures("database")
FIELDS = {
    "greeting": "Ask me",
    "starters": "Which seal fits?\n\n  How hot?  ",
    "primary": "#0f766e",
    "radius": "12",
    "font": "",
    "position": "left",
    "scheme": "auto",
    "locale": "de",
    "strings": '{"send": "Fragen"}',
    "consent_text": "",
    "consent_link": "",
    "retention": "We keep them for 90 days.",
    "handoff": "",
    "handoff_address": "",
    "hosted": "on",
    "frame_origins": "https://Partner.example/",
}


@pytest.fixture(autouse=True)
def built(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MEDIA_ROOT = tmp_path / "media"
    build(tmp_path / "widget", monkeypatch)


@pytest.fixture
def cast() -> World:
    return make_world()


@pytest.fixture
def widget(cast: World) -> Widget:
    found: Widget = Widget.objects.select_related("assistant").get(tenant=cast.acme)
    return found


def change(widget: Widget) -> str:
    return reverse("admin:widget_widget_change", args=[widget.pk])


def save(client: Client, widget: Widget, **fields: Any) -> Any:
    return client.post(change(widget), {**FIELDS, **fields})


def errors(response: Any) -> dict[str, str]:
    return {name: " ".join(found) for name, found in response.context["adminform"].form.errors.items()}


def test_it_is_made_when_it_is_first_opened(cast: World) -> None:
    assistant = factories.make_assistant(tenant=cast.acme, slug="bare")
    client = logged_in(cast.bob)
    address = reverse("admin:assistants_assistant_widget", args=[assistant.pk])
    assert "has no widget yet" in client.get(address).content.decode()
    assert not Widget.objects.filter(assistant=assistant).exists()
    opened = client.post(address)
    made = Widget.objects.get(assistant=assistant)
    assert (opened.status_code, opened["Location"]) == (302, change(made))
    assert client.get(address)["Location"] == client.post(address)["Location"] == change(made)
    assert Widget.objects.filter(assistant=assistant).count() == 1
    assert client.get(change(made)).status_code == 200
    page = client.get(reverse("admin:assistants_assistant_change", args=[assistant.pk])).content.decode()
    assert f"/{assistant.pk}/widget" in page


def test_what_is_saved_is_what_pages_get(cast: World, widget: Widget) -> None:
    response = save(logged_in(cast.bob), widget, logo_file=SimpleUploadedFile("logo.svg", PNG))
    assert response.status_code == 302, errors(response)
    widget.refresh_from_db()
    assert widget.starters == ["Which seal fits?", "How hot?"]
    assert widget.strings == {"send": "Fragen"}
    assert widget.frame_origins == ["https://partner.example"]
    assert (widget.hosted, widget.position, widget.locale) == (True, "left", "de")
    assert widget.logo_digest
    assert AuditEntry.objects.filter(action="widget.changed", row_id=str(widget.pk)).exists()
    save(logged_in(cast.bob), widget)
    widget.refresh_from_db()
    assert widget.logo_digest  # an empty field keeps it
    save(logged_in(cast.bob), widget, logo_off="on")
    widget.refresh_from_db()
    assert (widget.logo, widget.logo_digest) == ("", "")


@pytest.mark.parametrize(
    ("fields", "wrong", "words"),
    [
        ({"primary": "red"}, "primary", "six hexadecimal digits"),
        ({"locale": "German"}, "locale", "pt-BR"),
        ({"strings": "{send: Ask}"}, "strings", "straight quotes"),
        ({"strings": '{"send": 1}'}, "strings", "has to be a text"),
        ({"strings": json.dumps({"x": "y" * 301})}, "strings", "300 characters"),
        ({"starters": "\n".join("abcdefg")}, "starters", "6 starter questions"),
        ({"starters": "x" * 201}, "starters", "200 characters"),
        ({"font": "url(https://evil.example)"}, "font", "letters, digits"),
        ({"handoff": "email"}, "handoff_address", "needs an address"),
        ({"consent_link": "https://shop.example"}, "consent_text", "what the link is about"),
        ({"consent_text": "x", "consent_link": "javascript:alert(1)"}, "consent_link", "URL"),
        ({"frame_origins": "http://shop.example"}, "frame_origins", "https://"),
        ({"logo_file": SimpleUploadedFile("logo.png", b"<svg onload=alert(1)>")}, "logo_file", "PNG, JPEG or WebP"),
        ({"logo_file": SimpleUploadedFile("logo.png", PNG + bytes(200_000))}, "logo_file", "128 KiB"),
    ],
)
def test_bad_input_gets_a_sentence(cast: World, widget: Widget, fields: Any, wrong: str, words: str) -> None:
    response = save(logged_in(cast.bob), widget, **fields)
    assert response.status_code == 200
    assert set(errors(response)) == {wrong}
    assert words in errors(response)[wrong]


def test_an_identity_secret_is_shown_once(cast: World, widget: Widget) -> None:
    client = logged_in(cast.bob)
    make = reverse("admin:widget_widget_identity", args=[widget.pk])
    shown = client.post(make, {"_form_submitted": "1"})
    widget.refresh_from_db()
    first = widget.identity_secret
    assert len(first) >= 43
    assert first in shown.content.decode()
    assert "no-store" in shown["Cache-Control"]
    assert first not in client.get(change(widget)).content.decode()
    client.post(make, {"_form_submitted": "1"})
    widget.refresh_from_db()
    assert widget.identity_secrets() == [widget.identity_secret, first]
    assert widget.identity_secrets(timezone.now() + datetime.timedelta(hours=25)) == [widget.identity_secret]
    assert AuditEntry.objects.filter(action="widget.identity_secret_made").count() == 2
    save(client, widget, identity_off="on")
    widget.refresh_from_db()
    assert widget.identity_secrets() == []


def test_the_page_shows_the_tag_and_a_preview(cast: World, widget: Widget) -> None:
    page = reverse("admin:widget_widget_page", args=[widget.pk])
    text = logged_in(cast.bob).get(page).content.decode()
    tag = (
        f'<script src="{OWN}/widget.js" data-tenant="acme" data-assistant="acme-assistant"'
        ' data-color="#0f766e" data-position="right" async></script>'
    )
    assert escape(tag) in text
    assert f"{OWN}/chat/acme/acme-assistant/" in text
    assert reverse("admin:widget_widget_preview", args=[widget.pk]) in text
    assert bundle.MISSING not in text


def test_the_page_says_that_the_bundle_is_missing(
    cast: World, widget: Widget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "DIRECTORY", tmp_path / "nothing")
    page = reverse("admin:widget_widget_page", args=[widget.pk])
    assert bundle.MISSING in logged_in(cast.bob).get(page).content.decode()


# --- Who may ----------------------------------------------------------------------------------------------------------


def pages(widget: Widget) -> list[str]:
    own = [reverse(f"admin:widget_widget_{name}", args=[widget.pk]) for name in ("change", "page", "preview", "embed")]
    return [*own, reverse("admin:assistants_assistant_widget", args=[widget.assistant_id])]


def test_another_tenants_staff_gets_what_an_unknown_id_gets(cast: World, widget: Widget) -> None:
    client = logged_in(cast.charlie)
    for page in pages(widget)[1:3]:
        assert client.get(page).status_code == 404
    assert client.get(pages(widget)[-1]).status_code == client.post(pages(widget)[-1]).status_code == 404
    assert client.get(reverse("admin:assistants_assistant_widget", args=[uuid.uuid4()])).status_code == 404
    assert client.get(pages(widget)[0]).status_code == 302  # to a message that there is no such widget
    assert save(client, widget).status_code == 302
    widget.refresh_from_db()
    assert widget.greeting == "acme greets"
    client.post(reverse("admin:widget_widget_identity", args=[widget.pk]), {"_form_submitted": "1"})
    widget.refresh_from_db()
    assert widget.identity_secret == ""


def test_analysts_read_and_support_does_not(cast: World, widget: Widget) -> None:
    analyst, support = [
        factories.make_member(tenant=cast.acme, role=role)
        for role in (Membership.Role.ANALYST, Membership.Role.SUPPORT)
    ]
    client = logged_in(analyst)
    assert [client.get(page).status_code for page in pages(widget)] == [200, 200, 200, 302, 302]
    assert save(client, widget).status_code == 403
    assert client.post(reverse("admin:widget_widget_identity", args=[widget.pk]), {}).status_code == 403
    assert {logged_in(support).get(page).status_code for page in pages(widget)} == {403}


def test_nobody_adds_or_deletes_one_by_itself(cast: World, widget: Widget) -> None:
    client = logged_in(cast.alice)
    assert client.get(reverse("admin:widget_widget_add")).status_code == 403
    assert client.post(reverse("admin:widget_widget_delete", args=[widget.pk]), {"post": "yes"}).status_code == 403


def test_it_goes_with_its_assistant(cast: World) -> None:
    assistant = factories.make_assistant(tenant=cast.acme, slug="bare")
    client = logged_in(cast.bob)
    client.post(reverse("admin:assistants_assistant_widget", args=[assistant.pk]))
    deleted = client.post(reverse("admin:assistants_assistant_delete", args=[assistant.pk]), {"post": "yes"})
    assert deleted.status_code == 302
    assert not Assistant.objects.filter(pk=assistant.pk).exists()


# --- Would it work there? ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "listed", "good", "words"),
    [
        ("https://shop.example/contact?x=1", ["https://shop.example"], True, "are let in"),
        ("shop.example", ["https://shop.example"], True, "are let in"),
        ("https://www.shop.example/", ["https://shop.example"], False, "https://shop.example is listed"),
        ("https://shop.example:444/", ["https://shop.example"], False, "https://shop.example is listed"),
        ("https://other.example/", ["https://shop.example"], False, "it is not listed"),
        ("https://shop.example/", [], False, "no web site is listed"),
        ("http://shop.example/", ["https://shop.example"], False, "without TLS"),
        ("http://localhost:3000/", ["http://localhost:3000"], True, "are let in"),
        (f"{OWN}/chat/x/y/", [], False, "switch the hosted page on"),
        ("https://", [], False, "origin"),
        ("https://[", [], False, "no address"),
        ("javascript:alert(1)", [], False, "origin"),
    ],
)
def test_an_address_is_judged(widget: Widget, address: str, listed: list[str], good: bool, words: str) -> None:
    widget.assistant.visitor_origins = listed
    first = judge(widget, address)[0]
    assert (first.good, words in first.says) == (good, True), first


def test_framing_and_a_switched_off_assistant_are_told(widget: Widget) -> None:
    widget.frame_origins = ["https://partner.example"]
    said = [verdict.says for verdict in judge(widget, "https://partner.example/")]
    assert any("may show the hosted page in a frame" in sentence for sentence in said)
    assert any("script-src, connect-src and img-src" in sentence for sentence in said)
    widget.assistant.is_active = False
    assert "switched off" in judge(widget, "https://partner.example/")[0].says


def test_the_verdicts_stand_on_the_page(cast: World, widget: Widget) -> None:
    page = reverse("admin:widget_widget_page", args=[widget.pk])
    text = logged_in(cast.bob).get(page, {"address": "https://shop.example/<script>"}).content.decode()
    assert "Visitors of https://shop.example get 401" in text
    assert "example/<script>" not in text
