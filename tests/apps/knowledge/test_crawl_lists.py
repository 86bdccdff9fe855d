"""Documents from lists: a sitemap, a folder that an operator shares, a bucket."""

from __future__ import annotations

import ctypes
import gzip
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from django.db import connection
from moto.server import ThreadedMotoServer

from apps.knowledge.crawl import folder, registering
from apps.knowledge.models import Collection, Document, Source
from apps.tenants.models import Tenant
from chatbot import sitemaps
from chatbot.errors import InvalidRequest, NotPermitted
from tests.apps.knowledge.crawling import counts, page, refusals, run_whole, site_source, titles
from tests.apps.knowledge.ingesting import embedded
from tests.fakes.inference import FakeInference
from tests.fakes.site import Site, running_site

HEAD = '<?xml version="1.0" encoding="UTF-8"?>'


@pytest.fixture
def site(settings: Any) -> Iterator[Site]:
    settings.PARLEY_PRIVATE_SOURCE_HOSTS = ["localhost"]
    settings.PARLEY_CRAWL_DELAY_MS = 0
    with running_site() as site:
        yield site


def sitemap(*urls: str, kind: str = "urlset", entry: str = "url") -> str:
    entries = "".join(f"<{entry}><loc>{url}</loc><lastmod>2026-03-01</lastmod></{entry}>" for url in urls)
    return f'{HEAD}<{kind} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</{kind}>'


class TestSitemaps:
    @pytest.fixture
    def source(self, acme: Tenant, manuals: Collection, site: Site) -> Source:
        site.serves("/a", page("A", "/unlisted"))
        site.serves("/b", page("B"))
        site.serves("/unlisted", page("Unlisted"))
        return site_source(acme, manuals, site, "/sitemap.xml", kind="sitemap")

    def lists(self, site: Site, *paths: str) -> None:
        site.serves("/sitemap.xml", sitemap(*(f"{site.url}{path}" for path in paths)), "application/xml")

    def test_its_pages_become_documents_and_no_others(self, site: Site, source: Source) -> None:
        self.lists(site, "/a", "/b", "/b#again")
        assert counts(run_whole(source)) == {"found": 2, "new": 2}
        assert titles(source) == ["A", "B"]

    def test_an_index_leads_to_others_gzipped_ones_too(self, site: Site, source: Source) -> None:
        index = sitemap(f"{site.url}/1.xml.gz", f"{site.url}/2.xml", kind="sitemapindex", entry="sitemap")
        site.serves("/sitemap.xml", index, "text/xml")
        site.serves("/1.xml.gz", gzip.compress(sitemap(f"{site.url}/a").encode()), "application/x-gzip")
        site.serves("/2.xml", sitemap(f"{site.url}/b"), "application/xml")
        assert counts(run_whole(source)) == {"found": 2, "new": 2}

    def test_an_index_of_itself_ends(self, site: Site, source: Source) -> None:
        index = sitemap(f"{site.url}/sitemap.xml", f"{site.url}/2.xml", kind="sitemapindex", entry="sitemap")
        site.serves("/sitemap.xml", index, "text/xml")
        site.serves("/2.xml", sitemap(f"{site.url}/b"), "application/xml")
        assert counts(run_whole(source)) == {"found": 1, "new": 1}

    def test_what_it_names_no_longer_is_gone_after_two_runs(self, site: Site, source: Source) -> None:
        self.lists(site, "/a", "/b")
        run_whole(source)
        self.lists(site, "/a")
        assert counts(run_whole(source)) == {"found": 1, "unchanged": 1}
        assert titles(source) == ["A", "B"]
        assert counts(run_whole(source)) == {"found": 1, "unchanged": 1, "gone": 1}
        assert titles(source) == ["A"]

    def test_an_empty_one_deletes_nothing(self, site: Site, source: Source) -> None:
        self.lists(site, "/a", "/b")
        run_whole(source)
        self.lists(site)
        for _ in range(3):
            assert run_whole(source).failure_code == "nothing_found"
        assert titles(source) == ["A", "B"]

    def test_it_may_name_pages_of_its_hosts_alone(self, site: Site, source: Source) -> None:
        site.serves("/sitemap.xml", sitemap(f"{site.url}/a", "https://elsewhere.example/b"), "application/xml")
        run = run_whole(source)
        assert (titles(source), list(refusals(run).values())) == (["A"], ["elsewhere"])

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"<!doctype html><html><body>Not here</body></html>", "sitemap_invalid"),
            (b"plainly no XML", "sitemap_invalid"),
            (b'<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><urlset>&d;</urlset>', "sitemap_invalid"),
            (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><urlset/>', "sitemap_invalid"),
            (b"<feed/>", "sitemap_invalid"),
            (gzip.compress(b"<urlset>", mtime=0)[:12], "sitemap_invalid"),
            (gzip.compress(b"<urlset>" + b" " * (sitemaps.MAX_BYTES + 1), mtime=0), "too_large"),
            (b"<urlset>" + b"<url/>" * 1000, "too_large"),
            (b"<urlset>" + b"<url>" * 100, "too_large"),
        ],
    )  # fmt: skip
    def test_what_is_no_sitemap_fails_the_run(
        self, site: Site, source: Source, body: bytes, code: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sitemaps, "MOST_ELEMENTS", 1000)
        site.serves("/sitemap.xml", body, "application/xml")
        run = run_whole(source)
        assert (run.state, run.failure_code) == ("failed", code)
        assert run.failure_message.endswith(".")

    def test_an_index_that_leads_elsewhere_fails_the_run(self, site: Site, source: Source) -> None:
        index = sitemap("https://elsewhere.example/1.xml", kind="sitemapindex", entry="sitemap")
        site.serves("/sitemap.xml", index, "text/xml")
        assert run_whole(source).failure_code == "elsewhere"

    def test_one_that_is_away_fails_the_run(self, source: Source) -> None:
        run = run_whole(source)
        assert (run.failure_code, run.failure_message) == ("fetch_failed", "There is no document at this address.")


