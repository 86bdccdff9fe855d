"""Conversations go when their tenant keeps them no longer, with all that hangs on them, and nothing else does."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apps.conversations import removing
from apps.conversations.models import Attached, Attachment, Conversation, Feedback, Message, Share, Turn
from apps.conversations.tasks import remove_old_conversations
from apps.tenants.models import EndUser, Tenant
from apps.usage.models import UsageRecord
from tests.environment import Backends
from tests.factories import make_assistant, make_attachment, make_conversation, make_tenant

OLD = timezone.now() - datetime.timedelta(days=40)


def asked(tenant: Tenant, *, at: datetime.datetime, state: str = "finished") -> Conversation:
    """A conversation with a turn that continues another one, an attachment, an opinion, a link and a bill."""
    assistant = make_assistant(tenant=tenant)
    conversation = make_conversation(tenant=tenant, assistant=assistant, active_at=at)
    first = turned(conversation, at=at)
    last = turned(conversation, at=at, state=state, parent=first, continues=first)
    attachment = make_attachment(conversation=conversation)
    Attached.objects.create(tenant=tenant, question=last.question, attachment=attachment)
    Feedback.objects.create(tenant=tenant, message=first.answer, end_user=conversation.end_user, rating="up")
    Share.objects.create(tenant=tenant, conversation=conversation, turn=last, digest=uuid.uuid4().bytes * 2)
    UsageRecord.objects.create(tenant=tenant, turn_id=first.pk, end_user=conversation.end_user)
    return conversation


def turned(conversation: Conversation, *, at: datetime.datetime, state: str = "finished", **fields: Any) -> Turn:
    of = {"tenant": conversation.tenant, "conversation": conversation}
    question = Message.objects.create(**of, role="user", text="How?")
    answer = Message.objects.create(**of, role="assistant", text="So.")
    return _turn(conversation, question, answer, at, state, conversation=conversation, **fields)


def turned_alone(like: Conversation, *, at: datetime.datetime, state: str = "finished") -> Turn:
    with transaction.atomic():  # each names the other
        pk = uuid.uuid4()
        said = [
            Message.objects.create(tenant=like.tenant, turn_id=pk, role=role, text="!")
            for role in ("user", "assistant")
        ]
        return _turn(like, *said, at, state, pk=pk)


def _turn(
    like: Conversation, question: Message, answer: Message, at: datetime.datetime, state: str, **fields: Any
) -> Turn:
    return Turn.objects.create(
        tenant=like.tenant,
        assistant=like.assistant,
        end_user=like.end_user,
        question=question,
        answer=answer,
        prompt_version=like.assistant.prompt.published,
        replica=uuid.uuid4(),
        state=state,
        created=at,
        closed_at=None if state in Turn.OPEN else at,
        **fields,
    )


@pytest.fixture
def acme(database: None) -> Tenant:
    return make_tenant("acme", conversation_days=30)


def test_what_is_older_than_the_tenant_keeps_goes(acme: Tenant) -> None:
    old, new = asked(acme, at=OLD), asked(acme, at=timezone.now())
    alone = [turned_alone(old, at=at) for at in (OLD, timezone.now())]
    remove_old_conversations()
    assert list(Conversation.objects.all()) == [new]
    assert set(Turn.objects.values_list("conversation", flat=True)) == {new.pk, None}
    assert Turn.objects.get(conversation=None) == alone[1]
    assert Message.objects.filter(conversation=new).count() == 4
    assert Message.objects.filter(conversation=None).count() == 2
    assert [model.objects.count() for model in (Attached, Feedback, Share)] == [1, 1, 1]


def test_the_ledger_and_the_end_users_stay(acme: Tenant) -> None:
    old = asked(acme, at=OLD)
    remove_old_conversations()
    assert not Conversation.objects.exists()
    assert UsageRecord.objects.get().end_user_id == old.end_user_id
    assert EndUser.objects.filter(pk=old.end_user_id).exists()


def test_other_tenants_keep_theirs(acme: Tenant) -> None:
    globex = make_tenant("globex")
    theirs = asked(globex, at=OLD)
    remove_old_conversations()
    assert list(Conversation.objects.all()) == [theirs]


@pytest.mark.parametrize("state", ["queued", "running"])
def test_an_answer_under_way_is_not_cut_off(acme: Tenant, state: str) -> None:
    old = asked(acme, at=OLD, state=state)
    alone = turned_alone(old, at=OLD, state=state)
    remove_old_conversations()
    assert list(Conversation.objects.all()) == [old]
    assert Turn.objects.filter(pk=alone.pk).exists()


def test_one_in_which_something_is_asked_meanwhile_stays(acme: Tenant, servers: Backends) -> None:
    old = asked(acme, at=OLD)
    with servers.superuser.transaction():
        servers.superuser.execute("UPDATE conversations_conversation SET active_at = now() WHERE id = %s", [old.pk])
        remove_old_conversations()
    assert list(Conversation.objects.all()) == [old]
    remove_old_conversations()
    assert list(Conversation.objects.all()) == [old]


def test_it_goes_on_where_it_had_no_more_time(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removing, "AT_ONCE", 2)
    assistant = make_assistant(tenant=acme)
    for _ in range(5):
        make_conversation(tenant=acme, assistant=assistant, active_at=OLD)
    assert not removing.remove_old(seconds=-1.0)
    assert Conversation.objects.count() == 5
    assert removing.remove_batch(acme.pk, timezone.now()) == 2
    assert removing.remove_old()
    assert not Conversation.objects.exists()


def test_one_tenants_trouble_is_not_the_others(acme: Tenant, servers: Backends) -> None:
    globex = make_tenant("globex", conversation_days=30)
    stuck, gone = sorted((acme, globex), key=lambda tenant: tenant.pk)
    kept = asked(stuck, at=OLD)
    asked(gone, at=OLD)
    with servers.superuser.transaction():
        servers.superuser.execute("SELECT FROM conversations_message WHERE tenant_id = %s FOR UPDATE", [stuck.pk])
        remove_old_conversations()
    assert list(Conversation.objects.all()) == [kept]


def test_a_batch_may_take_longer_than_somebody_would_wait(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "id = ANY(%(chosen)s) AND pg_sleep(1.5) IS NOT NULL"
    monkeypatch.setitem(removing._OF_CONVERSATIONS, "conversations_conversation", slow)
    asked(acme, at=OLD)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '1s'")
    remove_old_conversations()
    connection.close()
    assert not Conversation.objects.exists()


def test_whatever_hangs_on_a_conversation_is_on_the_list() -> None:
    """Of every model that refers to one that is removed."""
    removed = removing._OF_CONVERSATIONS.keys() | removing._OF_LONE_TURNS.keys()
    for model in (Conversation, Message, Turn, Attachment):
        for relation in model._meta.get_fields(include_hidden=True):
            if relation.auto_created and relation.one_to_many | relation.one_to_one:
                assert relation.related_model._meta.db_table in removed, relation
