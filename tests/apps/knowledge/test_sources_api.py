"""Sources by REST: added, changed, run, stopped, followed and deleted; and what is refused, in which words."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from apps.knowledge.models import Collection, Document, Source, SourceRun
from apps.tenants.models import AuditEntry, Tenant
from tests.apps.knowledge.asking import client_of, post, refused
from tests.apps.knowledge.crawling import page, run_whole
from tests.apps.knowledge.ingesting import stored_files
from tests.factories import make_document, make_key, make_source
from tests.fakes.site import Site, running_site

SITE = {"collection": "manuals", "kind": "site", "location": "https://Docs.Example.org"}
BUCKET = {
    "collection": "manuals", "kind": "bucket", "location": "s3://manuals/in", "access_key": "parley",
    "secret_key": "a/secret", "endpoint": "https://s3.example.org",
}  # fmt: skip


@pytest.fixture
def client(acme: Tenant, manuals: Collection) -> Client:
    return client_of(acme)


def test_one_is_added_shown_and_listed(client: Client) -> None:
    response = post(client, "sources", {**SITE, "every_hours": 24, "hosts": ["WWW.example.org", "www.example.org"]})
    body = response.json()
    assert response.status_code == 201, body
    assert (body["location"], body["name"], body["hosts"]) == (
        "https://docs.example.org/", "docs.example.org", ["www.example.org"]
    )  # fmt: skip
    assert (body["documents"], body["last_run"], body["depth"], body["max_pages"]) == (0, None, 3, 500)
    assert body["next_run_at"]
    assert client.get(f"/api/v1/sources/{body['id']}").json() == body
    assert client.get("/api/v1/sources?collection=manuals").json()["results"] == [body]
    assert AuditEntry.objects.filter(action="source.added").count() == 1


def test_a_repeat_adds_nothing(client: Client) -> None:
    headers = {"Idempotency-Key": "once"}
    first, second = (
        client.post("/api/v1/sources", SITE, content_type="application/json", headers=headers) for _ in range(2)
    )
    assert (first.json(), Source.objects.count()) == (second.json(), 1)


def test_a_secret_is_never_shown(client: Client) -> None:
    made = post(client, "sources", BUCKET)
    assert made.status_code == 201
    assert (made.json()["location"], made.json()["access_key"]) == ("manuals/in", "parley")
    url = f"/api/v1/sources/{made.json()['id']}"
    for response in (made, client.get(url), client.get("/api/v1/sources")):
        assert "a/secret" not in response.content.decode()
    changed = client.patch(url, {"secret_key": "another"}, content_type="application/json")
    assert changed.status_code == 200
    assert Source.objects.get().secret_key == "another"
    assert "another" not in str(list(AuditEntry.objects.values()))


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/", "http://10.0.0.1/", "ftp://example.org/",
        "file:///etc/passwd", "http://user:key@example.org/", "example.org", "http://[::1", "http://a b/", "a\u202eb",
        "http://example.org\\@127.0.0.1/", "http://\uff11\uff12\uff17.0.0.1/", "javascript:alert(1)", "/etc/passwd",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["site", "sitemap"])
def test_addresses_that_are_never_asked_are_refused(client: Client, location: str, kind: str) -> None:
    refused(post(client, "sources", {**SITE, "kind": kind, "location": location}), 400, "location")
    assert not Source.objects.exists()


def test_a_host_in_another_alphabet_is_kept_as_the_web_knows_it(client: Client) -> None:
    made = post(client, "sources", {**SITE, "location": "https://Bücher.example/ä", "hosts": ["пример.example"]})
    assert made.json()["location"] == "https://xn--bcher-kva.example/%C3%A4"
    assert made.json()["hosts"] == ["xn--e1afmkfd.example"]
    refused(post(client, "sources", {**SITE, "location": "https://xn--bcher-kva.example/%C3%A4"}), 400, "location")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"depth": 11}, "depth"),
        ({"depth": -1}, "depth"),
        ({"depth": "3"}, "depth"),
        ({"max_pages": 0}, "max_pages"),
        ({"max_pages": 10_001}, "max_pages"),
        ({"every_hours": 9_000}, "every_hours"),
        ({"hosts": ["https://example.org"]}, "hosts"),
        ({"hosts": ["example.org/path"]}, "hosts"),
        ({"hosts": ["10.0.0.1"]}, "hosts"),
        ({"hosts": ["a b"]}, "hosts"),
        ({"hosts": [f"h{n}.example" for n in range(21)]}, "hosts"),
        ({"kind": "ftp"}, "kind"),
        ({"access_key": "x"}, "access_key"),
        ({"name": "a\0b"}, "name"),
        ({"location": "https://example.org/" + "a" * 2000}, "location"),
        ({"collection": ""}, "collection"),
    ],
)
def test_what_is_out_of_bounds_is_said_at_its_field(client: Client, fields: dict[str, Any], named: str) -> None:
    refused(post(client, "sources", {**SITE, **fields}), 400, named)
    assert not Source.objects.exists()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"endpoint": "http://127.0.0.1:9000"}, "endpoint"),
        ({"endpoint": "https://user@s3.example.org"}, "endpoint"),
        ({"region": "x.evil.example/"}, "region"),
        ({"location": "Manuals"}, "location"),
        ({"location": "a/../b"}, "location"),
        ({"secret_key": ""}, "secret_key"),
    ],
)
def test_so_it_is_for_a_bucket(client: Client, fields: dict[str, Any], named: str) -> None:
    refused(post(client, "sources", {**BUCKET, **fields}), 400, named)


def test_two_with_the_same_start_are_refused(client: Client, acme: Tenant) -> None:
    assert post(client, "sources", SITE).status_code == 201
    told = refused(post(client, "sources", {**SITE, "location": "https://docs.example.org:443/#top"}), 400, "location")
    assert told["fields"]["location"] == "Another source of this collection begins there."
    assert post(client, "sources", {**SITE, "kind": "sitemap"}).status_code == 201


def test_a_collection_has_a_hundred_at_most(client: Client, acme: Tenant, manuals: Collection) -> None:
    Source.objects.bulk_create(
        Source(tenant=acme, collection=manuals, kind="site", name="x", location=f"https://docs.example.org/{number}")
        for number in range(99)
    )
    made = post(client, "sources", SITE)
    assert made.status_code == 201
    told = refused(post(client, "sources", {**SITE, "kind": "sitemap"}), 400, "collection")
    assert told["code"] == "invalid_request"
    assert client.delete(f"/api/v1/sources/{made.json()['id']}").status_code == 204
    assert post(client, "sources", {**SITE, "kind": "sitemap"}).status_code == 201


def test_a_folder_is_no_tenants_to_share(client: Client, settings: Any, tmp_path: Any) -> None:
    settings.PARLEY_SOURCE_FOLDERS = str(tmp_path)
    body = refused(post(client, "sources", {**SITE, "kind": "folder", "location": "manuals"}), 403)
    assert body["code"] == "not_permitted"


def test_where_it_begins_stays(client: Client) -> None:
    made = post(client, "sources", SITE).json()
    change = {"location": "https://other.example/", "kind": "bucket", "name": "Ours", "every_hours": 6, "depth": 0}
    body = client.patch(f"/api/v1/sources/{made['id']}", change, content_type="application/json").json()
    assert (body["location"], body["kind"]) == (made["location"], "site")
    assert (body["name"], body["every_hours"], body["depth"]) == ("Ours", 6, 0)
    assert body["next_run_at"]
    change = {"every_hours": 0}
    body = client.patch(f"/api/v1/sources/{made['id']}", change, content_type="application/json").json()
    assert body["next_run_at"] is None


def test_it_is_run_stopped_and_run_again(client: Client) -> None:
    url = f"/api/v1/sources/{post(client, 'sources', SITE).json()['id']}"
    first = client.post(f"{url}/run")
    assert (first.status_code, first.json()["state"]) == (202, "queued")
    again = client.post(f"{url}/run")
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert client.post(f"{url}/stop").json()["last_run"]["state"] == "stopped"
    assert client.post(f"{url}/stop").status_code == 200
    second = client.post(f"{url}/run")
    assert second.status_code == 202
    runs = client.get(f"{url}/runs").json()["results"]
    assert [run["id"] for run in runs] == [second.json()["id"], first.json()["id"]]
    actions = AuditEntry.objects.filter(action__startswith="source.").order_by("seq").values_list("action", flat=True)
    assert list(actions) == ["source.added", "source.run", "source.stopped", "source.run"]


class TestAfterARun:
    @pytest.fixture
    def source(self, client: Client, settings: Any) -> Any:
        settings.PARLEY_PRIVATE_SOURCE_HOSTS = ["localhost"]
        settings.PARLEY_CRAWL_DELAY_MS = 0
        with running_site() as site:
            yield self.crawled(client, site)

    def crawled(self, client: Client, site: Site) -> Source:
        site.serves("/", page("Home", "/a", "/broken"))
        site.serves("/a", page("A"))
        made = post(client, "sources", {**SITE, "location": f"{site.url}/"}).json()
        source = Source.objects.select_related("tenant").get(pk=made["id"])
        run_whole(source)
        return source

    def test_its_report_tells_what_was_found_and_refused(self, client: Client, source: Source) -> None:
        body = client.get(f"/api/v1/sources/{source.pk}").json()
        assert body["documents"] == 2
        run = body["last_run"]
        assert (run["state"], run["complete"], run["failure"]) == ("finished", True, None)
        assert run["progress"] == {"done": 3, "total": 3, "unit": "pages"}
        assert [run[name] for name in ("found", "new", "changed", "unchanged", "gone", "refused")] == [3, 2, 0, 0, 0, 1]
        assert run["refusals"] == [
            {
                "address": f"{source.location}broken",
                "code": "fetch_failed",
                "message": "There is no document at this address.",
            }
        ]

    def test_deleted_it_takes_its_documents_along(
        self, client: Client, source: Source, acme: Tenant, manuals: Collection
    ) -> None:
        mine = make_document(tenant=acme, collection=manuals)
        assert client.delete(f"/api/v1/sources/{source.pk}").status_code == 204
        assert list(Document.objects.all()) == [mine]
        assert not stored_files()
        assert not SourceRun.objects.exists()

    def test_or_leaves_them(self, client: Client, source: Source) -> None:
        refused(client.delete(f"/api/v1/sources/{source.pk}?documents=maybe"), 400, "documents")
        assert client.delete(f"/api/v1/sources/{source.pk}?documents=keep").status_code == 204
        assert Document.objects.filter(source_page=None).count() == 2
        assert len(stored_files()) == 2
        assert not Source.objects.exists()

    @pytest.mark.usefixtures("source")
    def test_a_deleted_collection_takes_it_along(self, client: Client) -> None:
        assert client.delete("/api/v1/collections/manuals").status_code == 204
        assert not Source.objects.exists()
        assert not stored_files()


def test_reading_is_not_writing(client: Client, acme: Tenant, manuals: Collection) -> None:
    source = make_source(tenant=acme, collection=manuals)
    reader = Client(headers={"Authorization": f"Bearer {make_key(tenant=acme, scopes=['knowledge:read'])}"})
    url = f"/api/v1/sources/{source.pk}"
    assert [reader.get(path).status_code for path in (url, "/api/v1/sources", f"{url}/runs")] == [200] * 3
    answers = [
        post(reader, "sources", SITE), reader.patch(url, {"name": "x"}, content_type="application/json"),
        reader.delete(url), reader.post(f"{url}/run"), reader.post(f"{url}/stop"),
    ]  # fmt: skip
    assert {answer.status_code for answer in answers} == {403}


def test_the_outsider_meets_nothing(globex: Tenant, acme: Tenant, manuals: Collection) -> None:
    source = make_source(tenant=acme, collection=manuals)
    outsider, url = client_of(globex), f"/api/v1/sources/{source.pk}"
    assert outsider.get("/api/v1/sources").json()["results"] == []
    answers = [outsider.get(url), outsider.delete(url), outsider.post(f"{url}/run"), outsider.get(f"{url}/runs")]
    assert {answer.status_code for answer in answers} == {404}
    refused(post(outsider, "sources", SITE), 404)