@contextmanager
def as_nobody() -> Iterator[None]:
    """In this thread, where root could open every folder. Whoever is not root stays who they are."""
    libc, before = ctypes.CDLL(None), os.geteuid()
    libc.setfsuid(65534)
    try:
        yield
    finally:
        libc.setfsuid(before)


class TestFolders:
    @pytest.fixture
    def shared(self, tmp_path: Path, settings: Any) -> Path:
        folder = tmp_path / "shared"
        (folder / "manuals" / "deep").mkdir(parents=True)
        (tmp_path / "outside.md").write_text("# Outside\n\nA secret of the machine.")
        settings.PARLEY_SOURCE_FOLDERS = str(folder)
        return folder / "manuals"

    def source(self, acme: Tenant, manuals: Collection, location: str = "manuals") -> Source:
        return registering.add_source(acme, manuals, kind="folder", location=location, by_operator=True)

    def test_its_files_become_documents(
        self, acme: Tenant, manuals: Collection, shared: Path, embeddings: FakeInference
    ) -> None:
        (shared / "pump.md").write_text("# Pump\n\nClose the valve.")
        (shared / "deep" / "seal.txt").write_text("Replace the seal.")
        (shared / "film.mp4").write_bytes(b"\0\0")
        (shared / ".hidden.md").write_text("# Hidden")
        source = self.source(acme, manuals)
        run = run_whole(source)
        assert counts(run) == {"found": 3, "new": 2, "refused": 1}
        assert [(one["address"], one["code"]) for one in run.refusals] == [("film.mp4", "unsupported_type")]
        assert titles(source) == ["Pump", "seal"]
        assert set(Document.objects.values_list("source_url", flat=True)) == {""}
        made = len(embedded(embeddings))
        assert counts(run_whole(source)) == {"found": 3, "unchanged": 2, "refused": 1}
        (shared / "pump.md").write_text("# Pump\n\nOpen the valve.")
        assert counts(run_whole(source)) == {"found": 3, "changed": 1, "unchanged": 1, "refused": 1}
        assert len(embedded(embeddings)) == made + 1

    def test_a_renamed_file_keeps_its_document(
        self, acme: Tenant, manuals: Collection, shared: Path, embeddings: FakeInference
    ) -> None:
        (shared / "pump.md").write_text("# Pump\n\nClose the valve.")
        (shared / "other.md").write_text("# Other\n\nOther things.")
        source = self.source(acme, manuals)
        run_whole(source)
        document, made = Document.objects.get(title="Pump"), len(embedded(embeddings))
        (shared / "pump.md").rename(shared / "deep" / "pumps.md")
        for _ in range(3):
            assert counts(run_whole(source)) == {"found": 2, "unchanged": 2}
        document.refresh_from_db()
        assert (document.file_name, len(embedded(embeddings))) == ("pumps.md", made)

    def test_no_link_is_followed(self, acme: Tenant, manuals: Collection, shared: Path, tmp_path: Path) -> None:
        (shared / "pump.md").write_text("# Pump\n\nClose the valve.")
        (shared / "link.md").symlink_to(tmp_path / "outside.md")
        (shared / "up").symlink_to(tmp_path)
        (shared / "own.md").symlink_to(shared / "pump.md")
        os.mkfifo(shared / "pipe.md")
        assert counts(run_whole(self.source(acme, manuals))) == {"found": 1, "new": 1}
        for location in ("manuals/up", "manuals/link.md"):
            assert run_whole(self.source(acme, manuals, location)).failure_code == "folder_unavailable"
        assert titles_of(acme) == ["Pump"]

    def test_a_file_that_became_a_link_meanwhile_is_not_read(self, shared: Path, tmp_path: Path) -> None:
        (shared / "link.md").symlink_to(tmp_path / "outside.md")
        (shared / "up").symlink_to(tmp_path)
        for path in ("link.md", "up/outside.md"):
            with pytest.raises((FileNotFoundError, folder.FolderUnavailableError)), folder.opened("manuals", path):
                pytest.fail("It was opened.")

    @pytest.mark.parametrize("location", ["../outside", "/etc", "manuals/../../x", "manuals/..", "a\0b"])
    @pytest.mark.usefixtures("shared")
    def test_no_path_leaves_it(self, acme: Tenant, manuals: Collection, location: str) -> None:
        with pytest.raises(InvalidRequest) as raised:
            self.source(acme, manuals, location)
        assert raised.value.fields is not None
        assert list(raised.value.fields) == ["location"]

    def test_an_unmounted_one_deletes_nothing(self, acme: Tenant, manuals: Collection, shared: Path) -> None:
        (shared / "pump.md").write_text("# Pump\n\nClose the valve.")
        source = self.source(acme, manuals)
        run_whole(source)
        (shared / "pump.md").unlink()
        assert [run_whole(source).failure_code for _ in range(3)] == ["nothing_found"] * 3
        (shared / "deep").rmdir()
        shared.rmdir()
        assert run_whole(source).failure_code == "folder_unavailable"
        assert titles(source) == ["Pump"]

    def test_a_folder_below_that_cannot_be_opened_is_not_gone(self, settings: Any) -> None:
        with tempfile.TemporaryDirectory() as shared:
            settings.PARLEY_SOURCE_FOLDERS = shared
            below = Path(shared, "below")
            below.mkdir()
            (below / "seal.txt").write_text("Replace the seal.")
            for folder_of_all in (Path(shared), below):
                folder_of_all.chmod(0o755)
            with as_nobody():
                assert [one.address for one in folder.files_in(".", 10)] == ["below/seal.txt"]
            below.chmod(0)
            with as_nobody(), pytest.raises(folder.FolderUnavailableError):
                folder.files_in(".", 10)
            below.chmod(0o700)

    @pytest.mark.usefixtures("shared")
    def test_only_operators_share_folders(self, acme: Tenant, manuals: Collection, settings: Any) -> None:
        with pytest.raises(NotPermitted):
            registering.add_source(acme, manuals, kind="folder", location="manuals")
        source = self.source(acme, manuals)
        settings.PARLEY_SOURCE_FOLDERS = ""
        assert run_whole(source).failure_code == "folder_unavailable"
        with pytest.raises(InvalidRequest):
            self.source(acme, manuals, "other")


