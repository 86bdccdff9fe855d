"""Sources are added, changed and deleted here, whichever door asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection
from django.utils import timezone

from apps.knowledge import forgetting, storage
from apps.knowledge.collections import DELETE_TIMEOUT
from apps.knowledge.crawl import schedule
from apps.knowledge.models import Chunk, Collection, Document, Source
from apps.knowledge.source_models import LOCATION_CHARS, MOST_HOSTS, MOST_SOURCES, TAKEN
from apps.tenants.models import Tenant, User
from apps.tenants.scoping import tenant_scope
from chatbot.addresses import check_url
from chatbot.errors import InvalidRequest, NotFound, NotPermitted
from chatbot.links import authority, normalised

CREDENTIALS = ("endpoint", "region", "access_key", "secret_key")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9-]{0,50}")


def add_source(
    tenant: Tenant,
    collection: Collection,
    *,
    kind: str,
    location: str,
    name: str = "",
    hosts: Sequence[str] = (),
    by_operator: bool = False,
    created_by: User | None = None,
    **fields: Any,
) -> Source:
    """With a schedule, it runs within a minute for the first time; else when somebody runs it.

    fields: others of the model. Raises InvalidRequest (with fields), NotFound for a lost collection, NotPermitted for
    a folder that is not shared by an operator.
    """
    location, hosts = checked(kind, location, hosts, by_operator=by_operator, **fields)
    source = Source(
        tenant=tenant,
        collection=collection,
        kind=kind,
        location=location,
        name=name.strip() or _name_of(location),
        hosts=hosts,
        created_by=created_by,
        **fields,
    )
    source.next_run_at = timezone.now() if source.every_hours else None
    try:
        with tenant_scope(tenant):
            _refuse_beyond(collection)
            source.save(force_insert=True)
    except IntegrityError as error:
        with tenant_scope(tenant):
            if not Collection.objects.for_tenant(tenant).filter(pk=collection.pk).exists():
                raise NotFound from error
        raise InvalidRequest(fields={"location": TAKEN}) from error
    return source


def change_source(tenant: Tenant, source: Source, **fields: Any) -> None:
    """Where it begins stays as it is, and with it which documents are its own. Updates `source`."""
    if "hosts" in fields:
        fields["hosts"] = checked_hosts(fields["hosts"])
    if fields.keys() & set(CREDENTIALS):
        kept = {field: getattr(source, field) for field in CREDENTIALS}
        check_credentials(source.kind, {**kept, **fields})
    if "name" in fields:
        fields["name"] = fields["name"].strip() or _name_of(source.location)
    another_schedule = fields.get("every_hours", source.every_hours) != source.every_hours
    for name, value in fields.items():
        setattr(source, name, value)
    if another_schedule:
        source.next_run_at = fields["next_run_at"] = source.next_after(timezone.now())
    with tenant_scope(tenant):
        if fields and not Source.objects.for_tenant(tenant).filter(pk=source.pk).update(**fields):
            raise NotFound


def delete_source(tenant: Tenant, source: Source, *, keep_documents: bool = False) -> None:
    """Delete it with its reports and its documents, or leave those as if somebody had added them."""
    with tenant_scope(tenant):
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [DELETE_TIMEOUT])
        storage.in_turn(tenant)
        schedule.stop(tenant, source)  # its worker, which locks the run before all else, writes nothing more
        if not Source.objects.for_tenant(tenant).select_for_update().filter(pk=source.pk).first():
            return
        if not keep_documents:
            documents = Document.objects.for_tenant(tenant).filter(source_page__source=source)
            forgetting.bury(tenant, documents.select_for_update(of=("self",)).only("stored"))
            Chunk.objects.for_tenant(tenant).filter(document__in=documents.values("pk")).discard()
            documents.delete()
        source.delete()


# --- What is refused --------------------------------------------------------------------------------------------------


def _refuse_beyond(collection: Collection) -> None:
    # In turn: two at once would both find room.
    Collection.objects.for_tenant(collection.tenant_id).select_for_update(no_key=True).filter(pk=collection.pk).first()
    if Source.objects.for_tenant(collection.tenant_id).filter(collection=collection).count() >= MOST_SOURCES:
        raise _wrong("collection", f"A collection has {MOST_SOURCES} sources at most. Delete one, or use another.")


def checked(
    kind: str, location: str, hosts: Sequence[str], *, by_operator: bool, **fields: Any
) -> tuple[str, list[str]]:
    """Location and hosts as they are kept. Raises as add_source does."""
    check_credentials(kind, fields)
    return _checked_location(kind, location, by_operator=by_operator), checked_hosts(hosts)


def _checked_location(kind: str, location: str, *, by_operator: bool) -> str:
    location = location.strip()
    if not location.isprintable():
        raise _wrong("location", "This holds characters that cannot be read.")
    check = {Source.Kind.FOLDER: _folder, Source.Kind.BUCKET: _bucket}.get(Source.Kind(kind), _address)
    if kind == Source.Kind.FOLDER and not by_operator:
        raise NotPermitted("Only an operator of this installation shares folders, in the admin.")
    found = check(location)
    if len(found.encode()) > LOCATION_CHARS:
        raise _wrong("location", f"This has more than {LOCATION_CHARS:,} characters.")
    return found


def _address(location: str) -> str:
    if "\\" in location or " " in location:
        raise _wrong("location", "The address holds characters that addresses do not have.")
    return _checked_url("location", normalised(location) or location)


def _folder(location: str) -> str:
    if not settings.PARLEY_SOURCE_FOLDERS:
        raise _wrong("location", "No folder is shared: PARLEY_SOURCE_FOLDERS is not set.")
    path = PurePosixPath(location)
    if path.is_absolute() or ".." in path.parts:
        raise _wrong("location", "A path below the shared folder, without .. and without a slash at its beginning.")
    return str(path)


def _bucket(location: str) -> str:
    bucket, slash, prefix = location.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise _wrong("location", "The bucket's name, and perhaps a slash and the prefix of its keys.")
    return f"{bucket}{slash}{prefix}"


def checked_hosts(hosts: Sequence[str]) -> list[str]:
    """Each as it stands in addresses, once. Raises InvalidRequest (with fields)."""
    if len(hosts) > MOST_HOSTS:
        raise _wrong("hosts", f"At most {MOST_HOSTS} hosts.")
    found: dict[str, None] = {}
    for host in hosts:
        address = normalised(f"http://{host.strip()}/")
        if not address or re.search(r"[/\\@?#\s]", host.strip()):
            raise _wrong("hosts", f"“{host[:100]}” is no host: write it as in an address, without https:// and path.")
        _checked_url("hosts", address)
        found[authority(address)] = None
    return list(found)


def check_credentials(kind: str, fields: Mapping[str, Any]) -> None:
    """Of a bucket, which has all of them; nothing else has any. Raises InvalidRequest (with fields)."""
    if kind != Source.Kind.BUCKET:
        for field in CREDENTIALS:
            if fields.get(field):
                raise _wrong(field, "Only a bucket has this.")
        return
    for field in ("access_key", "secret_key"):
        if not fields.get(field):
            raise _wrong(field, "A bucket is read with an access key and its secret.")
    if fields.get("endpoint"):
        _checked_url("endpoint", fields["endpoint"])
    if not _REGION.fullmatch(fields.get("region", "")):
        raise _wrong("region", "A region is written in small letters, digits and hyphens, such as eu-central-1.")


def _checked_url(field: str, url: str) -> str:
    try:
        return check_url(url, allowed=settings.PARLEY_PRIVATE_SOURCE_HOSTS)
    except InvalidRequest as error:
        raise _wrong(field, error.message) from error


def _wrong(field: str, sentence: str) -> InvalidRequest:
    return InvalidRequest(fields={field: sentence})


def _name_of(location: str) -> str:
    return location.removeprefix("https://").removeprefix("http://").rstrip("/")[:100] or "Source"
