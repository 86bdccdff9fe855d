"""Looking changes nothing and a foreign page can make nobody write: no deed by GET, none without the CSRF token."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import URLPattern, reverse

from apps.knowledge.models import Collection, Document
from apps.tenants.models import ApiKey, User
from tests.apps.admin_world import World, logged_in, make_world, row_of
from tests.apps.tenants.test_admin_isolation import contents, pages_about

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def world() -> World:
    return make_world()


def strict(user: User) -> Client:
    """A browser on a foreign page: it sends the session's cookie and knows no token."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_no_page_writes_without_the_token(world: World) -> None:
    client = strict(world.operator)
    client.get(reverse("admin:index"))
    before = contents()
    posted = 0
    for model, model_admin in admin.site._registry.items():
        row = row_of(model, world.acme) or model._default_manager.first()  # type: ignore[attr-defined]
        names = [reverse(name, args=(row.pk,)) for name in pages_about(model)]
        names += [
            reverse(f"admin:{pattern.name}")
            for pattern in model_admin.get_urls()
            if isinstance(pattern, URLPattern) and pattern.name and not pattern.pattern.converters
        ]
        for url in names:
            assert client.post(url, {"post": "yes", "name": "owned"}).status_code in {403, 405}, url
            posted += 1
    assert posted > 30
    assert contents() == before


def test_an_upload_needs_the_token(world: World) -> None:
    """Its route is exempt from the middleware, so that the size is checked before the body is read."""
    collection = Collection.objects.for_tenant(world.acme).get()
    url = reverse("admin:knowledge_collection_upload", args=[collection.pk])
    file = SimpleUploadedFile("x.md", b"# owned")
    for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert strict(world.alice).post(url, {"file": file}, headers=headers).status_code == 403
    assert Document.objects.for_tenant(world.acme).count() == 1


def test_deeds_are_not_done_by_get(world: World) -> None:
    client = strict(world.alice)
    before = contents()
    key = ApiKey.objects.for_tenant(world.acme).get()
    document = Document.objects.for_tenant(world.acme).get()
    chosen = f"?action=delete_selected&_selected_action={document.pk}&post=yes"
    client.get(reverse("admin:knowledge_document_changelist") + chosen)
    client.get(reverse("admin:knowledge_document_delete", args=[document.pk]) + "?post=yes")
    assert client.get(reverse("admin:knowledge_document_retry", args=[document.pk])).status_code == 405
    assert client.get(reverse("admin:logout")).status_code == 405
    assert ApiKey.objects.get(pk=key.pk).revoked_at is None
    assert contents() == before


def test_a_member_that_may_look_may_not_write(world: World) -> None:
    """What is read-only for all (conversations, turns, bills), and end users."""
    client = logged_in(world.bob)
    before = contents()
    for page in ("conversations_turn", "usage_usagerecord", "tenants_enduser"):
        app, name = page.split("_")
        (model,) = [m for m in admin.site._registry if (m._meta.app_label, m._meta.model_name) == (app, name)]
        row = row_of(model, world.acme)
        assert row is not None
        for deed, arguments in (("add", []), ("change", [row.pk]), ("delete", [row.pk])):  # type: ignore[attr-defined]
            answer = client.post(reverse(f"admin:{page}_{deed}", args=arguments), {"post": "yes", "name": "x"})
            assert answer.status_code in {302, 403}, (page, deed)
    assert contents() == before
