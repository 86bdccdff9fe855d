"""Files that a question brings along: sent, listed, named, read by the model, and forgotten."""

from __future__ import annotations

import asyncio
import datetime
import math
import os
import signal
import uuid
from typing import Any

import pytest
from django.utils import timezone

from apps.access.rates import Rate
from apps.conversations import attaching, attaching_api
from apps.conversations.models import Attached, Attachment, Conversation, Message, Turn
from apps.knowledge.metering import PAGE_CHARS
from apps.tenants.models import EndUser
from apps.tenants.scoping import platform_unit, unit
from apps.usage.keeping import kept
from apps.usage.models import UsageRecord
from tests import factories
from tests.apps.access.visiting import OTHER, Page, token_for
from tests.apps.conversations.attached import NOTE, address, allow, attach, file
from tests.apps.conversations.conftest import Api, World, read_sse
from tests.apps.conversations.test_websocket import Socket
from tests.apps.knowledge.ingesting import sheet, stopped
from tests.chatbot.test_golden import GOLDEN

JSON = "application/json"


@pytest.fixture(autouse=True)
async def allowed(world: World) -> None:
    await allow(world)


async def attached(world: World, client: Any, *given: Any, **more: Any) -> str:
    response = await attach(world, client, *given, **more)
    assert response.status_code == 201, response.content
    return str(response.json()["id"])


async def ask(world: World, client: Any, text: str = "Which colour?", **said: Any) -> Any:
    return await client.post(world.turns, {"text": text, **said}, content_type=JSON)


def sent(world: World, place: int = -1) -> str:
    """The last message of a prompt that the model received."""
    return str(
        [one for one in world.fake.requests if "messages" in one.payload][place].payload["messages"][-1]["content"]
    )


async def rows(model: Any = Attachment) -> int:
    return await platform_unit(model.objects.count)


async def bytes_kept(world: World) -> int:
    return (await unit(kept, world.tenant)).bytes


# --- Sending ----------------------------------------------------------------------------------------------------------


async def test_a_file_is_read_when_it_is_sent(world: World, api: Api) -> None:
    response = await attach(world, api)
    told = response.json()
    assert response.status_code == 201
    assert {k: told[k] for k in ("name", "media_type", "size", "cut", "used")} == {
        "name": "note.txt", "media_type": "text/plain", "size": len(NOTE), "cut": False, "used": False,
    }  # fmt: skip
    assert 5 < told["tokens"] < 30
    listed = (await api.get(address(world))).json()["results"]
    assert listed == [told]
    text, size = await platform_unit(Attachment.objects.values_list("text", "kept").get)
    assert (text, size) == (NOTE, len(NOTE))


async def test_a_document_of_many_parts_is_read_by_the_sandboxed_reader(world: World, api: Api) -> None:
    path = next(GOLDEN.glob("eml/*.eml"))
    response = await attach(world, api, path.name, path.read_bytes())
    assert response.status_code == 201, response.content
    assert response.json()["tokens"] > 10


async def test_an_assistant_takes_none_unless_told(world: World, api: Api) -> None:
    await allow(world, False)
    response = await attach(world, api)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert await rows() == 0


@pytest.mark.parametrize(
    ("sent_file", "told"),
    [
        (("tool.exe", b"MZ"), (415, "unsupported_type")),
        (("report.pdf", b"no PDF at all"), (415, "unsupported_type")),
        (("old.doc", b"\xd0\xcf\x11\xe0"), (415, "unsupported_type")),
        (("note.txt", b""), (400, "invalid_request")),
        (("blank.txt", b" \n "), (422, "parser")),
        (("broken.pdf", b"%PDF-1.7\nnothing"), (422, "parser")),
        (("long.txt", b"x" * 3000), (413, "payload_too_large")),
    ],
)
async def test_a_file_that_is_refused_says_why(
    world: World, api: Api, settings: Any, sent_file: tuple[str, bytes], told: tuple[int, str]
) -> None:
    settings.PARLEY_MAX_ATTACHMENT_BYTES = 2048
    response = await attach(world, api, *sent_file)
    assert (response.status_code, response.json()["code"]) == told
    assert await rows() == 0


