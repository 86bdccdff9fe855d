"""A site becomes documents, page by page, as its host allows; and once more, but for what did not change."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import redis as redis_client
from aiohttp import web
from asgiref.sync import async_to_sync
from django.conf import settings as django_settings
from django.core.files.storage import default_storage
from django.utils import timezone

from apps.knowledge.collections import create_collection
from apps.knowledge.crawl import frontier, running, schedule
from apps.knowledge.ingest import add_document, retry_document
from apps.knowledge.models import Collection, Document, Source, SourcePage, SourceRun
from apps.knowledge.sources import add_source
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit, tenant_scope
from tests.apps.knowledge.crawling import counts, page, refusals, run_once, run_whole, site_source, titles
from tests.apps.knowledge.ingesting import embedded, ingested, live_texts, stored_files
from tests.factories import make_quota
from tests.fakes.inference import FakeInference
from tests.fakes.site import Site, running_site


@pytest.fixture
def site(settings: Any) -> Iterator[Site]:
    settings.PARLEY_PRIVATE_SOURCE_HOSTS = ["localhost"]
    settings.PARLEY_CRAWL_DELAY_MS = 0
    with running_site() as site:
        yield site


@pytest.fixture
def small(site: Site) -> Site:
    """Three pages."""
    site.serves("/", page("Home", "/pumps#top", "seals/", "mailto:a@b.example", "https://example.org/"), ETag='"1"')
    site.serves("/pumps", page("Pumps", "/", "/pumps#end"), **{"Last-Modified": "Mon, 02 Mar 2026 08:00:00 GMT"})
    site.serves("/seals/", page("Seals", "../pumps"))
    return site


def asked(site: Site) -> list[str]:
    return [request.path for request in site.requests]


def test_a_site_becomes_documents(acme: Tenant, manuals: Collection, small: Site) -> None:
    source = site_source(acme, manuals, small)
    run = run_whole(source)
    assert (run.state, counts(run), run.refusals) == ("finished", {"found": 3, "new": 3}, [])
    assert titles(source) == ["Home", "Pumps", "Seals"]
    pumps = Document.objects.get(source_url=f"{small.url}/pumps")
    assert pumps.status == "ready"
    assert "All about Pumps stands here." in live_texts(pumps)[0]
    assert sorted(asked(small)) == ["/", "/pumps", "/robots.txt", "/seals/"]
    assert {request.headers["User-Agent"] for request in small.requests} == {"Parley"}


def test_what_did_not_change_is_not_embedded_again(
    acme: Tenant, manuals: Collection, small: Site, embeddings: FakeInference
) -> None:
    source = site_source(acme, manuals, small)
    run_whole(source)
    before = embedded(embeddings)
    small.requests.clear()
    small.serves("/seals/", page("Seals", "../pumps", "/new"))
    small.serves("/new", page("New"))
    run = run_whole(source)
    assert counts(run) == {"found": 4, "new": 1, "changed": 1, "unchanged": 2}
    conditions = {request.path: (request.headers.get("If-None-Match"), request.headers.get("If-Modified-Since"))
                  for request in small.requests}  # fmt: skip
    assert conditions["/"] == ('"1"', None)
    assert conditions["/pumps"] == (None, "Mon, 02 Mar 2026 08:00:00 GMT")
    anew = embedded(embeddings)[len(before) :]
    assert len(anew) == 2
    assert all("New" in text or "Seals" in text for text in anew)
    assert counts(run_whole(source)) == {"found": 4, "unchanged": 4}
    assert len(embedded(embeddings)) == len(before) + 2


def test_a_page_fetched_again_by_hand_is_known_to_be_the_same(acme: Tenant, manuals: Collection, small: Site) -> None:
    source = site_source(acme, manuals, small)
    run_whole(source)
    run_whole(source)
    pumps = Document.objects.get(source_url=f"{small.url}/pumps")
    made = pumps.chunks.get().pk
    retry_document(acme, pumps)
    assert (ingested(acme, pumps).status, pumps.chunks.get().pk) == ("ready", made)


class TestWhatBelongsToIt:
    def test_links_are_followed_as_deep_as_it_says(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        site.serves("/", page("Home", "/one"))
        site.serves("/one", page("One", "/two"))
        site.serves("/two", page("Two", "/three"))
        assert titles_of_run(site_source(acme, manuals, site, depth=0)) == ["Home"]
        deeper = site_source(acme, manuals, site, "/one", depth=1)
        assert titles_of_run(deeper) == ["One", "Two"]

    def test_other_hosts_belong_where_they_are_named(
        self, acme: Tenant, manuals: Collection, site: Site, settings: Any
    ) -> None:
        settings.PARLEY_PRIVATE_SOURCE_HOSTS = ["localhost", "127.0.0.1"]
        other = f"127.0.0.1:{site.port}"
        site.serves("/", page("Home", f"http://{other}/there"))
        site.serves("/there", page("There"))
        source = site_source(acme, manuals, site)
        assert titles_of_run(source) == ["Home"]
        source.hosts = [other]
        source.save()
        assert titles_of_run(source) == ["Home", "There"]

    def test_a_page_has_one_address(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        links = ["/a", "/a#top", f"{site.url}/a", "./a", f"HTTP://LOCALHOST:{site.port}/x/../a", "/ä", "/%C3%A4"]
        site.serves("/", page("Home", *links))
        site.serves("/a", page("A"))
        site.serves("/ä", page("Ä"))
        assert titles_of_run(site_source(acme, manuals, site)) == ["A", "Home", "Ä"]
        assert len(asked(site)) == 4

    def test_the_canonical_address_is_the_one(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        site.serves("/", page("Home", "/a?from=home", "/b", "/c"))
        site.serves("/a", page("A", head='<link rel="canonical" href="/a">'))
        site.pages["/a?from=home"] = site.pages["/a"]
        site.serves("/b", page("B", head='<link rel="canonical" href="/c">'))
        site.serves("/c", page("C", head='<link rel="canonical" href="/b">'))  # they disagree: one of them is taken
        source = site_source(acme, manuals, site)
        assert titles_of_run(source) == ["A", "C", "Home"]
        assert Document.objects.filter(source_url=f"{site.url}/a").exists()

    def test_what_no_reader_reads_is_not_fetched(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        site.serves("/", page("Home", "/film.mp4", "/style.css", "/all.zip", "/guide.pdf", "/page.php"))
        site.serves("/page.php", page("Php"))
        run = run_whole(site_source(acme, manuals, site))
        assert sorted(asked(site)) == ["/", "/guide.pdf", "/page.php", "/robots.txt"]
        assert refusals(run) == {"guide.pdf": "fetch_failed"}

    def test_an_endless_calendar_ends_at_the_page_limit(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        days = count()

        def day(_: web.Request) -> web.Response:
            number = next(days)
            return web.Response(text=page(f"Day {number}", f"/day?n={number + 1}"), content_type="text/html")

        site.pages["/day"] = day
        run = run_whole(site_source(acme, manuals, site, "/day", max_pages=5, depth=10))
        assert (run.state, counts(run), run.cut) == ("finished", {"found": 5, "new": 5}, True)


def titles_of_run(source: Any) -> list[str]:
    assert run_whole(source).state == "finished"
    return titles(source)


class TestManners:
    def test_robots_are_obeyed(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        small.serves("/robots.txt", "User-agent: *\nDisallow: /\n\nUser-agent: parley\nDisallow: /seals", "text/plain")
        run = run_whole(site_source(acme, manuals, small))
        assert counts(run) == {"found": 3, "new": 2, "refused": 1}
        assert refusals(run) == {"seals/": "robots_forbid"}
        assert "/seals/" not in asked(small)

    def test_a_start_that_is_forbidden_fails_the_run(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        small.serves("/robots.txt", "User-agent: *\nDisallow: /", "text/plain")
        run = run_whole(site_source(acme, manuals, small))
        assert (run.state, run.failure_code) == ("failed", "robots_forbid")
        assert asked(small) == ["/robots.txt"]

    def test_robots_that_fail_are_waited_for(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        small.pages["/robots.txt"] = lambda _: web.Response(status=503)
        source = site_source(acme, manuals, small)
        run = run_once(source)
        assert (run.state, run.done) == ("running", 0)
        run = run_once(source)  # what was put off is not due
        assert run.next_slice_at > timezone.now() + datetime.timedelta(seconds=5)
        del small.pages["/robots.txt"]
        assert counts(run_whole(source)) == {"found": 3, "new": 3}

    def test_robots_that_fail_for_long_fail_the_run(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        small.pages["/robots.txt"] = lambda _: web.Response(status=503)
        run = run_whole(site_source(acme, manuals, small))
        assert (run.state, run.failure_code) == ("failed", "robots_unavailable")
        assert set(asked(small)) == {"/robots.txt"}

    def test_robots_without_end_are_read_to_their_limit(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        rules = "User-agent: *\nDisallow: /seals\n" + "# more\n" * 200_000 + "Disallow: /pumps\n"
        small.serves("/robots.txt", rules, "text/plain")
        assert refusals(run_whole(site_source(acme, manuals, small))) == {"seals/": "robots_forbid"}

    def test_all_tenants_together_ask_a_host_so_often(
        self, acme: Tenant, manuals: Collection, globex: Tenant, small: Site, settings: Any
    ) -> None:
        settings.PARLEY_CRAWL_DELAY_MS = 60_000
        run = run_once(site_source(acme, manuals, small))
        theirs = run_once(site_source(globex, create_collection(globex, name="Manuals"), small))
        assert asked(small) == ["/robots.txt"]
        assert (run.done, theirs.done, run.state, theirs.state) == (0, 0, "running", "running")
        assert theirs.next_slice_at > timezone.now() + datetime.timedelta(seconds=10)

    def test_a_host_that_wants_long_pauses_keeps_no_worker(
        self, acme: Tenant, manuals: Collection, small: Site
    ) -> None:
        small.serves("/robots.txt", "User-agent: *\nCrawl-delay: 20", "text/plain")
        source = site_source(acme, manuals, small)
        run = run_once(source)
        assert (run.state, run.done, run.lease_until) == ("running", 1, None)
        assert run.next_slice_at > timezone.now() + datetime.timedelta(seconds=5)

    def test_pages_say_whether_to_keep_and_follow_them(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        site.serves("/", page("Home", "/hidden", "/closed", "/said"))
        site.serves("/hidden", page("Hidden", "/behind", head='<meta name="robots" content="noindex">'))
        site.serves("/behind", page("Behind"))
        site.serves("/closed", page("Closed", "/never", head='<meta name="ROBOTS" content="nofollow">'))
        site.serves("/never", page("Never"))
        site.serves("/said", page("Said"), **{"X-Robots-Tag": "other: all, parley: noindex"})
        run = run_whole(site_source(acme, manuals, site))
        assert titles(run.source) == ["Behind", "Closed", "Home"]
        assert refusals(run) == {"hidden": "noindex", "said": "noindex"}


class TestRedirects:
    def test_they_are_followed_within_the_site(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        site.redirects("/", "/home", 301)
        site.serves("/home", page("Home", "/old", "/new"))
        site.redirects("/old", "/new")
        site.serves("/new", page("New"))
        run = run_whole(site_source(acme, manuals, site))
        assert (titles(run.source), refusals(run)) == (["Home", "New"], {})
        assert asked(site).count("/new") == 1

    def test_endless_ones_end(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        steps = count(1)
        site.pages["/r"] = lambda _: web.Response(status=302, headers={"Location": f"/r?{next(steps)}"})
        site.serves("/", page("Home", "/r", "/loop"))
        site.redirects("/loop", "/loop")
        run = run_whole(site_source(acme, manuals, site))
        assert (run.state, titles(run.source)) == ("finished", ["Home"])
        assert refusals(run) == {"r?5": "fetch_failed", "loop": "fetch_failed"}

    def test_a_start_that_leads_in_circles_fails_the_run(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        steps = count(1)
        site.pages["/"] = lambda _: web.Response(status=302, headers={"Location": f"/?{next(steps)}"})
        run = run_whole(site_source(acme, manuals, site))
        assert (run.state, run.failure_code) == ("failed", "fetch_failed")
        assert "more than 5 redirects" in run.failure_message

    def test_a_start_that_leads_elsewhere_says_where(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        site.redirects("/", "https://www.example.org/")
        run = run_whole(site_source(acme, manuals, site))
        assert (run.state, run.failure_code) == ("failed", "elsewhere")
        assert "www.example.org" in run.failure_message

    def test_a_page_that_moved_keeps_its_document(
        self, acme: Tenant, manuals: Collection, site: Site, embeddings: FakeInference
    ) -> None:
        site.serves("/", page("Home", "/old"))
        site.serves("/old", page("Guide"))
        source = site_source(acme, manuals, site)
        run_whole(source)
        guide, made = Document.objects.get(title="Guide"), len(embedded(embeddings))
        site.redirects("/old", "/new", 301)
        site.serves("/new", page("Guide"))
        assert counts(run_whole(source)) == {"found": 3, "unchanged": 2}
        guide.refresh_from_db()
        assert guide.source_url == f"{site.url}/new"
        run_whole(source)
        assert (titles(source), len(embedded(embeddings))) == (["Guide", "Home"], made)

    @pytest.mark.parametrize("still_linked", [False, True])
    def test_so_does_one_whose_new_address_is_looked_at_first(
        self, acme: Tenant, manuals: Collection, site: Site, still_linked: bool
    ) -> None:
        site.serves("/", page("Home", "/b-old"))
        site.serves("/b-old", page("Guide"))
        source = site_source(acme, manuals, site)
        run_whole(source)
        guide = Document.objects.get(title="Guide")
        site.serves("/", page("Home", "/a-new", *(["/b-old"] if still_linked else [])))
        site.redirects("/b-old", "/a-new", 301)
        site.serves("/a-new", page("Guide"))
        run = run_whole(source)
        assert (counts(run)["found"], run.done, run.new, run.refused, run.refusals) == (3, 3, 0, 0, [])
        guide.refresh_from_db()
        assert guide.source_url == f"{site.url}/a-new"
        for _ in range(2):
            assert run_whole(source).gone == 0
        assert titles(source) == ["Guide", "Home"]

    def test_a_copy_to_which_many_lead_is_looked_at_again_so_often_at_most(
        self, acme: Tenant, manuals: Collection, site: Site
    ) -> None:
        site.serves("/", page("Home", "/a", "/copy", "/x", "/y", "/z"))
        for path in ("/a", "/copy"):
            site.serves(path, page("Same"))
        for path in ("/x", "/y", "/z"):
            site.redirects(path, "/copy")
        run = run_whole(site_source(acme, manuals, site))
        assert (run.state, run.done, run.found, refusals(run)) == ("finished", 6, 6, {"copy": "duplicate"})
        assert asked(site).count("/copy") <= 4


class TestGone:
    def test_a_page_is_forgotten_after_two_runs_without_it(
        self, acme: Tenant, manuals: Collection, small: Site
    ) -> None:
        source = site_source(acme, manuals, small)
        run_whole(source)
        del small.pages["/seals/"]
        assert counts(run_whole(source)) == {"found": 3, "unchanged": 2, "refused": 1}
        assert titles(source) == ["Home", "Pumps", "Seals"]
        assert counts(run_whole(source)) == {"found": 3, "unchanged": 2, "refused": 1, "gone": 1}
        assert titles(source) == ["Home", "Pumps"]
        assert len(stored_files()) == 2

    def test_a_page_that_is_back_is_not(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        source = site_source(acme, manuals, small)
        run_whole(source)
        for _ in range(3):
            answer = small.pages.pop("/seals/")
            run_whole(source)
            small.pages["/seals/"] = answer
            run_whole(source)
        assert titles(source) == ["Home", "Pumps", "Seals"]

    def test_failed_and_cut_runs_do_not_count(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        source = site_source(acme, manuals, small)
        run_whole(source)
        home = small.pages["/"]
        del small.pages["/seals/"]
        for _ in range(3):
            small.pages["/"] = lambda _: web.Response(status=404)
            assert run_whole(source).state == "failed"
        small.pages["/"] = home
        source.max_pages = 2
        source.save()
        for _ in range(3):
            assert run_whole(source).cut
        assert titles(source) == ["Home", "Pumps", "Seals"]

    def test_a_page_to_which_nothing_links_stays_while_it_is_there(
        self, acme: Tenant, manuals: Collection, small: Site
    ) -> None:
        source = site_source(acme, manuals, small)
        run_whole(source)
        small.serves("/", page("Home", "/pumps"))
        for _ in range(3):
            assert counts(run_whole(source))["found"] == 3
        assert "Seals" in titles(source)
        del small.pages["/seals/"]
        run_whole(source)
        run_whole(source)
        assert titles(source) == ["Home", "Pumps"]

    def test_a_cut_run_deletes_nothing_that_one_before_it_left(
        self, acme: Tenant, manuals: Collection, small: Site
    ) -> None:
        source = site_source(acme, manuals, small)
        run_whole(source)
        # A run that found it gone was stopped before it deleted it; now it is back.
        SourcePage.objects.filter(address=f"{small.url}/pumps").update(absences=frontier.ABSENCES)
        source.max_pages = 2
        source.save()
        run = run_whole(source)
        assert (run.cut, run.gone, titles(source)) == (True, 0, ["Home", "Pumps", "Seals"])

    def test_rows_of_pages_without_documents_do_not_add_up(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        days = count()
        site.pages["/"] = lambda _: web.Response(
            text=page("Home", *(f"/{next(days)}" for _ in range(3))), content_type="text/html"
        )
        source = site_source(acme, manuals, site, max_pages=3)
        for _ in range(3):
            assert run_whole(source).cut
            assert SourcePage.objects.count() == 3
        site.pages["/"] = lambda _: web.Response(status=404)
        assert run_whole(source).state == "failed"
        assert SourcePage.objects.count() == 1

    def test_a_host_that_is_down_makes_nothing_gone(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        source = site_source(acme, manuals, small)
        run_whole(source)
        small.pages["/seals/"] = lambda _: web.Response(status=500)
        for _ in range(3):
            assert refusals(run_whole(source)) == {"seals/": "source_unavailable"}
        assert "Seals" in titles(source)


def a_minute_passes() -> None:
    """For the turns of hosts."""
    with redis_client.Redis.from_url(django_settings.REDIS_URL) as client:
        client.flushdb()


class TestWhatIsThereAlready:
    def test_a_page_whose_bytes_are_lost_is_fetched_anew(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        source = site_source(acme, manuals, small)
        run_whole(source)
        default_storage.delete(Document.objects.get(title="Home").stored)
        run = run_whole(source)
        assert (run.state, counts(run)) == ("finished", {"found": 3, "unchanged": 3})
        assert titles(source) == ["Home", "Pumps", "Seals"]

    def test_so_it_is_where_the_host_wants_long_pauses(
        self, acme: Tenant, manuals: Collection, small: Site, settings: Any
    ) -> None:
        source = site_source(acme, manuals, small)
        run_whole(source)
        default_storage.delete(Document.objects.get(title="Home").stored)
        small.requests.clear()
        settings.PARLEY_CRAWL_DELAY_MS = 60_000
        assert run_once(source).done == 0  # it asked for robots.txt
        a_minute_passes()
        assert run_once(source).done == 0  # it asked whether the page has changed
        a_minute_passes()
        assert run_once(source).done == 1
        assert [request.headers.get("If-None-Match") for request in small.requests if request.path == "/"] == [
            '"1"',
            None,
        ]

    def test_two_pages_with_the_same_content_are_one_document(
        self, acme: Tenant, manuals: Collection, site: Site
    ) -> None:
        site.serves("/", page("Home", "/a", "/b"))
        site.serves("/a", page("Same", "/c"))
        site.serves("/b", page("Same", "/c"))
        site.serves("/c", page("C"))
        run = run_whole(site_source(acme, manuals, site))
        assert (titles(run.source), refusals(run)) == (["C", "Home", "Same"], {"b": "duplicate"})

    def test_what_somebody_added_stays_theirs(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        ingested(acme, add_source(acme, manuals, url=f"{small.url}/pumps")[0])
        add_document(acme, manuals, name="seals.html", content=page("Seals", "../pumps").encode())
        run = run_whole(site_source(acme, manuals, small))
        assert (titles(run.source), refusals(run)) == (["Home"], {"pumps": "duplicate", "seals/": "duplicate"})
        assert Document.objects.filter(source_page=None).count() == 2


class TestWorkers:
    def test_a_big_site_is_done_in_slices(
        self, acme: Tenant, manuals: Collection, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(running, "SLICE_PAGES", 2)
        site.serves("/", page("Home", *(f"/{n}" for n in range(5))))
        for n in range(5):
            site.serves(f"/{n}", page(f"Page {n}"))
        source = site_source(acme, manuals, site)
        run = run_once(source)
        assert (run.state, run.done, run.found, run.lease_until) == ("running", 2, 6, None)
        assert run.next_slice_at > timezone.now()  # the next one is with the workers already
        run = run_whole(source)
        assert (run.state, counts(run)) == ("finished", {"found": 6, "new": 6})
        assert SourceRun.objects.count() == 1
        assert len(asked(site)) == 6 + 1  # robots.txt is kept for the run

    def test_a_run_whose_worker_died_goes_on(
        self, acme: Tenant, manuals: Collection, small: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = site_source(acme, manuals, small)
        run, _ = schedule.run_now(acme, source)
        claimed = claimed_by_a_worker(run)
        assert claimed is not None
        async_to_sync(running._slice)(_first_page_alone(claimed, monkeypatch))  # and then it is killed
        run.refresh_from_db()
        assert (run.done, run.state) == (1, "running")
        assert claimed_by_a_worker(run) is None
        SourceRun.objects.update(lease_until=timezone.now(), next_slice_at=timezone.now())
        assert schedule.tenants_waiting() == [acme.pk]
        monkeypatch.undo()
        run = run_whole(source)
        assert (run.state, counts(run)) == ("finished", {"found": 3, "new": 3})
        assert asked(small).count("/") == 1

    def test_a_worker_that_was_taken_over_writes_nothing(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        source = site_source(acme, manuals, small)
        run, _ = schedule.run_now(acme, source)
        claimed = claimed_by_a_worker(run)
        SourceRun.objects.update(lease_until=timezone.now())
        assert claimed_by_a_worker(run) is not None
        async_to_sync(running._attempt)(claimed)
        run.refresh_from_db()
        assert (run.state, run.found, Document.objects.count()) == ("queued", 0, 0)

    def test_a_run_that_kills_every_worker_ends(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        run, _ = schedule.run_now(acme, site_source(acme, manuals, small))
        for _ in range(running.MAX_ATTEMPTS):
            assert claimed_by_a_worker(run) is not None
            SourceRun.objects.update(lease_until=timezone.now())
        run = run_once(run.source)
        assert (run.state, run.failure_code) == ("failed", "interrupted")

    def test_it_is_stopped(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        source = site_source(acme, manuals, small)

        def stopping(_: web.Request) -> web.Response:
            SourceRun.objects.filter(source=source).update(
                state="stopped", ended=timezone.now(), lease_until=None, lease_token=None
            )
            return web.Response(text=page("Pumps"), content_type="text/html")

        async def answer(request: web.Request) -> web.Response:
            return await platform_unit(stopping, request)

        small.pages["/pumps"] = answer
        run = run_once(source)
        assert run.state == "stopped"
        assert "/seals/" not in asked(small)
        assert "Home" in titles(source) or Document.objects.count() >= 1

    def test_one_slice_of_a_tenant_at_a_time(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        first = schedule.run_now(acme, site_source(acme, manuals, site, "/a"))[0]
        schedule.run_now(acme, site_source(acme, manuals, site, "/b"))
        SourceRun.objects.update(next_slice_at=timezone.now())
        assert claimed_by_a_worker(first) is not None
        assert not schedule.send_due(acme.pk)
        assert schedule.run_now(acme, first.source) == (first, False)


def claimed_by_a_worker(run: SourceRun) -> SourceRun | None:
    run.refresh_from_db()
    with tenant_scope(run):
        return running.claim(run.tenant_id, run.pk, run.slices)


def _first_page_alone(run: SourceRun, monkeypatch: pytest.MonkeyPatch) -> SourceRun:
    """A worker that is killed after its first page never lets the run go."""
    monkeypatch.setattr(running, "SLICE_PAGES", 1)
    monkeypatch.setattr(running, "_release", lambda *_args, **_fields: None)
    return run


class TestQuotas:
    @pytest.mark.parametrize("limit", [{"metric": "documents", "amount": 1}, {"metric": "bytes", "amount": 400}])
    def test_a_full_store_ends_the_run(
        self, acme: Tenant, manuals: Collection, small: Site, limit: dict[str, Any]
    ) -> None:
        make_quota(tenant=acme, window="once", **limit)
        run = run_whole(site_source(acme, manuals, small))
        assert (run.state, run.failure_code, Document.objects.count()) == ("failed", "quota_exceeded", 1)
        assert len(stored_files()) == 1
        assert SourcePage.objects.exclude(document=None).count() == 1

    def test_used_up_pages_end_the_run(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        make_quota(tenant=acme, level="tenant", metric="pages", window="month", amount=3)
        source = site_source(acme, manuals, small)
        assert run_whole(source).state == "finished"
        small.serves("/pumps", page("Pumps", "/more"))
        small.serves("/more", page("More"))
        run = run_whole(source)
        assert (run.state, run.failure_code) == ("failed", "quota_exceeded")
        assert titles(source) == ["Home", "Pumps", "Seals"]


class TestSchedule:
    def test_it_runs_by_itself_when_it_is_due(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        source = site_source(acme, manuals, small, every_hours=6)
        assert schedule.tenants_waiting() == [acme.pk]
        assert schedule.begin_due(acme.pk) == 1
        source.refresh_from_db()
        assert source.next_run_at is not None
        assert source.next_run_at > timezone.now() + datetime.timedelta(hours=5)
        assert run_whole(source).state == "finished"
        assert schedule.begin_due(acme.pk) == 0

    def test_by_hand_alone_it_is_never_due(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        site_source(acme, manuals, small)
        assert schedule.tenants_waiting() == []

    def test_a_suspended_tenant_runs_nothing(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        site_source(acme, manuals, small, every_hours=6)
        acme.is_active = False
        acme.save()
        assert schedule.begin_due(acme.pk) == 0

    def test_many_are_begun_by_and_by(self, acme: Tenant, manuals: Collection) -> None:
        now = timezone.now()
        Source.objects.bulk_create(
            Source(tenant=acme, collection=manuals, kind="site", name="x", location=f"https://docs.example.org/{number}",
                   every_hours=1, next_run_at=now)
            for number in range(schedule.BEGUN_AT_ONCE + 1)
        )  # fmt: skip
        assert [schedule.begin_due(acme.pk) for _ in range(3)] == [schedule.BEGUN_AT_ONCE, 1, 0]

    def test_one_that_still_runs_is_not_begun_again(self, acme: Tenant, manuals: Collection, small: Site) -> None:
        source = site_source(acme, manuals, small, every_hours=6)
        schedule.run_now(acme, source)
        source.next_run_at = timezone.now()
        source.save()
        schedule.begin_due(acme.pk)
        assert SourceRun.objects.count() == 1

    def test_twenty_reports_are_kept(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        site.serves("/", page("Home"))
        source = site_source(acme, manuals, site)
        for _ in range(schedule.KEPT_RUNS + 2):
            SourceRun.objects.create(tenant=acme, source=source, state="stopped", ended=timezone.now())
        run_whole(source)
        assert SourceRun.objects.count() == schedule.KEPT_RUNS
