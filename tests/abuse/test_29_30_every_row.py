"""Markup in every text of every row, whoever wrote it, runs nothing and fetches nothing on any page of the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.db import IntegrityError, models, transaction
from django.db.utils import DataError, ProgrammingError
from django.urls import reverse
from playwright.sync_api import Browser

from apps.conversations.models import Message
from apps.tenants import audit
from apps.tenants.models import AuditEntry, EndUser
from apps.tenants.scoping import TenantOwned
from tests import factories
from tests.abuse.test_29_30_scripts_and_images import AWAY, HOSTILE, SHORT, Guard, closed
from tests.browser.admin_rows import fill
from tests.browser.conftest import open_page, session_of
from tests.browser.test_admin_pages import forms, lists

__all__ = ["closed"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

# What is checked before it is stored, so that nobody can write markup there: slugs, addresses, zones, ids, digests.
CHECKED = {
    "slug", "url", "base_url", "host", "source_url", "redirect_uri", "consent_link", "email", "primary", "locale",
    "font", "time_zone", "zone", "subject", "metric", "what", "scope", "password", "stored", "logo", "logo_digest",
}  # fmt: skip
PLANTED = (
    "img[src=x], script:text('owned'), [onerror], [onload], object, [x-init*=owned], base, meta[http-equiv=refresh]"
)


def is_free(field: Any) -> bool:
    """Whether somebody may write what they like into it."""
    return (
        type(field) in {models.CharField, models.TextField}
        and not field.choices
        and not field.unique
        and field.name not in CHECKED
        and (field.max_length or 10_000) >= len(SHORT) + 8
    )


def poison() -> list[str]:
    """Write markup into every free text that the app may write; which they are."""
    written = []
    for model in apps.get_models():
        if not (issubclass(model, TenantOwned) or model._meta.app_label in {"inference", "tenants", "usage"}):
            continue
        for field in filter(is_free, model._meta.concrete_fields):
            longest = field.max_length or 10_000
            for row in model._base_manager.all():
                text = f"{row.pk}"[:8] + (HOSTILE if longest > len(HOSTILE) + 8 else SHORT)
                try:
                    with transaction.atomic():
                        model._base_manager.filter(pk=row.pk).update(**{field.name: text})
                except (IntegrityError, DataError, ProgrammingError):
                    break  # the database knows better what belongs there
            else:
                written.append(f"{model._meta.label_lower}.{field.name}")
    return written


@pytest.mark.timeout(600)
def test_every_page(database: None, web: str, request: pytest.FixtureRequest) -> None:
    tenant = factories.make_tenant("acme", name="Acme")
    operator = factories.make_user("operator@example.com", is_superuser=True)
    fill(tenant, operator, 3)
    source = {"n": 1, "chunk": "x", "document": "x", "title": SHORT, "heading": [SHORT], "page": 3, "text": HOSTILE}
    Message.objects.update(citations=[source])
    written = poison()
    assert {"conversations.message.text", "tenants.enduser.external_id", "knowledge.document.title"} <= set(written)
    actor = audit.Actor("visitor", "x", SHORT, "203.0.113.7")
    audit.record(tenant, "visitor.identified", actor, EndUser.objects.first(), conversations=SHORT)
    assert AuditEntry.objects.filter(actor_label=SHORT).exists()
    pages = [*lists().values(), *forms(tenant, operator).values()]
    for name in ("conversations_conversation", "knowledge_document", "tenants_enduser"):
        pages += [f"{reverse(f'admin:{name}_changelist')}?q={SHORT}"]
    session = session_of(operator)
    browser: Browser = request.getfixturevalue("browser")
    page, _ = open_page(browser, web, session)
    guard = Guard()
    guard.over(page, web)
    met = 0
    for url in pages:
        answer = page.goto(url, wait_until="load")
        assert answer is not None
        assert answer.status in {200, 403}, url
        assert page.locator(PLANTED).count() == 0, url
        met += "owned()" in page.content()
    assert met > len(pages) / 3
    assert guard.ran == []
    assert [reached for reached in guard.reached if not reached.startswith(f"{web}/chat/")] == []
    assert AWAY not in "".join(guard.reached)
