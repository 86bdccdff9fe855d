"""Two tenants with one row of everything, for tests of the admin; a tenant's name is in every name of its rows."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone

from apps.access import invitations
from apps.conversations.models import Conversation, Message, Turn
from apps.inference.models import Endpoint
from apps.knowledge.models import Layout, SecondIndex, SourceRun
from apps.tenants import audit, keys, rights
from apps.tenants.models import Invitation, Membership, Tenant, User
from apps.tenants.scoping import TenantOwned
from apps.usage.models import Grant, Plan, QuotaAlert, TenantPlan, UsageRecord
from apps.webhooks.models import Delivery
from apps.webhooks.registration import register
from apps.widget.models import Widget
from tests import factories
from tests.apps.oauth.clients import make_service


@dataclass(frozen=True, slots=True)
class World:
    acme: Tenant
    globex: Tenant
    alice: User  # owner of acme
    bob: User  # member of acme
    charlie: User  # owner of globex
    operator: User


def make_world() -> World:
    acme, globex = factories.make_tenant("acme"), factories.make_tenant("globex")
    alice = factories.make_member(tenant=acme, email="alice@acme.example", role=Membership.Role.OWNER)
    bob = factories.make_member(tenant=acme, email="bob@acme.example")
    charlie = factories.make_member(tenant=globex, email="charlie@globex.example", role=Membership.Role.OWNER)
    operator = factories.make_user("operator@example.com", is_superuser=True)
    for tenant, owner in ((acme, alice), (globex, charlie)):
        fill(tenant, owner)
    return World(acme, globex, alice, bob, charlie, operator)


def fill(tenant: Tenant, owner: User) -> None:
    """One row of everything."""
    name = tenant.slug
    audit.record(tenant, "tenant.created", audit.Actor("user", str(owner.pk), owner.email), tenant)
    chat = factories.make_endpoint(name=f"{name} chat", model=f"{name}-model")
    embedding = factories.make_endpoint(name=f"{name} embedding", kind=Endpoint.Kind.EMBEDDING)
    chat.tenants.add(tenant)
    embedding.tenants.add(tenant)
    index = factories.make_index(tenant=tenant, endpoint=embedding)
    Layout.objects.create(tenant=tenant, index=index, exact_up_to=10_000, reason=f"{name} is small.")
    collection = factories.make_collection(tenant=tenant, index=index, name=f"{name} manuals", slug=f"{name}-manuals")
    SecondIndex.objects.create(
        tenant=tenant,
        collection=collection,
        index=factories.make_index(tenant=tenant, endpoint=embedding, model=f"{name} wide"),
        state="failed",
        failure_code="model_failed",
        failure_message=f"{name} is away.",
    )
    document = factories.make_document(
        tenant=tenant, collection=collection, title=f"{name} handbook", file_name=f"{name}.md", created_by=owner
    )
    default_storage.save(document.stored, ContentFile(f"The {name} handbook.".encode()))
    factories.make_passage(tenant=tenant, document=document, text=f"{name} passage", heading=[f"{name} heading"])
    source = factories.make_source(
        tenant=tenant, collection=collection, name=f"{name} site", location=f"https://{name}.example/", created_by=owner
    )
    SourceRun.objects.create(
        tenant=tenant, source=source, state="failed", ended=timezone.now(), failure_code="elsewhere",
        failure_message=f"{name} leads elsewhere.",
    )  # fmt: skip
    prompt = factories.make_prompt(tenant=tenant, name=f"{name} prompt", template=f"You are {name}.")
    assistant = factories.make_assistant(
        tenant=tenant, prompt=prompt, collections=(collection,), name=f"{name} assistant", slug=f"{name}-assistant"
    )
    Widget.objects.create(tenant=tenant, assistant=assistant, greeting=f"{name} greets")
    end_user = factories.make_end_user(tenant=tenant, external_id=f"{name}-person")
    key, _ = keys.issue(tenant, name=f"{name} key", scopes=rights.ALL, created_by=owner)
    webhook = register(tenant, name=f"{name} webhook", url=f"https://{name}.example/hook", events=["turn.finished"])
    Delivery.objects.create(tenant=tenant, webhook=webhook, event="turn.finished", data={"assistant": name})
    make_service(tenant, name=f"{name} application")
    Invitation.objects.create(
        tenant=tenant,
        email=f"invited@{name}.example",
        digest=invitations.digest(name),
        invited_by=owner,
        expires_at=timezone.now() + invitations.LASTS,
    )
    conversation = factories.make_conversation(
        tenant=tenant, assistant=assistant, end_user=end_user, title=f"{name} conversation"
    )
    turn = make_turn(conversation, text=name, endpoint=chat)
    UsageRecord.objects.create(
        tenant=tenant,
        turn_id=turn.pk,
        end_user=end_user,
        api_key=key,
        endpoint=chat,
        state=UsageRecord.State.SETTLED,
        bill=UsageRecord.Bill.ONCE,
        prompt_tokens=100,
        completion_tokens=20,
        settled_at=timezone.now(),
    )
    plan = Plan.objects.create(name=f"{name} plan")
    TenantPlan.objects.create(tenant=tenant, plan=plan)
    factories.make_quota(tenant=tenant, level="key", metric="tokens", amount=10**9, note=f"{name} note")
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    QuotaAlert.objects.create(
        tenant=tenant, level="user", subject=str(end_user.pk), known_as=end_user.external_id, metric="tokens",
        window="hour", begins=hour, ends=hour + dt.timedelta(hours=1), threshold=80, amount=100, used=80, hard=True,
    )  # fmt: skip
    Grant.objects.create(
        tenant=tenant, metric="tokens", window="day", amount=5, reason=f"{name} reason", expires=timezone.now()
    )


def make_turn(conversation: Conversation, *, text: str, endpoint: Endpoint) -> Turn:
    """A finished turn."""
    tenant = conversation.tenant
    question, answer = (
        Message.objects.create(tenant=tenant, conversation=conversation, role=role, text=f"{text} {role}")
        for role in (Message.Role.USER, Message.Role.ASSISTANT)
    )
    return Turn.objects.create(
        tenant=tenant,
        conversation=conversation,
        assistant=conversation.assistant,
        end_user=conversation.end_user,
        question=question,
        answer=answer,
        prompt_version=conversation.assistant.prompt.published,
        endpoint=endpoint,
        state=Turn.State.FINISHED,
        replica=uuid.uuid4(),
        finish_reason="stop",
        prompt_tokens=100,
        completion_tokens=20,
        first_token_ms=80.0,
        total_ms=900.0,
        closed_at=timezone.now(),
    )


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def row_of(model: type, tenant: Tenant) -> object | None:
    """The tenant's row of a model of the admin, where it has one."""
    if model is Tenant:
        return tenant
    if issubclass(model, TenantOwned):
        return model.objects.for_tenant(tenant).first()
    return None
