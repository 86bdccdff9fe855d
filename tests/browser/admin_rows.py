"""Many rows of everything that the admin lists."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid

from django.utils import timezone

from apps.assistants.models import Assistant, Prompt, PromptVersion
from apps.conversations.models import Conversation, Message, Turn
from apps.inference.models import Endpoint
from apps.knowledge.models import Collection, Document, Layout, Source, SourceRun
from apps.oauth.models import Application
from apps.tenants import audit
from apps.tenants.models import ApiKey, EndUser, Invitation, ServiceAccount, Tenant, User
from apps.usage.models import Grant, Plan, PlanLimit, Quota, QuotaAlert, TenantPlan, UsageRecord
from apps.webhooks.models import Delivery, Webhook
from apps.webhooks.registration import MOST_WEBHOOKS
from apps.widget.models import Widget
from tests import factories

LONG = "Operating and maintenance instructions for the double-boiler espresso machine with rotary pump, part"
FAILURE = "The PDF is protected by a password, so its text cannot be read."


def fill(tenant: Tenant, owner: User, count: int) -> None:
    """`count` rows of each kind, with names of different lengths and every state there is."""
    numbers = range(count)
    now = timezone.now()
    ages = [now - dt.timedelta(minutes=13 * number) for number in numbers]
    embedding = factories.make_endpoint(name="e5-small on the second GPU", kind=Endpoint.Kind.EMBEDDING)
    index = factories.make_index(tenant=tenant, endpoint=embedding)
    endpoints = _create(
        Endpoint,
        [
            Endpoint(
                name=f"Llama 3.1 70B, rack {n}",
                model="meta-llama/Llama-3.1-70B-Instruct",
                enabled=n % 5 != 1,
                base_url=f"http://inference-{n}.internal.example:8080/v1",
            )
            for n in numbers
        ],
    )
    _create(User, [User(email=f"colleague.{n}@acme.example", name=f"Colleague {n}", password="!") for n in numbers])
    _create(Tenant, [Tenant(name=f"Customer {n}", slug=f"customer-{n}", is_active=n % 7 != 2) for n in numbers])
    _create(
        Invitation,
        [
            Invitation(
                tenant=tenant,
                email=f"person-{n}@a-company-with-a-rather-long-name.example",
                digest=f"{n:032d}".encode(),
                invited_by=owner,
                created=age,
                expires_at=now + dt.timedelta(days=7),
                withdrawn_at=now if n % 3 == 1 else None,
                accepted_at=age if n % 3 == 2 else None,
            )
            for n, age in zip(numbers, ages, strict=True)
        ],
    )
    people = _create(EndUser, [EndUser(tenant=tenant, external_id=f"person-{n}@customers.example") for n in numbers])
    audit.record(tenant, "tenant.created", audit.Actor("user", str(owner.pk), owner.email), tenant)
    ServiceAccount.objects.create(tenant=tenant, name="Web shop", created_by=owner)
    keys = _create(
        ApiKey,
        [
            ApiKey(
                tenant=tenant,
                name=f"Web shop {n}",
                key_id=f"{n:012d}",
                digest=b"x" * 32,
                member=owner,
                created_by=owner,
                created=age,
                revoked_at=now if n % 3 == 1 else None,
                last_used_at=age if n % 3 == 0 else None,
            )
            for n, age in zip(numbers, ages, strict=True)
        ],
    )
    _webhooks(tenant, ages)
    _applications(tenant, owner, numbers)
    collections = _create(
        Collection, [Collection(tenant=tenant, index=index, name=f"Manuals {n}", slug=f"manuals-{n}") for n in numbers]
    )
    _create(
        Document,
        [
            _document(tenant, collections[0], owner, n, status)
            for n, status in zip(numbers, itertools.cycle(Document.Status), strict=False)
        ],
    )
    _sources(tenant, collections[0], owner, ages)
    prompts = _create(Prompt, [Prompt(tenant=tenant, name=f"Support desk {n}") for n in numbers])
    versions = _create(
        PromptVersion,
        [
            PromptVersion(
                tenant=tenant,
                prompt=prompt,
                number=1,
                template="You are {{ assistant }}.",
                created_by=owner,
                note="First wording",
            )
            for prompt in prompts
        ],
    )
    for prompt, version in zip(prompts, versions, strict=True):
        prompt.published = version
    Prompt.objects.bulk_update(prompts, ["published"])
    assistants = _create(
        Assistant,
        [Assistant(tenant=tenant, name=f"Support {n}", slug=f"support-{n}", prompt=prompts[n]) for n in numbers],
    )
    _create(
        Widget,
        [
            Widget(tenant=tenant, assistant=assistant, greeting=f"{LONG}?", hosted=n % 3 == 1)
            for n, assistant in enumerate(assistants)
        ],
    )
    conversations = _create(
        Conversation,
        [
            Conversation(tenant=tenant, assistant=assistants[n], end_user=people[n], title=f"{LONG} {n}", active_at=age)
            for n, age in zip(numbers, ages, strict=True)
        ],
    )
    turns = _turns(tenant, conversations, versions, endpoints, ages)
    _create(
        UsageRecord,
        [
            UsageRecord(
                tenant=tenant,
                turn_id=turn.pk,
                end_user=person,
                api_key=key,
                endpoint=turn.endpoint,
                state="settled",
                bill=bill,
                prompt_tokens=1830,
                completion_tokens=240,
                created=turn.created,
                settled_at=turn.created,
            )
            for turn, person, key, bill in zip(turns, people, keys, itertools.cycle(UsageRecord.Bill), strict=False)
        ],
    )
    _limits(tenant, owner, count)


def _limits(tenant: Tenant, owner: User, count: int) -> None:
    plans = _create(Plan, [Plan(name=f"Plan {n}", description=LONG if n % 3 else "") for n in range(count)])
    levels = [level for level in PlanLimit.Level if level != PlanLimit.Level.TENANT]
    _create(PlanLimit, [PlanLimit(plan=plans[0], level=level, window="day", amount=10**6) for level in levels])
    TenantPlan.objects.update_or_create(tenant=tenant, defaults={"plan": plans[0]})
    kinds = [("tokens", "day"), ("requests", "minute"), ("cost", "month"), ("turns", "once")]
    limited = [
        {"tenant": tenant, "level": "user", "subject": f"person-{n}@example.com", "metric": metric, "window": window}
        for n, (metric, window) in zip(range(count), itertools.cycle(kinds), strict=False)
    ]
    _create(Quota, [Quota(**of, amount=7_500, hard=n % 3 > 0, note=LONG) for n, of in enumerate(limited)])
    granted = {"amount": 500, "granted_by": owner, "expires": timezone.now() + dt.timedelta(hours=5)}
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    told = {"begins": hour, "ends": hour + dt.timedelta(hours=1), "amount": 10**4, "used": 9 * 10**3, "threshold": 80}
    alerts = [QuotaAlert(**of, **told, known_as=of["subject"], hard=n % 3 > 0) for n, of in enumerate(limited)]
    _create(QuotaAlert, alerts)
    _create(Grant, [Grant(**of, **granted, reason=f"{LONG} {n}") for n, of in enumerate(limited)])


def _applications(tenant: Tenant, owner: User, numbers: range) -> None:
    kinds = (
        {"authorization_grant_type": "client-credentials", "client_type": "confidential", "client_secret": "digest"},
        {
            "authorization_grant_type": "authorization-code",
            "client_type": "public",
            "redirect_uris": "https://a.example",
        },
    )
    _create(
        Application,
        [
            Application(tenant=tenant, name=f"Intranet {n}", scopes=["chat:read"], created_by=owner, **kind)
            for n, kind in zip(numbers, itertools.cycle(kinds), strict=False)
        ],
    )


def _webhooks(tenant: Tenant, ages: list[dt.datetime]) -> None:
    """At most as many as a tenant can have, and a long log."""
    since = ages[-1]
    rows = _create(
        Webhook,
        [
            Webhook(
                tenant=tenant,
                name=f"Ticket system {n}",
                url=f"https://tickets-{n}.internal.acme-corporation.example/parley",
                events=["turn.finished", "document.ready", "document.failed"][: 1 + n % 3],
                secret="whsec_" + "A" * 43 + "=",
                enabled=n % 3 != 2,
                failures=4 if n % 3 == 1 else 0,
                failing_since=since if n % 3 == 1 else None,
                disabled_at=since if n % 3 == 2 else None,
                disabled_reason="Its receiver answered 410 Gone." if n % 3 == 2 else "",
            )
            for n in range(min(len(ages), MOST_WEBHOOKS))
        ],
    )
    outcomes = itertools.cycle(
        [
            {"status": "delivered", "attempts": 1, "status_code": 200, "delivered_at": since, "duration_ms": 84.2},
            {"status": "pending"},
            {"status": "failed", "attempts": 8, "error": "It did not answer within 15 seconds."},
        ]
    )
    data = {"turn": str(uuid.uuid4()), "conversation": str(uuid.uuid4()), "assistant": "support", "state": "finished"}
    _create(
        Delivery,
        [
            Delivery(tenant=tenant, webhook=webhook, event="turn.finished", data=data, created=age, **outcome)
            for webhook, age, outcome in zip(itertools.cycle(rows), ages, outcomes, strict=False)
        ],
    )


def _sources(tenant: Tenant, collection: Collection, owner: User, ages: list[dt.datetime]) -> None:
    address = "https://documentation.internal.acme-corporation.example/products/pumps"
    sources = _create(
        Source,
        [
            Source(
                tenant=tenant, collection=collection, name=f"{LONG[:90]} {n}", kind="site", location=f"{address}/{n}/",
                every_hours=24, next_run_at=age + dt.timedelta(days=900), created_by=owner, created=age,
            )
            for n, age in enumerate(ages)
        ],
    )  # fmt: skip
    _create(
        Layout,
        [
            Layout(
                tenant=tenant, index=factories.make_index(tenant=tenant, model=f"intfloat/multilingual-e5-small-{n}"),
                state=state, passages=passages, by_collection={str(collection.pk): passages}, exact_up_to=10_000,
                reason=reason, recall_at_10=found, measured_with=100, measured_at=ages[0],
            )
            for n, (state, passages, reason, found) in enumerate(
                [
                    ("exact", 812, "", None),
                    ("building", 10_412, "It grew beyond 10,000 passages.", None),
                    ("indexed", 120_500, "It grew beyond 10,000 passages.", 0.994),
                    ("exact", 15_000, "Its HNSW index found 0.941 of the nearest, even with ef 400.", None),
                ]
            )
        ],
    )  # fmt: skip
    told = {"code": "robots_forbid", "message": "The host's robots.txt forbids to fetch this."}
    outcomes = itertools.cycle(
        [
            {"state": "finished", "found": 412, "done": 412, "new": 7, "changed": 12, "unchanged": 390, "gone": 1},
            {"state": "failed", "failure_code": "fetch_failed", "failure_message": FAILURE},
            {"state": "running", "found": 40, "done": 12, "new": 12, "ended": None},
            {"state": "stopped", "found": 9, "done": 5},
        ]
    )
    refused = {"refused": 2, "refusals": [{"address": f"{address}/{n}", **told} for n in range(2)]}
    _create(
        SourceRun,
        [
            SourceRun(**{"tenant": tenant, "source": source, "created": age, "ended": age, **refused, **outcome})
            for source, age, outcome in zip(sources, ages, outcomes, strict=False)
        ],
    )
    _create(
        SourceRun,
        [
            SourceRun(tenant=tenant, source=sources[0], created=age - dt.timedelta(hours=1), ended=age, state="stopped")
            for age in ages[:3]
        ],
    )


def _create(model, rows):
    return model.objects.bulk_create(rows)


def _document(tenant: Tenant, collection: Collection, owner: User, number: int, status: str) -> Document:
    failed = status == Document.Status.FAILED
    return Document(
        tenant=tenant,
        collection=collection,
        title=f"{LONG} {number}",
        file_name=f"manual-{number}.pdf",
        media_type="application/pdf",
        size=1_900_000 + number,
        sha256=f"{number:064d}",
        stored=f"none/{number}",
        status=status,
        progress_done=12,
        progress_total=40,
        pages=84,
        passages=310,
        created_by=owner,
        failure_code="parser" if failed else "",
        failure_message=FAILURE if failed else "",
    )


def _turns(tenant, conversations, versions, endpoints, ages):
    said = {}
    for role in Message.Role:
        said[role] = _create(
            Message,
            [
                Message(tenant=tenant, conversation=each, role=role, text=f"{LONG}: how often is it descaled? [1]")
                for each in conversations
            ],
        )
    states = itertools.cycle([Turn.State.FINISHED, Turn.State.FAILED, Turn.State.STOPPED, Turn.State.FINISHED])
    rows = zip(conversations, said["user"], said["assistant"], versions, endpoints, ages, states, strict=False)
    return _create(
        Turn,
        [
            Turn(
                tenant=tenant,
                conversation=each,
                assistant=each.assistant,
                end_user=each.end_user,
                question=question,
                answer=answer,
                prompt_version=version,
                endpoint=endpoint,
                state=state,
                replica=uuid.uuid4(),
                created=age,
                closed_at=age,
                prompt_tokens=1830,
                completion_tokens=240,
                search_ms=12.5,
                first_token_ms=184.0,
                total_ms=4210.0,
                error_code="model_timeout" if state == Turn.State.FAILED else "",
                error_message="The model server took too long." if state == Turn.State.FAILED else "",
            )
            for each, question, answer, version, endpoint, age, state in rows
        ],
    )
