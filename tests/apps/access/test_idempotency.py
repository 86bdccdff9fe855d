"""A request that is sent again with its idempotency key is done once, whatever it creates."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections
from django.utils import timezone

from apps.access.idempotency import KEPT
from apps.access.models import IdempotencyKey
from apps.access.tasks import prune_idempotency_keys
from apps.conversations.models import Conversation, Feedback, Message, Turn
from apps.knowledge.models import Collection, Document
from apps.tenants.models import AuditEntry, Tenant
from apps.tenants.scoping import platform_unit
from apps.usage.models import UsageRecord
from apps.webhooks.models import Webhook
from tests import factories
from tests.apps.conversations.conftest import Api, World, api, fake, world
from tests.apps.conversations.test_again import interrupted
from tests.apps.conversations.test_branches import asked
from tests.fakes.inference import Reply

__all__ = ["api", "fake", "world"]

KEY = {"Idempotency-Key": "order 66"}
HOOK = {"name": "Tickets", "url": "https://tickets.example/parley", "events": ["turn.finished"]}


@pytest.fixture(autouse=True)
def storage(settings: Any, tmp_path: Any) -> None:
    """Each test's uploads in a directory of its own."""
    settings.MEDIA_ROOT = tmp_path / "media"


async def post(api: Api, path: str, body: Any = None, key: str = KEY["Idempotency-Key"], **headers: str) -> Any:
    sent = {"Idempotency-Key": key, **headers}
    return await api.post(f"/api/v1/{path}", body or {}, content_type="application/json", headers=sent)


async def count(model: Any) -> int:
    return await platform_unit(model.objects.count)


# What each creating route makes: its path, a body, another body, the model.
CREATING: dict[str, tuple[str, dict[str, Any], dict[str, Any], Any]] = {
    "conversation": ("conversations", {"assistant": "guide"}, {"assistant": "guide", "title": "x"}, Conversation),
    "collection": ("collections", {"name": "Of pumps"}, {"name": "Of mills"}, Collection),
    "webhook": ("webhooks", HOOK, {**HOOK, "name": "Other"}, Webhook),
    "document": (
        "documents",
        {"collection": "{collection}", "title": "x", "text": "Prime it."},
        {"collection": "{collection}", "title": "x", "text": "Or not."},
        Document,
    ),
}


async def filled(world: World, body: dict[str, Any]) -> dict[str, Any]:
    slug = await platform_unit(lambda: Collection.objects.for_tenant(world.tenant).order_by("created").first().slug)
    told: dict[str, Any] = json.loads(json.dumps(body).replace("{collection}", slug))
    return told


@pytest.mark.parametrize("what", sorted(CREATING))
async def test_a_repeat_is_answered_as_the_first_time_and_makes_nothing(world: World, api: Api, what: str) -> None:
    path, body, other, model = CREATING[what]
    body, other = await filled(world, body), await filled(world, other)
    before = await count(model)
    first = await post(api, path, body)
    assert first.status_code in {201, 202}, first.content
    assert "Idempotent-Replayed" not in first
    again = await post(api, path, body)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again["Idempotent-Replayed"] == "true"
    conflict = await post(api, path, other)
    assert (conflict.status_code, conflict.json()["code"]) == (422, "idempotency_conflict")
    assert await count(model) == before + 1
    assert (await post(api, path, other, key="another")).status_code == first.status_code
    assert await count(model) == before + 2


@pytest.mark.parametrize("what", sorted(CREATING))
async def test_twenty_at_once_make_one(world: World, api: Api, what: str) -> None:
    path, body, _, model = CREATING[what]
    body, before = await filled(world, body), await count(model)
    answers = await asyncio.gather(*(post(api, path, body) for _ in range(20)))
    assert len({(answer.status_code, answer.content) for answer in answers}) == 1
    assert answers[0].status_code in {201, 202}
    # Documents may be added side by side: who came in before the first was done tells no repeat.
    if what != "document":
        assert sum("Idempotent-Replayed" in answer for answer in answers) == 19
    assert await count(model) == before + 1


