"""Shared links: what they show, whose they are, and what ends them."""

from __future__ import annotations

import datetime
import html
import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.utils import timezone

from apps.access import rates
from apps.conversations import sharing
from apps.conversations.models import Conversation, Share
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit
from tests.apps.access.visiting import Page, token_for
from tests.apps.conversations.attached import NOTE, allow, attach
from tests.apps.conversations.conftest import Api, World, api, fake, world
from tests.apps.widget.dressed import build, dressed

__all__ = ["api", "fake", "world"]


@pytest.fixture(autouse=True)
def built(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "widget", monkeypatch)


async def ask(world: World, api: Api, text: str, answer: str, **said: Any) -> dict[str, Any]:
    world.script(answer)
    response = await api.post(world.turns, {"text": text, **said}, content_type="application/json")
    turn: dict[str, Any] = response.json()
    return turn


async def share(world: World, api: Api, **said: Any) -> Any:
    return await api.post(f"{world.turns[:-5]}share", said, content_type="application/json")


async def opened(url: str) -> Any:
    return await Page("").get(urlsplit(url).path)


async def shown(url: str) -> Any:
    response = await opened(url)
    found = re.search(r'<script id="parley-settings" type="application/json">(.*?)</script>', response.content.decode())
    assert found, response.content
    return json.loads(found[1])


async def test_a_link_shows_questions_answers_and_citations(world: World, api: Api) -> None:
    await dressed(world.assistant, primary="#123456", starters=["Hidden?"], handoff="webhook", identity_secret="x" * 40)
    await ask(world, api, "pump?", "Prime it [1].")
    await platform_unit(Conversation.objects.filter(pk=world.conversation.pk).update, title="Pumps")
    response = await share(world, api)
    told = response.json()
    assert (response.status_code, set(told), response["Cache-Control"]) == (
        201,
        {"url", "created", "expires_at"},
        "no-store",
    )
    page = await shown(told["url"])
    assert (page["mode"], page["title"]) == ("shared", "Pumps")
    (turn,) = page["turns"]
    assert (turn["question"], turn["answer"]) == ("pump?", "Prime it [1].")
    (citation,) = turn["citations"]
    assert (citation["n"], citation["title"], citation["page"], citation["document"]) == (1, "Manual", 3, "")
    assert set(citation) == {"n", "title", "heading", "page", "text", "document"}
    settings = page["settings"]
    assert settings["theme"]["primary"] == "#123456"
    assert [settings[name] for name in ("tenant", "assistant", "starters", "handoff", "identity")] == [
        "", "", [], None, False,
    ]  # fmt: skip


async def test_of_a_file_a_link_shows_its_name_alone(world: World, api: Api) -> None:
    await allow(world)
    attached = (await attach(world, api)).json()["id"]
    await ask(world, api, "pump?", "Prime it.", attachments=[attached])
    url = (await share(world, api)).json()["url"]
    (turn,) = (await shown(url))["turns"]
    assert turn["attachments"] == ["note.txt"]
    page = (await opened(url)).content.decode()
    assert NOTE not in page
    assert attached not in page
    assert (await shown(url))["settings"]["attachments"] is None


async def test_the_conversation_says_whether_it_is_shared(world: World, api: Api) -> None:
    await ask(world, api, "first?", "One.")
    place = world.turns[:-6]

    async def said() -> list[bool]:
        listed = (await api.get("/api/v1/conversations")).json()["results"]
        return [(await api.get(place)).json()["shared"], *(row["shared"] for row in listed)]

    assert await said() == [False, False]
    await share(world, api, days=1)
    assert await said() == [True, True]
    await platform_unit(lambda: Share.objects.update(expires_at=timezone.now()))
    assert await said() == [False, False]
    await share(world, api)
    await api.patch(place, {"shared": False}, content_type="application/json")
    assert await said() == [True, True]


async def test_search_engines_are_told_to_leave_it(world: World, api: Api) -> None:
    await ask(world, api, "pump?", "Prime it.")
    response = await opened((await share(world, api)).json()["url"])
    assert "noindex" in response["X-Robots-Tag"]
    assert b'<meta name="robots" content="noindex' in response.content
    assert "default-src 'none'" in response["Content-Security-Policy"]


async def test_what_was_said_stays_text(world: World, api: Api) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    await ask(world, api, hostile, hostile)
    await platform_unit(Conversation.objects.filter(pk=world.conversation.pk).update, title=hostile)
    url = (await share(world, api)).json()["url"]
    text = (await opened(url)).content.decode()
    assert "<img" not in text
    assert html.escape(hostile) in text  # the page's title
    assert (await shown(url))["turns"][0]["answer"] == hostile


async def test_a_link_covers_what_was_there_when_it_was_made(world: World, api: Api) -> None:
    await ask(world, api, "first?", "One.")
    first = (await share(world, api)).json()["url"]
    await ask(world, api, "second?", "Two.")
    second = (await share(world, api)).json()["url"]
    assert [turn["question"] for turn in (await shown(first))["turns"]] == ["first?"]
    assert [turn["question"] for turn in (await shown(second))["turns"]] == ["first?", "second?"]


