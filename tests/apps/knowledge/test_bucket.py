"""Documents in an S3-compatible bucket, at a server that speaks S3 over HTTP."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import httpx
import pytest
from django.core.files.base import ContentFile
from django.urls import reverse
from moto.server import ThreadedMotoServer

from apps.edge.errors import ServiceUnavailable
from apps.knowledge import uploads
from apps.knowledge.ingest import add_document, delete_document, replace_document
from apps.knowledge.models import Collection, Document
from apps.knowledge.several import add_several
from apps.ops import doctor
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from chatbot.errors import StorageFull
from config import storage
from local.home import free_port
from tests.apps.admin_world import logged_in
from tests.apps.knowledge.ingesting import added, ingested, live_texts, manual
from tests.factories import make_member

KEY, SECRET = "parley", "a/secret+with=signs"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture
def bucket(server: str, settings: Any) -> Iterator[Any]:
    """The bucket, in which Parley keeps its files below `site`."""
    s3 = boto3.resource("s3", endpoint_url=server, region_name="eu-central-1", aws_access_key_id=KEY,
                        aws_secret_access_key=SECRET)  # fmt: skip
    made = s3.create_bucket(Bucket="parley", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    address = f"s3://{KEY}:a%2Fsecret%2Bwith%3Dsigns@parley/site?endpoint={server}&region=eu-central-1"
    settings.STORAGES = {**settings.STORAGES, "default": storage.backend(address)}
    yield made
    made.objects.all().delete()
    made.delete()


def names(bucket: Any) -> list[str]:
    return sorted(one.key for one in bucket.objects.all())


def test_a_document_is_kept_read_replaced_and_deleted(acme: Tenant, manuals: Collection, bucket: Any) -> None:
    document = added(acme, manuals, manual(3))
    [name] = names(bucket)
    assert re.fullmatch(rf"site/documents/{acme.pk}/{document.sha256}\.[0-9a-f]{{8}}", name)
    assert bucket.Object(name).get()["Body"].read() == manual(3)
    assert ingested(acme, document).status == "ready"
    assert live_texts(document)
    replace_document(acme, document, name="manual.md", content=manual(3, version="two"))
    [second] = names(bucket)
    assert second != name
    delete_document(acme, document)
    assert names(bucket) == []


def test_a_file_comes_in_pieces_and_goes_on(acme: Tenant, manuals: Collection, bucket: Any) -> None:
    content = manual(3)
    with tenant_scope(acme):
        upload = uploads.begin(acme, manuals, name="manual.md", size=len(content))
    for begin in (0, 500, 1000):
        with tenant_scope(acme):
            upload = uploads.find_upload(acme, upload.pk)
        end = begin + 500 if begin < 1000 else len(content)
        uploads.append(acme, upload, begin, ContentFile(content[begin:end]))
        assert len(names(bucket)) == (begin + 500) // 500 if end < len(content) else 1
    [name] = names(bucket)
    assert bucket.Object(name).get()["Body"].read() == content
    assert Document.objects.get().stored in name


def test_the_doctor_tries_the_bucket_and_leaves_nothing_there(bucket: Any) -> None:
    [told] = doctor.storage()
    assert told.level == "ok"
    assert names(bucket) == []


def test_the_bucket_hands_out_a_file_and_never_a_page(acme: Tenant, manuals: Collection, bucket: Any) -> None:
    content = b"<!doctype html><html><script>alert(1)</script><p>Close the valve.</p>"
    document = added(acme, manuals, content, 'Ventil \u00fc\u2028"; x=.html')
    page = reverse("admin:knowledge_document_download", args=[document.pk])
    answer = logged_in(make_member(tenant=acme)).get(page)
    assert answer.status_code == 302
    assert "no-store" in answer["Cache-Control"]
    assert "X-Amz-Expires=60" in answer["Location"]
    assert SECRET not in answer["Location"]
    got = httpx.get(answer["Location"])
    assert (got.status_code, got.content) == (200, content)
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"].startswith("attachment;")
    assert got.headers["cache-control"] == "private, no-store"


def test_an_outsider_gets_no_link(acme: Tenant, globex: Tenant, manuals: Collection, bucket: Any) -> None:
    document = added(acme, manuals, manual(1))
    page = reverse("admin:knowledge_document_download", args=[document.pk])
    assert logged_in(make_member(tenant=globex)).get(page).status_code in {302, 404}
    answer = logged_in(make_member(tenant=globex)).get(page)
    assert "X-Amz" not in answer.get("Location", "")


def test_lost_bytes_fail_with_a_reason(acme: Tenant, manuals: Collection, bucket: Any) -> None:
    document = added(acme, manuals, manual(1))
    bucket.objects.all().delete()
    assert (ingested(acme, document).status, document.failure_code) == ("failed", "bytes_missing")


def test_a_bucket_that_is_away_is_waited_for(acme: Tenant, manuals: Collection, bucket: Any, settings: Any) -> None:
    document = added(acme, manuals, manual(1))
    here = settings.STORAGES
    away = storage.backend(f"s3://{KEY}:x@parley/site?endpoint=http://127.0.0.1:{free_port()}&region=eu-central-1")
    settings.STORAGES = {**here, "default": away}
    assert (ingested(acme, document).status, document.failure_code) == ("retrying", "storage")
    with pytest.raises(ServiceUnavailable):
        add_document(acme, manuals, name="other.md", content=manual(2))
    with pytest.raises(ServiceUnavailable):  # and not a refusal of each file
        add_several(acme, manuals, [ContentFile(manual(2), "a.md"), ContentFile(manual(3), "b.md")])
    [told] = doctor.storage()
    assert (told.level, "does not answer" in told.says) == ("fail", True)
    assert Document.objects.for_tenant(acme).count() == 1
    settings.STORAGES = here
    assert ingested(acme, document).status == "ready"


class Full(BaseHTTPRequestHandler):
    """Refuses with 507, as MinIO does that has no room."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response(507)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_DELETE = do_HEAD = do_PUT  # noqa: N815 - as http.server wants them

    def log_message(self, *_: Any) -> None:
        pass


def test_a_full_bucket_is_said(acme: Tenant, manuals: Collection, settings: Any) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Full) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"s3://{KEY}:x@parley?endpoint=http://127.0.0.1:{server.server_port}&region=eu-central-1"
        settings.STORAGES = {**settings.STORAGES, "default": storage.backend(address)}
        try:
            with pytest.raises(StorageFull):
                add_document(acme, manuals, name="a.md", content=b"Some text.")
        finally:
            server.shutdown()
            thread.join()
    assert not Document.objects.for_tenant(acme).exists()


@pytest.mark.parametrize(
    "address",
    [
        "s3://KEY@bucket",
        "s3://bucket?endpoint=ftp://host",
        "s3://bucket?acl=public-read",
    ],
)
def test_an_address_that_is_wrong_stops_the_start(address: str) -> None:
    with pytest.raises(SystemExit, match="PARLEY_STORAGE_URL") as stopped:
        storage.backend(address)
    assert "KEY@bucket" not in str(stopped.value)
