"""The README's commands, run as they stand there: it cannot promise what does not work."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from local.processes import ours
from tests.environment import ROOT
from tests.journeys.readme import Walk, walked
from tests.pages.blocks import blocks_of

pytestmark = [pytest.mark.journey, pytest.mark.timeout(1200)]

README = blocks_of(ROOT / "README.md")


@pytest.fixture(scope="module")
def walk() -> Iterator[Walk]:
    with walked([block for block in README if block.runs]) as done:
        yield done


def events_of(stream: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, data) of each SSE block."""
    return [(name, json.loads(data)) for name, data in re.findall(r"^event: (\S+)\ndata: (.*)$", stream, re.MULTILINE)]


def documents_in(printed: str) -> list[dict[str, Any]]:
    """The JSON objects in a command's output, one after the other."""
    decoder, found, place = json.JSONDecoder(), [], printed.find("{")
    while place >= 0:
        value, end = decoder.raw_decode(printed, place)
        found.append(value)
        place = printed.find("\n{", end)
        place = place + 1 if place >= 0 else -1
    return found


def test_one_block_alone_is_not_run_here() -> None:
    # The suite that runs this cannot run itself.
    assert [block.text for block in README if "not run" in block.marks] == ["make test\n"]


def test_every_command_succeeds(walk: Walk) -> None:
    assert walk.failed == []


def test_make_up_says_where_everything_is(walk: Walk) -> None:
    up = walk.printed["Quick start"][0]
    assert "Parley is ready." in up
    assert f"{walk.base_url}/admin/" in up


def test_a_question_over_rest_is_answered_from_sources(walk: Walk) -> None:
    (printed,) = walk.printed["Ask over REST"]
    (turn,) = documents_in(printed)
    assert turn["state"] == "finished"
    assert turn["text"].strip()
    assert turn["text"] == turn["answer"]["text"]
    assert {source["title"] for source in turn["sources"]} >= {"Quick start"}
    assert all(citation in turn["sources"] for citation in turn["citations"])


def test_a_stream_brings_sources_then_tokens_then_the_end(walk: Walk) -> None:
    (printed,) = walk.printed["Stream over SSE"]
    events = events_of(printed)
    names = [name for name, _ in events]
    assert names == ["turn.started", "sources", *["token"] * (len(names) - 3), "turn.finished"]
    assert events[1][1]["sources"]
    assert "".join(data["text"] for name, data in events if name == "token") == events[-1][1]["text"] != ""


def test_a_websocket_brings_the_same_events(walk: Walk) -> None:
    (printed,) = walk.printed["Chat over WebSocket"]
    frames = re.findall(r"^\[(.+)\]$", printed, re.MULTILINE)
    # How much is left is told where Redis counts it in time: before the question, and after it.
    assert frames.count("limits") <= 2
    assert [frame for frame in frames if frame != "limits"] == ["ready", "turn.started", "sources", "turn.finished"]
    answer = printed.partition("[sources]")[2].partition("[turn.finished]")[0]
    assert answer.strip()


def test_a_client_of_openais_gets_an_answer_with_sources(walk: Walk) -> None:
    (printed,) = walk.printed["Ask as OpenAI's clients do"]
    (completion,) = documents_in(printed)
    (choice,) = completion["choices"]
    assert choice["message"]["content"].strip()
    assert choice["message"]["parley"]["sources"]


def test_the_terminal_shows_sources_answer_and_cost(walk: Walk) -> None:
    (printed,) = walk.printed["Chat in the terminal"]
    assert re.search(r"^\[\d\] Quick start", printed, re.MULTILINE)
    assert re.search(r"^\d+ tokens · first after \d+ ms", printed, re.MULTILINE)


def test_an_uploaded_pdf_becomes_ready_and_is_found(walk: Walk) -> None:
    upload, asked = walk.printed["Upload a PDF and ask about it"]
    assert upload.split()[-1] == "ready"
    (found,) = documents_in(asked.partition("\n[1]")[0])
    manual = [source for source in found["results"] if "vacuum cleaner" in " ".join(source["text"].split())]
    assert [(source["title"], source["page"]) for source in manual] == [("Larkspur Duo espresso machine", 9)]
    assert re.search(r"^\[\d\] Larkspur Duo espresso machine › Error codes, page 9$", asked, re.MULTILINE)


def test_the_admin_takes_the_login_that_is_shown(walk: Walk) -> None:
    (printed,) = walk.printed["Open the admin"]
    (demo,) = documents_in(printed)
    assert demo["base_url"] == walk.base_url
    assert "@" in demo["admin"]["email"]
    assert len(demo["admin"]["password"]) >= 12


def test_make_down_leaves_no_process_behind(walk: Walk) -> None:
    assert walk.printed["Test it, stop it"] == ["Parley has stopped.\n"]
    assert ours(walk.home) == []