async def test_a_link_shows_one_branch(world: World, api: Api) -> None:
    first = await ask(world, api, "first?", "One.")
    old = await ask(world, api, "second?", "Two.")
    await ask(world, api, "second, edited?", "Two, too.", edits=old["id"])
    latest = (await shown((await share(world, api)).json()["url"]))["turns"]
    assert [turn["question"] for turn in latest] == ["first?", "second, edited?"]
    chosen = (await shown((await share(world, api, turn=old["id"])).json()["url"]))["turns"]
    assert [turn["question"] for turn in chosen] == ["first?", "second?"]
    alone = (await shown((await share(world, api, turn=first["id"])).json()["url"]))["turns"]
    assert [turn["question"] for turn in alone] == ["first?"]


@pytest.mark.parametrize("how", ["unshared", "deleted", "suspended", "expired", "made up", "too long"])
async def test_what_ends_a_link(world: World, api: Api, how: str) -> None:
    await ask(world, api, "pump?", "Prime it.")
    url = (await share(world, api, days=1)).json()["url"]
    assert (await opened(url)).status_code == 200
    if how == "unshared":
        assert (await api.delete(f"{world.turns[:-5]}share")).status_code == 204
    elif how == "deleted":
        assert (await api.delete(world.turns[:-6])).status_code == 204
    elif how == "suspended":
        await platform_unit(Tenant.objects.filter(slug="acme").update, is_active=False)
    elif how == "expired":
        past = timezone.now() - datetime.timedelta(seconds=1)
        await platform_unit(lambda: Share.objects.update(expires_at=past))
    else:
        url = url[:-1] + ("A" if url[-1] != "A" else "B") if how == "made up" else url + "A"
    response = await opened(url)
    assert response.status_code == 404
    assert b"There is nothing here." in response.content
    assert b"Prime it" not in response.content


async def test_the_link_itself_is_not_kept(world: World, api: Api) -> None:
    await ask(world, api, "pump?", "Prime it.")
    token = (await share(world, api)).json()["url"].rpartition("/")[2]
    row = await platform_unit(Share.objects.get)
    assert len(token) == sharing.TOKEN_CHARS
    assert token.encode() not in bytes(row.digest)
    assert bytes(row.digest) == sharing.digest(token)


async def test_nothing_answered_is_nothing_to_share(world: World, api: Api) -> None:
    response = await share(world, api)
    assert (response.status_code, response.json()["message"]) == (
        400,
        "There is nothing to share yet: nothing was answered.",
    )


@pytest.mark.parametrize(("said", "field"), [({"days": 0}, "days"), ({"days": 366}, "days"), ({"turn": "x"}, "turn")])
async def test_bad_input_is_told(world: World, api: Api, said: dict[str, Any], field: str) -> None:
    response = await share(world, api, **said)
    assert (response.status_code, set(response.json()["fields"])) == (400, {field})


async def test_a_turn_of_another_conversation_cannot_be_shared(world: World, api: Api) -> None:
    await ask(world, api, "pump?", "Prime it.")
    other = await api.post("/api/v1/conversations", {"assistant": "guide"}, content_type="application/json")
    world.script("Hidden.")
    path = f"/api/v1/conversations/{other.json()['id']}/turns"
    hidden = (await api.post(path, {"text": "secret?"}, content_type="application/json")).json()
    response = await share(world, api, turn=hidden["id"])
    assert (response.status_code, set(response.json()["fields"])) == (400, {"turn"})


async def test_links_are_their_end_users(world: World, api: Api) -> None:
    """Another visitor makes none and ends none."""
    mine, theirs = [Page(token=await token_for(world, user=name)) for name in ("zoe", "yan")]
    conversation = (await mine.say("conversations", {"assistant": "guide"})).json()["id"]
    world.script("Prime it.")
    await mine.say(f"conversations/{conversation}/turns", {"text": "pump?"})
    url = (await mine.say(f"conversations/{conversation}/share")).json()["url"]
    assert (await theirs.say(f"conversations/{conversation}/share")).status_code == 404
    assert (await theirs.delete(f"/api/v1/conversations/{conversation}/share")).status_code == 404
    assert (await opened(url)).status_code == 200
    assert (await mine.delete(f"/api/v1/conversations/{conversation}/share")).status_code == 204
    assert (await opened(url)).status_code == 404


async def test_there_are_so_many_links_and_no_more(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "MOST_SHARES", 2)
    await ask(world, api, "pump?", "Prime it.")
    answers = [await share(world, api) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 400]
    assert "2 links at most" in answers[-1].json()["message"]


async def test_who_makes_too_many_has_to_wait(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.conversations.sharing_api.SHARES", rates.Rate(burst=1, every=60.0))
    await ask(world, api, "pump?", "Prime it.")
    assert [(await share(world, api)).status_code for _ in range(2)] == [201, 429]


async def test_the_address_of_a_link_is_not_logged(world: World, api: Api, capfd: pytest.CaptureFixture[str]) -> None:
    await ask(world, api, "pump?", "Prime it.")
    url = (await share(world, api)).json()["url"]
    capfd.readouterr()
    await opened(url)
    assert url.rpartition("/")[2] not in "".join(capfd.readouterr())
