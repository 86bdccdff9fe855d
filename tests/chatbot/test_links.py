"""Where a page leads, written in one way; what it says of being kept; and what robots.txt allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.links import MOST_ANCHORS, MOST_LINKS, Page, is_readable, normalised, page_of
from chatbot.robots import LONGEST_DELAY, Robots

URL = "https://example.org/docs/start"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("https://Example.ORG", "https://example.org/"),
        ("https://example.org/#top", "https://example.org/"),
        ("HTTPS://example.org:443/a/../b?x=1#y", "https://example.org/b?x=1"),
        ("https://example.org?x=1", "https://example.org/?x=1"),
        ("http://bücher.example/ä", "http://xn--bcher-kva.example/%C3%A4"),
        ("http://example.org/a b", "http://example.org/a%20b"),
        ("mailto:a@example.org", ""),
        ("javascript:alert(1)", ""),
        ("//example.org/", ""),
        ("http://[::1", ""),
        ("http:///path", ""),
        ("", ""),
    ],
)
def test_an_address_is_written_in_one_way(written: str, kept: str) -> None:
    assert normalised(written) == kept


@given(st.text(max_size=60))
def test_once_written_it_stays_so(text: str) -> None:
    for address in (text, f"http://example.org/{text}", f"http://{text}/"):
        once = normalised(address)
        assert normalised(once) == once
        assert "#" not in once


def test_what_is_too_long_is_no_address() -> None:
    long = f"https://example.org/{'a' * 2000}"
    assert normalised(long) == ""
    assert page_of(f'<base href="{long}"><a href="{long}">1</a><a href="b">2</a>', URL).links == (
        "https://example.org/docs/b",
    )


def test_a_page_has_one_base_and_so_many_links() -> None:
    bases = '<base href="a/">' * 20_000
    assert page_of(f'{bases}<a href="b">2</a>', URL).links == ("https://example.org/docs/a/b",)
    again = '<a href="b">2</a>' * MOST_ANCHORS
    assert page_of(f'{again}<a href="c">3</a>', URL).links == ("https://example.org/docs/b",)


def test_links_are_those_of_the_page() -> None:
    page = """
        <base href="/handbook/"><a href="one">1</a><a href="../two#part">2</a><area href="//other.example/three">
        <a href="one">again</a><a href="four" rel="external NoFollow">4</a><a>none</a><a href="">here</a>
        <a href="tel:112">5</a><a href="http://[bad">6</a><img src="picture.png"><!-- <a href="hidden">7</a> -->
    """
    assert page_of(page, URL).links == (
        "https://example.org/handbook/one", "https://example.org/two", "https://other.example/three"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("head", "header", "noindex", "nofollow"),
    [
        ("", "", False, False),
        ('<meta name="robots" content="index, follow">', "", False, False),
        ('<meta name="Robots" content="NoIndex,nofollow">', "", True, True),
        ('<meta name="parley" content="none">', "", True, True),
        ('<meta name="googlebot" content="noindex">', "", False, False),
        ("", "noindex", True, False),
        ("", "googlebot: noindex, nofollow", False, False),
        ("", "googlebot: nofollow, parley: noindex", True, False),
        ("", "unavailable_after: 25 Jun 2027 15:00:00 PST", False, False),
    ],
)
def test_what_it_says_of_being_kept(head: str, header: str, noindex: bool, nofollow: bool) -> None:
    page = page_of(f'{head}<a href="/x">x</a>', URL, header)
    assert (page.noindex, page.nofollow, bool(page.links)) == (noindex, nofollow, not nofollow)


def test_its_canonical_address_is_absolute() -> None:
    assert page_of('<link rel="alternate canonical" href="../own#x">', URL).canonical == "https://example.org/own"
    assert page_of('<link rel="canonical" href="mailto:x">', URL).canonical == ""


def test_a_hostile_page_has_an_end() -> None:
    assert len(page_of("".join(f'<a href="/{n}">' for n in range(MOST_LINKS + 50)), URL).links) == MOST_LINKS
    assert page_of("<!--" * 100_000, URL) == Page()
    assert page_of("<a href=" * 50_000, URL).links == ()


@pytest.mark.parametrize(
    ("path", "readable"),
    [("/", True), ("/a", True), ("/a.php", True), ("/a.PDF", True), ("/v1.2", True), ("/a.zip", False),
     ("/a.css", False), ("/a.mp4?x=.html", False), ("/a.html?x=.zip", True)],
)  # fmt: skip
def test_kinds_that_nobody_reads_are_not_fetched(path: str, readable: bool) -> None:
    assert is_readable(f"https://example.org{path}") == readable


def test_robots_speak_to_us_by_name_or_to_all() -> None:
    rules = "User-agent: *\nDisallow: /\n\nUser-agent: Parley\nAllow: /docs\nDisallow: /\nCrawl-delay: 3\n"
    assert Robots(rules).allows(URL)
    assert not Robots(rules).allows("https://example.org/other")
    assert Robots(rules).delay == 3.0
    assert not Robots("User-agent: *\nDisallow: /docs").allows(URL)


@pytest.mark.parametrize("text", ["", "\0\xff<html>", "Disallow", "User-agent: *\nCrawl-delay: soon", "a" * 600_000])
def test_what_are_no_rules_forbids_nothing(text: str) -> None:
    assert Robots(text).allows(URL)
    assert Robots(text).delay == 0.0


def test_a_long_pause_has_a_bound() -> None:
    assert Robots("User-agent: *\nCrawl-delay: 86400").delay == LONGEST_DELAY