async def test_a_file_is_known_by_its_bytes_and_its_name(world: World, api: Api) -> None:
    slug = (await filled(world, {"c": "{collection}"}))["c"]

    async def upload(name: str, content: bytes) -> Any:
        form = {"collection": slug, "file": SimpleUploadedFile(name, content)}
        return await api.post("/api/v1/documents", form, headers=KEY)

    first = await upload("pump.md", b"# Pump\n\nPrime it.")
    assert first.status_code == 202
    again = await upload("pump.md", b"# Pump\n\nPrime it.")
    # By itself the same file is a 200, "it is there already"; a repeat is told what the first was.
    assert (again.status_code, again.content, again["Idempotent-Replayed"]) == (202, first.content, "true")
    for other in (("pump.md", b"# Pump\n\nPrime it twice."), ("mill.md", b"# Pump\n\nPrime it.")):
        assert (await upload(*other)).status_code == 422
    assert await platform_unit(Document.objects.filter(file_name__endswith="ump.md").count) == 1


async def test_a_key_stands_for_one_route(world: World, api: Api) -> None:
    assert (await post(api, "collections", {"name": "x"})).status_code == 201
    refused = await post(api, "webhooks", HOOK)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_conflict")
    assert await count(Webhook) == 0


async def test_a_refused_request_leaves_no_key(world: World, api: Api) -> None:
    for path, bad, good in (
        ("collections", {"name": "x", "slug": "No Slug"}, {"name": "x"}),
        ("documents", {"collection": "{collection}", "url": "ftp://x"}, {"collection": "{collection}", "text": "x"}),
        ("conversations", {"assistant": "nobody"}, {"assistant": "guide"}),
    ):
        assert (await post(api, path, await filled(world, bad), key=path)).status_code == 400
        assert (await post(api, path, await filled(world, good), key=path)).status_code in {201, 202}


async def test_what_was_done_is_recorded_once(world: World, api: Api) -> None:
    for _ in range(3):
        await post(api, "collections", {"name": "x"})
    assert await platform_unit(AuditEntry.objects.filter(action="collection.added").count) == 1


# --- Secrets ----------------------------------------------------------------------------------------------------------


async def test_the_secret_of_a_webhook_is_told_again_and_kept_nowhere_else(world: World, api: Api) -> None:
    first = await post(api, "webhooks", HOOK)
    secret = first.json()["secret"]
    assert secret.startswith("whsec_")
    assert (await post(api, "webhooks", HOOK)).json()["secret"] == secret
    kept = await platform_unit(IdempotencyKey.objects.get)
    assert secret not in kept.body
    assert "secret" not in json.loads(kept.body)
    # Another key of the API, were it to guess this, learns nothing.
    other = Api(await platform_unit(lambda: factories.make_key(tenant=world.tenant)))
    assert (await post(other, "webhooks", HOOK)).status_code == 422
    await platform_unit(lambda: Webhook.objects.all().delete())
    assert (await post(api, "webhooks", HOOK)).json()["secret"] == ""


# --- Whose keys are whose ---------------------------------------------------------------------------------------------


async def test_keys_are_a_tenants_and_an_end_users_own(world: World, api: Api) -> None:
    globex = await platform_unit(lambda: Tenant.objects.get(slug="globex"))
    await platform_unit(lambda: factories.make_assistant(tenant=globex, slug="guide"))
    ids = set()
    for client, body in (
        (api, {"assistant": "guide", "user": "zoe"}),
        (api, {"assistant": "guide", "user": "yan"}),
        (api, {"assistant": "guide"}),
        (Api(world.outsider_key), {"assistant": "guide", "user": "zoe"}),
    ):
        answer = await post(client, "conversations", body)
        assert answer.status_code == 201
        ids.add(answer.json()["id"])
    assert len(ids) == 4


async def test_a_repeat_takes_the_scope_of_the_first(world: World, api: Api) -> None:
    await post(api, "collections", {"name": "x"})
    reader = Api(await platform_unit(lambda: factories.make_key(tenant=world.tenant, scopes=["knowledge:read"])))
    assert (await post(reader, "collections", {"name": "x"})).status_code == 403


