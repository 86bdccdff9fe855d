"""The same bytes are stored once, and what is deleted is gone, also where its deletion was cut short."""

from __future__ import annotations

import datetime
import threading
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connections, transaction
from django.utils import timezone

from apps.edge.errors import ServiceUnavailable
from apps.knowledge import forgetting, storage, tasks
from apps.knowledge.collections import create_collection, delete_collection
from apps.knowledge.ingest import add_document, delete_document, replace_document
from apps.knowledge.models import Collection, Document, Tombstone
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from tests.apps.knowledge.ingesting import added, ingested, manual, stored_files


@pytest.fixture
def notes(acme: Tenant) -> Collection:
    return create_collection(acme, name="Notes")


def test_the_same_bytes_of_a_tenant_are_stored_once(
    acme: Tenant, globex: Tenant, manuals: Collection, notes: Collection
) -> None:
    first, second = added(acme, manuals, manual(2)), added(acme, notes, manual(2))
    assert first.stored == second.stored
    theirs = added(globex, create_collection(globex, name="Manuals"), manual(2))
    assert stored_files() == sorted([first.stored, theirs.stored])
    delete_document(acme, first)
    assert stored_files() == sorted([second.stored, theirs.stored])
    assert ingested(acme, second).status == "ready"
    delete_document(acme, second)
    assert stored_files() == [theirs.stored]


def test_replacing_counts_references_too(acme: Tenant, manuals: Collection, notes: Collection) -> None:
    first, second = added(acme, manuals, manual(2)), added(acme, notes, manual(3))
    second = replace_document(acme, second, name="manual.md", content=manual(2))
    assert stored_files() == [first.stored] == [second.stored]
    first = replace_document(acme, first, name="manual.md", content=manual(4))
    assert stored_files() == sorted([first.stored, second.stored])
    assert ingested(acme, second).status == "ready"


def test_deleting_and_adding_the_same_bytes_at_once_loses_none(
    acme: Tenant, manuals: Collection, notes: Collection
) -> None:
    for round_ in range(10):
        content = manual(2, version=f"v{round_}")
        old = added(acme, manuals, content)
        new: list[Document] = []

        def add(content: bytes = content, new: list[Document] = new) -> None:
            try:
                new.append(add_document(acme, notes, name="manual.md", content=content)[0])
            finally:
                connections.close_all()

        thread = threading.Thread(target=add)
        thread.start()
        delete_document(acme, old)
        thread.join()
        assert default_storage.exists(new[0].stored)
        delete_document(acme, new[0])
        assert stored_files() == []


def test_a_deletion_that_was_cut_short_is_finished(
    acme: Tenant, manuals: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = added(acme, manuals, manual(2))
    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "forget", lambda *_: None)  # the process dies right after the commit
        delete_document(acme, document)
    assert stored_files() == [document.stored]
    tasks.forget_deleted()
    assert stored_files() == []


def test_a_deletion_that_is_rolled_back_deletes_nothing(acme: Tenant, manuals: Collection) -> None:
    document = added(acme, manuals, manual(2))
    with transaction.atomic():
        delete_document(acme, document)
        transaction.set_rollback(True)
    tasks.forget_deleted()
    assert stored_files() == [document.stored]
    assert not Tombstone.objects.exists()


def test_bytes_that_cannot_be_deleted_are_tried_again(acme: Tenant, manuals: Collection, settings: Any) -> None:
    document = added(acme, manuals, manual(2))
    here = settings.STORAGES
    settings.STORAGES = {**here, "default": {"BACKEND": "tests.apps.knowledge.test_ingest.StuckDisk"}}
    delete_document(acme, document)
    tasks.forget_deleted()
    assert Tombstone.objects.get().stored == document.stored
    settings.STORAGES = here
    tasks.forget_deleted()
    assert stored_files() == []
    assert Tombstone.objects.get().stored == ""


def test_a_collection_goes_with_all_bytes(acme: Tenant, manuals: Collection, notes: Collection) -> None:
    kept = added(acme, notes, manual(2))
    for sections in (2, 3, 4):
        added(acme, manuals, manual(sections))
    delete_collection(acme, manuals)
    assert stored_files() == [kept.stored]


def test_bytes_that_no_row_came_to_name_go_after_an_hour(acme: Tenant, manuals: Collection) -> None:
    """As when a process dies between storing an upload and writing its row."""
    named = added(acme, manuals, manual(1))
    assert not Tombstone.objects.exists()
    with tenant_scope(acme):
        name = storage.promised(acme, "digest")
    storage.keep(name, ContentFile(b"whose row was never written"))
    forgetting.forget_all()
    assert stored_files() == sorted([named.stored, name])
    Tombstone.objects.update(created=timezone.now())
    forgetting.forget_all()
    assert stored_files() == [named.stored]
    assert not Tombstone.objects.exists()


def test_a_row_names_no_bytes_that_may_be_gone(acme: Tenant, manuals: Collection, monkeypatch: Any) -> None:
    monkeypatch.setattr(storage, "PROMISE", datetime.timedelta())
    with pytest.raises(ServiceUnavailable):
        added(acme, manuals, manual(1))
    assert not Document.objects.exists()
    forgetting.forget_all()
    assert stored_files() == []