async def test_a_reader_that_the_kernel_kills_says_nothing_of_the_file(world: World, api: Api) -> None:
    sending = asyncio.create_task(attach(world, api, "parts.csv", sheet(1)))
    await asyncio.to_thread(reader_killed)
    response = await sending
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    assert await rows() == 0


def reader_killed() -> None:
    with stopped() as reader:
        os.kill(reader, signal.SIGKILL)


async def test_what_is_declared_too_long_is_not_read(world: World, api: Api, settings: Any) -> None:
    settings.PARLEY_MAX_ATTACHMENT_BYTES = 1024
    response = await attach(world, api, "long.txt", b"x" * 100_000)
    assert response.status_code == 413
    assert "An attachment may have" in response.json()["message"]


async def test_one_file_at_a_time(world: World, api: Api) -> None:
    response = await api.post(address(world), {"file": [file("a.txt"), file("b.txt")]})
    assert (response.status_code, set(response.json()["fields"])) == (400, {"file"})


async def test_a_long_text_is_cut_and_says_so(world: World, api: Api, settings: Any) -> None:
    settings.PARLEY_MAX_ATTACHMENT_CHARS = 1000
    told = (await attach(world, api, "long.txt", "word " * 2000)).json()
    assert told["cut"]
    assert await platform_unit(lambda: Attachment.objects.values_list("kept", flat=True).get()) == 1000


async def test_what_no_context_window_holds_is_told_as_cut(world: World, api: Api) -> None:
    assert (await attach(world, api, "long.txt", "word " * 30_000)).json()["cut"]


async def test_the_same_request_again_attaches_once(world: World, api: Api) -> None:
    first = await attach(world, api, headers={"Idempotency-Key": "f"})
    again = await attach(world, api, headers={"Idempotency-Key": "f"})
    other = await attach(world, api, "other.txt", headers={"Idempotency-Key": "f"})
    assert (first.json(), again["Idempotent-Replayed"]) == (again.json(), "true")
    assert other.status_code == 422
    assert await rows() == 1