@pytest.mark.parametrize("key", ["x" * 201, "a\tb"])
@pytest.mark.parametrize("path", ["conversations", "collections", "documents", "webhooks"])
async def test_a_key_has_200_printable_characters(world: World, api: Api, path: str, key: str) -> None:
    _, body, *_ = next(each for each in CREATING.values() if each[0] == path)
    refused = await post(api, path, await filled(world, body), key=key)
    assert (refused.status_code, list(refused.json()["fields"])) == (400, ["Idempotency-Key"])


# --- Turns ------------------------------------------------------------------------------------------------------------


async def test_every_way_to_a_turn_is_repeated_as_it_was(world: World, api: Api) -> None:
    broken = await interrupted(world, api)
    ask = f"conversations/{world.conversation.pk}/turns"
    for number, (path, body) in enumerate(
        [(ask, {"text": "x"}), (f"turns/{broken}/regenerate", None), (f"turns/{broken}/continue", None)]
    ):
        first = await post(api, path, body, key=str(number))
        assert first.status_code == 200, first.content
        again = await post(api, path, body, key=str(number))
        assert (again.status_code, again.json()) == (200, first.json())
        streamed = await post(api, path, body, key=str(number), Accept="text/event-stream")
        said = b"".join([part async for part in streamed.streaming_content])
        assert first.json()["id"].encode() in said
        assert ["Idempotent-Replayed" in answer for answer in (first, again, streamed)] == [False, True, True]
    assert await count(Turn) == await count(UsageRecord) == 4
    for path, body in ((ask, {"text": "y"}), (ask, {"text": "x", "edits": broken}), (f"turns/{broken}/continue", None)):
        refused = await post(api, path, body, key="0")
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_conflict")


async def test_a_completion_tells_its_repeat(world: World, api: Api) -> None:
    body = {"model": "guide", "messages": [{"role": "user", "content": "pump?"}]}
    seen = []
    for stream in (False, False, True):
        said = {**body, "stream": stream}
        answer = await api.post("/v1/chat/completions", said, content_type="application/json", headers=KEY)
        seen.append("Idempotent-Replayed" in answer)
    assert seen == [False, True, True]
    assert await count(Turn) == 1


async def test_an_answer_that_broke_off_is_repeated_as_it_is(world: World, api: Api) -> None:
    world.script("half ", cut_after=1)
    ask = f"conversations/{world.conversation.pk}/turns"
    first, again = [await post(api, ask, {"text": "x"}) for _ in range(2)]
    assert first.status_code == again.status_code == 502
    assert first.json()["turn"] == again.json()["turn"]


async def test_what_failed_before_its_first_word_is_tried_again(world: World, api: Api) -> None:
    """So that a client which comes back after `retry_after`, as it was told, gets an answer."""
    world.fake.script(Reply(status=429, body="busy"))
    ask = f"conversations/{world.conversation.pk}/turns"
    failed = await post(api, ask, {"text": "pump?"})
    assert failed.status_code == 503
    world.script("Prime it.")
    second = await post(api, ask, {"text": "pump?"})
    assert (second.status_code, second.json()["text"]) == (200, "Prime it.")
    assert "Idempotent-Replayed" not in second
    third = await post(api, ask, {"text": "pump?"})
    assert (third.json()["id"], third["Idempotent-Replayed"]) == (second.json()["id"], "true")
    assert (await post(api, ask, {"text": "mill?"})).status_code == 422
    assert await platform_unit(Message.objects.filter(role="user").count) == 1
    assert [bill.bill for bill in await platform_unit(lambda: list(UsageRecord.objects.order_by("created")))] == [
        "none", "once",
    ]  # fmt: skip