def titles_of(tenant: Tenant) -> list[str]:
    return list(Document.objects.for_tenant(tenant).order_by("title").values_list("title", flat=True))


KEYS = {"access_key": "parley", "secret_key": "a/secret"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


class TestBuckets:
    @pytest.fixture
    def bucket(self, server: str, settings: Any) -> Iterator[Any]:
        settings.PARLEY_PRIVATE_SOURCE_HOSTS = ["127.0.0.1"]
        s3 = boto3.resource("s3", endpoint_url=server, region_name="us-east-1", aws_access_key_id="parley",
                            aws_secret_access_key="a/secret")  # fmt: skip
        made = s3.create_bucket(Bucket="manuals")
        yield made
        made.objects.all().delete()
        made.delete()

    def source(self, acme: Tenant, manuals: Collection, server: str, location: str = "manuals/in") -> Source:
        return registering.add_source(acme, manuals, kind="bucket", location=location, endpoint=server, **KEYS)

    def test_objects_below_the_prefix_become_documents(
        self, acme: Tenant, manuals: Collection, bucket: Any, server: str, embeddings: FakeInference
    ) -> None:
        bucket.put_object(Key="in/Pump & seal+1 ä.md", Body=b"# Pump\n\nClose the valve.")
        bucket.put_object(Key="in/deep/seal.txt", Body=b"Replace the seal.")
        bucket.put_object(Key="in/film.mp4", Body=b"\0")
        bucket.put_object(Key="in/", Body=b"")
        bucket.put_object(Key="out/other.md", Body=b"# Other")
        source = self.source(acme, manuals, server)
        assert counts(run_whole(source)) == {"found": 3, "new": 2, "refused": 1}
        assert titles(source) == ["Pump", "seal"]
        made = len(embedded(embeddings))
        bucket.put_object(Key="in/deep/seal.txt", Body=b"Replace the other seal.")
        assert counts(run_whole(source)) == {"found": 3, "changed": 1, "unchanged": 1, "refused": 1}
        assert len(embedded(embeddings)) == made + 1
        bucket.Object("in/deep/seal.txt").delete()
        run_whole(source)
        assert counts(run_whole(source)) == {"found": 2, "unchanged": 1, "refused": 1, "gone": 1}
        assert titles(source) == ["Pump"]

    def test_a_long_list_is_read_page_by_page(
        self, acme: Tenant, manuals: Collection, bucket: Any, server: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apps.knowledge.crawl.bucket.KEYS_AT_ONCE", 2)
        for number in range(5):
            bucket.put_object(Key=f"in/{number}.md", Body=f"# Number {number}".encode())
        source = self.source(acme, manuals, server)
        assert counts(run_whole(source, ingest=False)) == {"found": 5, "new": 5}
        source.max_pages = 4
        source.save()
        run = run_whole(source, ingest=False)
        assert (counts(run), run.cut) == ({"found": 4, "unchanged": 4}, True)

    def test_a_list_without_an_end_fails_the_run(
        self, acme: Tenant, manuals: Collection, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.PARLEY_PRIVATE_SOURCE_HOSTS = ["localhost"]
        monkeypatch.setattr("apps.knowledge.crawl.bucket.LISTING_SECONDS", 0.5)
        key = f"<Contents><Key>{'k' * 100_000}</Key></Contents>"
        body = f"<ListBucketResult>{key}<NextContinuationToken>on</NextContinuationToken></ListBucketResult>"
        with running_site() as site:
            site.serves("/manuals", body, "application/xml")
            run = run_whole(self.source(acme, manuals, site.url))
        assert len(site.requests) > 1
        assert (run.state, run.failure_code, run.found) == ("failed", "fetch_failed", 0)

    @pytest.mark.usefixtures("bucket")
    def test_a_bucket_that_is_not_there_fails_the_run(self, acme: Tenant, manuals: Collection, server: str) -> None:
        run = run_whole(self.source(acme, manuals, server, "nowhere"))
        assert (run.state, run.failure_code) == ("failed", "bucket_refused")

    @pytest.mark.usefixtures("bucket")
    def test_the_secret_is_encrypted(self, acme: Tenant, manuals: Collection, server: str) -> None:
        self.source(acme, manuals, server)
        with connection.cursor() as cursor:
            cursor.execute("SELECT secret_key FROM knowledge_source")
            [(stored,)] = cursor.fetchall()
        assert "a/secret" not in stored
        assert Source.objects.get().secret_key == "a/secret"

    @pytest.mark.usefixtures("bucket")
    def test_a_server_inside_the_network_is_refused(
        self, acme: Tenant, manuals: Collection, server: str, settings: Any
    ) -> None:
        source = self.source(acme, manuals, server)
        settings.PARLEY_PRIVATE_SOURCE_HOSTS = []
        with pytest.raises(InvalidRequest) as raised:
            self.source(acme, manuals, server, "other")
        assert list(raised.value.fields or {}) == ["endpoint"]
        assert run_whole(source).failure_code == "fetch_failed"