async def test_the_same_request_at_once_attaches_and_costs_once(world: World, api: Api) -> None:
    once = {"Idempotency-Key": "f"}
    answers = await asyncio.gather(*(attach(world, api, headers=once) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await rows() == 1
    assert await platform_unit(lambda: UsageRecord.objects.values_list("pages", flat=True).get()) == 1


async def test_a_conversation_has_so_many(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attaching, "MOST_KEPT", 2)
    answers = await asyncio.gather(*(attach(world, api, f"{number}.txt") for number in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 400, 400]


async def test_one_end_user_sends_so_many_in_a_time(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attaching_api, "FILES", Rate(burst=1, every=600.0))
    assert (await attach(world, api)).status_code == 201
    refused = await attach(world, api)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")


# --- Quotas -----------------------------------------------------------------------------------------------------------


async def test_its_text_counts_as_bytes_until_it_is_gone(world: World, api: Api) -> None:
    before = await bytes_kept(world)
    await platform_unit(
        lambda: factories.make_quota(tenant=world.tenant, metric="bytes", window="once", amount=before + 100)
    )
    one = await attached(world, api)
    assert await bytes_kept(world) == before + len(NOTE)
    full = await attach(world, api, "more.txt", "x" * 90)
    assert (full.status_code, full.json()["code"]) == (429, "quota_exceeded")
    assert (await api.delete(f"{address(world)}/{one}")).status_code == 204
    assert await bytes_kept(world) == before
    assert (await attach(world, api, "more.txt", "x" * 90)).status_code == 201
    await api.delete(f"/api/v1/conversations/{world.conversation.pk}")
    assert await bytes_kept(world) == before


async def test_many_at_once_never_keep_more_than_the_quota(world: World, api: Api) -> None:
    before = await bytes_kept(world)
    most = before + 3 * len(NOTE)
    await platform_unit(lambda: factories.make_quota(tenant=world.tenant, metric="bytes", window="once", amount=most))
    answers = await asyncio.gather(*(attach(world, api) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 5
    assert await bytes_kept(world) == most


async def test_its_pages_are_billed(world: World, api: Api) -> None:
    await platform_unit(lambda: factories.make_quota(tenant=world.tenant, metric="pages", amount=1))
    await attached(world, api)
    assert await platform_unit(lambda: UsageRecord.objects.values_list("pages", flat=True).get()) == 1
    refused = await attach(world, api)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert refused.json()["retry_after"] > 0


async def test_pages_that_are_not_kept_are_not_billed(world: World, api: Api, settings: Any) -> None:
    settings.PARLEY_MAX_ATTACHMENT_CHARS = 6000
    assert (await attach(world, api, "long.txt", "word " * 20_000)).json()["cut"]
    assert await platform_unit(lambda: UsageRecord.objects.values_list("pages", flat=True).get()) == math.ceil(
        6000 / PAGE_CHARS
    )


async def test_a_question_reserves_what_its_files_may_take(world: World, api: Api) -> None:
    long = await attached(world, api, "long.txt", "word " * 500)
    with_file = (await ask(world, api, "Why?", attachments=[long])).json()["id"]
    reserved = await platform_unit(
        lambda: UsageRecord.objects.filter(turn_id=with_file).values_list("prompt_tokens", flat=True).get()
    )
    assert reserved > 500


# --- Asking -----------------------------------------------------------------------------------------------------------


async def test_the_model_reads_the_file(world: World, api: Api) -> None:
    one, other = await attached(world, api), await attached(world, api, "two.md", "# Second\n\nIt is square.")
    response = await ask(world, api, attachments=[other, one])
    assert response.status_code == 200, response.content
    prompt = sent(world)
    assert f'<attachment name="note.txt">\n{NOTE}\n</attachment>' in prompt
    assert prompt.index(NOTE) < prompt.index("It is square.") < prompt.index("Which colour?")
    named = [{"id": one, "name": "note.txt", "size": len(NOTE)}, {"id": other, "name": "two.md", "size": 23}]
    assert response.json()["question"]["attachments"] == named
    question, answer = (await api.get(f"{world.turns[:-5]}messages")).json()["results"]
    assert (question["attachments"], answer["attachments"]) == (named, [])
    assert [each["used"] for each in (await api.get(address(world))).json()["results"]] == [True, True]


async def test_through_a_stream_and_a_socket(world: World, api: Api) -> None:
    one = await attached(world, api)
    said = {"text": "Which colour?", "attachments": [one]}
    stream = await api.post(world.turns, said, content_type=JSON, headers={"Accept": "text/event-stream"})
    assert [event async for event in read_sse(stream)][-1].type == "turn.finished"
    assert NOTE in sent(world)
    world.fake.requests.clear()
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    await socket.hear()
    await socket.say(type="ask", conversation=str(world.conversation.pk), client_id="q", **said)
    assert (await socket.hear_turn())[-1]["type"] == "turn.finished"
    await socket.say(type="ask", assistant="guide", client_id="r", **said)
    assert (await socket.hear())["code"] == "not_found"
    await socket.disconnect()
    assert NOTE in sent(world)


async def test_those_of_earlier_questions_are_still_there(world: World, api: Api) -> None:
    await ask(world, api, attachments=[await attached(world, api)])
    await ask(world, api, "And which pump?", attachments=[await attached(world, api, "two.txt", "Another one.")])
    prompt = sent(world)
    assert prompt.index("Another one.") < prompt.index(NOTE) < prompt.index("And which pump?")


async def test_a_question_of_another_branch_has_them_not(world: World, api: Api) -> None:
    first = (await ask(world, api, "Hello?")).json()["id"]
    await ask(world, api, attachments=[await attached(world, api)])
    await ask(world, api, "Beside it?", parent=first)
    assert NOTE not in sent(world)


async def test_answered_once_more_it_has_them_again(world: World, api: Api) -> None:
    turn = (await ask(world, api, attachments=[await attached(world, api)])).json()["id"]
    world.fake.requests.clear()
    assert (await api.post(f"/api/v1/turns/{turn}/regenerate")).status_code == 200
    assert sent(world).count(NOTE) == 1


async def test_a_continued_answer_has_them_again(world: World, api: Api) -> None:
    world.script("The valve", " is", finish_reason="length")
    turn = (await ask(world, api, attachments=[await attached(world, api)])).json()["id"]
    world.fake.requests.clear()
    assert (await api.post(f"/api/v1/turns/{turn}/continue")).status_code == 200
    assert any(NOTE in str(one.payload) for one in world.fake.requests)


async def test_an_edited_question_has_them_unless_it_names_others(world: World, api: Api) -> None:
    turn = (await ask(world, api, attachments=[await attached(world, api)])).json()["id"]
    edited = await ask(world, api, "What colour?", edits=turn)
    assert NOTE in sent(world)
    assert [one["name"] for one in edited.json()["question"]["attachments"]] == ["note.txt"]
    await ask(world, api, "No file?", edits=turn, attachments=[])
    assert NOTE not in sent(world)


async def test_a_repeated_question_is_asked_once(world: World, api: Api) -> None:
    one = await attached(world, api)
    said = {"text": "Which colour?", "attachments": [one]}
    first = await api.post(world.turns, said, content_type=JSON, headers={"Idempotency-Key": "q"})
    again = await api.post(world.turns, said, content_type=JSON, headers={"Idempotency-Key": "q"})
    other = await api.post(world.turns, {"text": "Which colour?"}, content_type=JSON, headers={"Idempotency-Key": "q"})
    assert (first.json()["id"], other.status_code) == (again.json()["id"], 422)
    assert await rows(Attached) == 1


async def test_a_question_that_failed_is_asked_again_with_its_file(world: World, api: Api) -> None:
    one = await attached(world, api)
    world.script(status=500)
    said = {"text": "Which colour?", "attachments": [one]}
    await api.post(world.turns, said, content_type=JSON, headers={"Idempotency-Key": "q"})
    response = await api.post(world.turns, said, content_type=JSON, headers={"Idempotency-Key": "q"})
    assert response.status_code == 200, response.content
    assert NOTE in sent(world)
    assert await rows(Attached) == 1


async def test_a_switched_off_assistant_reads_none(world: World, api: Api) -> None:
    one = await attached(world, api)
    turn = (await ask(world, api, attachments=[one])).json()["id"]
    await allow(world, False)
    refused = await ask(world, api, attachments=[one])
    assert (refused.status_code, set(refused.json()["fields"])) == (400, {"attachments"})
    await api.post(f"/api/v1/turns/{turn}/regenerate")
    assert NOTE not in sent(world)


@pytest.mark.parametrize("what", ["unknown", "of another conversation", "gone"])
async def test_what_is_not_the_conversations_cannot_be_named(world: World, api: Api, what: str) -> None:
    other = await platform_unit(lambda: factories.make_conversation(tenant=world.tenant, assistant=world.assistant))
    one = str(uuid.uuid4())
    if what == "of another conversation":
        one = (await api.post(address(world, other), {"file": file()})).json()["id"]
    elif what == "gone":
        one = await attached(world, api)
        await api.delete(f"{address(world)}/{one}")
    response = await ask(world, api, attachments=[one])
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert await rows(Turn) == 0


async def test_a_question_brings_so_many(world: World, api: Api) -> None:
    ids = [await attached(world, api, f"{number}.txt") for number in range(6)]
    refused = await ask(world, api, attachments=ids)
    assert (refused.status_code, set(refused.json()["fields"])) == (400, {"attachments"})
    assert (await ask(world, api, attachments=[ids[0]] * 2)).status_code == 200


# --- Whose ------------------------------------------------------------------------------------------------------------


async def test_of_a_named_user_alone(world: World, api: Api) -> None:
    user = await platform_unit(lambda: EndUser.objects.get(pk=world.conversation.end_user_id).external_id)
    assert (await attach(world, api, user="somebody")).status_code == 404
    one = await attached(world, api, user=user)
    assert (await api.get(f"{address(world)}?user=somebody")).status_code == 404
    assert (await api.delete(f"{address(world)}/{one}?user=somebody")).status_code == 404
    assert (await api.delete(f"{address(world)}/{one}?user={user}")).status_code == 204


async def test_a_visitor_attaches_from_the_page_that_let_them_in(world: World) -> None:
    page = Page(token=await token_for(world, user="zoe"))
    conversation = (await page.say("conversations", {"assistant": "guide"})).json()["id"]
    path = f"/api/v1/conversations/{conversation}/attachments"
    response = await page.post(path, {"file": file()})
    assert response.status_code == 201, response.content
    answer = await page.say(
        f"conversations/{conversation}/turns", {"text": "?", "attachments": [response.json()["id"]]}
    )
    assert answer.status_code == 200
    assert NOTE in sent(world)
    elsewhere = Page(OTHER, token=page.token)
    assert (await elsewhere.post(path, {"file": file()})).status_code == 401
    stranger = Page(token=await token_for(world, user="yan"))
    assert (await stranger.post(path, {"file": file()})).status_code == 404
    assert (await stranger.get(path)).status_code == 404


# --- Forgetting -------------------------------------------------------------------------------------------------------


async def test_one_that_came_with_a_question_stays_with_it(world: World, api: Api) -> None:
    one = await attached(world, api)
    await ask(world, api, attachments=[one])
    assert (await api.delete(f"{address(world)}/{one}")).status_code == 404
    assert await rows() == 1


async def test_deleted_while_it_is_asked_with_it_is_one_or_the_other(world: World, api: Api) -> None:
    for _ in range(6):
        one = await attached(world, api)
        asked, gone = await asyncio.gather(ask(world, api, attachments=[one]), api.delete(f"{address(world)}/{one}"))
        assert (asked.status_code, gone.status_code) in {(200, 404), (404, 204)}, (asked.content, gone.content)
        assert await platform_unit(Attachment.objects.filter(pk=one).exists) == (asked.status_code == 200)


async def test_a_conversation_takes_its_files_along(world: World, api: Api) -> None:
    await ask(world, api, attachments=[await attached(world, api)])
    await attached(world, api)
    assert (await api.delete(f"/api/v1/conversations/{world.conversation.pk}")).status_code == 204
    assert (await rows(), await rows(Attached), await rows(Message)) == (0, 0, 0)


@pytest.mark.parametrize("what", [EndUser, Conversation])
async def test_whoever_is_erased_takes_theirs_along(world: World, api: Api, what: Any) -> None:
    await ask(world, api, attachments=[await attached(world, api)])
    await platform_unit(lambda: what.objects.for_tenant(world.tenant).delete())
    assert (await rows(), await rows(Attached)) == (0, 0)


async def test_one_that_no_question_came_for_is_forgotten_after_a_day(world: World, api: Api) -> None:
    used, unused, fresh = [await attached(world, api, f"{number}.txt") for number in range(3)]
    await ask(world, api, attachments=[used])
    old = timezone.now() - datetime.timedelta(days=2)
    await platform_unit(Attachment.objects.filter(pk__in=[used, unused]).update, created=old)
    assert await asyncio.to_thread(attaching.forget_unused) == 1
    left = await platform_unit(lambda: {str(pk) for pk in Attachment.objects.values_list("pk", flat=True)})
    assert left == {used, fresh}