async def test_a_completion_that_failed_is_tried_again(world: World, api: Api) -> None:
    world.fake.script(Reply(status=429, body="busy"))
    body = {"model": "guide", "messages": [{"role": "user", "content": "pump?"}]}
    answers = [
        await api.post("/v1/chat/completions", body, content_type="application/json", headers=KEY) for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [503, 200, 200]
    assert answers[1].json()["id"] == answers[2].json()["id"]
    assert await count(Turn) == 2


async def test_a_late_repeat_of_feedback_takes_nothing_back(world: World, api: Api) -> None:
    turn = await asked(world, api, "one")
    path = f"messages/{turn['answer']['id']}/feedback"
    first = await post(api, path, {"rating": "up"})
    await post(api, path, {"rating": "down"}, key="another")
    late = await post(api, path, {"rating": "up"})
    assert (late.content, late["Idempotent-Replayed"]) == (first.content, "true")
    assert (await platform_unit(Feedback.objects.get)).rating == "down"
    elsewhere = await asked(world, api, "two")
    refused = await post(api, f"messages/{elsewhere['answer']['id']}/feedback", {"rating": "up"})
    assert refused.status_code == 422


# --- Time -------------------------------------------------------------------------------------------------------------


def aged(by: dt.timedelta) -> Callable[[], int]:
    return lambda: IdempotencyKey.objects.update(created=timezone.now() - by)


@pytest.mark.parametrize("path", ["collections", "documents", "turns"])
async def test_after_a_day_a_key_stands_for_nothing(world: World, api: Api, path: str) -> None:
    body = await filled(world, {"name": "x", "text": "x", "collection": "{collection}"})
    other = {**body, "name": "y", "text": "y"}
    path = path if path != "turns" else f"conversations/{world.conversation.pk}/turns"
    first = await post(api, path, body)
    assert first.status_code in {200, 201, 202}
    await platform_unit(aged(KEPT - dt.timedelta(minutes=1)))
    assert (await post(api, path, other)).status_code == 422
    await platform_unit(aged(KEPT + dt.timedelta(minutes=1)))
    anew = await post(api, path, other)
    assert anew.status_code == first.status_code
    assert anew.json()["id"] != first.json()["id"]
    assert (await post(api, path, other)).json()["id"] == anew.json()["id"]
    assert await count(IdempotencyKey) == 1


async def test_old_keys_are_deleted_of_every_tenant(world: World, api: Api) -> None:
    for number in range(3):
        await post(api, "collections", {"name": f"{number}"}, key=str(number))
    await platform_unit(lambda: IdempotencyKey.objects.filter(key__in="01").update(created=timezone.now() - KEPT))
    assert await asyncio.to_thread(_pruned) == 2
    assert (await platform_unit(IdempotencyKey.objects.get)).key == "2"


def _pruned() -> int:
    """As a worker does it."""
    try:
        return prune_idempotency_keys()
    finally:
        connections.close_all()


PUMPS = {"name": "Of pumps"}
# A digest that everybody can make who guesses what was asked.
DIGEST = hashlib.sha256(orjson.dumps(["/api/v1/collections", PUMPS])).hexdigest()


async def test_what_was_asked_cannot_be_guessed_from_what_is_kept(world: World, api: Api) -> None:
    """A request may hold a secret, such as a bucket's."""
    await post(api, "collections", PUMPS)
    kept = await platform_unit(IdempotencyKey.objects.get)
    assert (len(kept.fingerprint), kept.fingerprint == DIGEST) == (64, False)


# --- The release before -----------------------------------------------------------------------------------------------


async def test_a_key_that_the_release_before_wrote_is_known(world: World, api: Api) -> None:
    """It writes neither route nor answer, and the same fingerprint."""
    ask = f"conversations/{world.conversation.pk}/turns"
    first = await post(api, ask, {"text": "x"})
    await platform_unit(lambda: IdempotencyKey.objects.update(route=""))
    assert (await post(api, ask, {"text": "x"})).json()["id"] == first.json()["id"]
    assert (await post(api, ask, {"text": "y"})).status_code == 422


async def test_its_digest_without_a_key_is_known_too(world: World, api: Api) -> None:
    first = await post(api, "collections", PUMPS)
    await platform_unit(lambda: IdempotencyKey.objects.update(fingerprint=DIGEST))
    again = await post(api, "collections", PUMPS)
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (first.json(), "true")
    assert (await post(api, "collections", {"name": "Of mills"})).status_code == 422
