"""Passages that stand next to each other become one, and nothing is lost or told twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.chunking import split
from chatbot.events import Source
from chatbot.extraction import Extracted, Page
from chatbot.neighbours import MOST, Placed, joined


def placed(position: int, text: str = "", document: str = "d", heading: list[str] | None = None, n: int = 1) -> Placed:
    chunk = f"{document}{position}"
    source = Source(n, chunk, document, "Title", heading or [], position, text or f"Text {position}.", 1 / n)
    return Placed(source, position)


def test_neighbours_are_read_in_their_order_at_the_better_ones_place() -> None:
    found = joined([placed(7, document="e"), placed(4), placed(9), placed(3)])
    assert [source.text for source in found] == ["Text 7.", "Text 3.\n\nText 4.", "Text 9."]
    assert [source.n for source in found] == [1, 2, 3]
    assert (found[1].chunk, found[1].page) == ("d4", 4)


def test_what_splitting_repeated_is_told_once() -> None:
    (source,) = joined([placed(1, "Close it. Then wait for a minute."), placed(2, "Then wait for a minute. Open it.")])
    assert source.text == "Close it. Then wait for a minute. Open it."


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("It is full stop", "pumps run."),
        ("The cat", "cat litter."),
        ("x" * 30, "x" * 40),
        ("on an island of rain", "nd of rain"),
    ],
)
def test_what_is_alike_by_chance_is_no_repetition(before: str, after: str) -> None:
    (source,) = joined([placed(1, before), placed(2, after)])
    assert source.text == f"{before}\n\n{after}"


def test_a_table_that_was_cut_is_one_again() -> None:
    header = "| name | price |\n|---|---|\n"
    rows = [f"| item {n} with a name of some length, as items have | {n} |" for n in range(60)]
    pieces = split(Extracted([Page(1, header + "\n".join(rows))], None), title="Prices")
    assert len(pieces) > 2
    (source,) = joined([placed(piece.position, piece.text, heading=list(piece.heading)) for piece in pieces[:3]])
    lines = source.text.splitlines()
    assert lines == [*header.splitlines(), *rows[: len(lines) - 2]]


def test_prose_that_was_cut_is_one_again() -> None:
    text = " ".join(f"Sentence {n} tells of pump {n * 7 % 100}." for n in range(200))
    pieces = split(Extracted([Page(1, text)], None), title="Pumps")
    (source,) = joined([placed(piece.position, piece.text, heading=list(piece.heading)) for piece in pieces[:3]])
    assert text.startswith(source.text)


def test_a_part_of_a_shorter_heading_stands_below_the_rest() -> None:
    (source,) = joined([placed(1, heading=["A", "B"]), placed(2, heading=["A"])])
    assert (source.heading, source.text) == (["A", "B"], "## B\n\nText 1.\n\nText 2.")


def test_the_headings_that_they_do_not_share_stand_above_each() -> None:
    (source,) = joined([placed(2, heading=["Pump", "Rotor"]), placed(1, heading=["Pump", "Seal"])])
    assert source.heading == ["Pump", "Rotor"]
    assert source.text == "## Seal\n\nText 1.\n\n## Rotor\n\nText 2."


def test_no_passage_gets_longer_than_a_few() -> None:
    found = joined([placed(position) for position in range(7)])
    assert [source.text.count("Text") for source in found] == [MOST, MOST, 1]


@given(st.lists(st.tuples(st.sampled_from("de"), st.integers(0, 12)), unique=True))
def test_each_passage_is_in_just_one_and_the_best_stays_first(places: list[tuple[str, int]]) -> None:
    passages = [placed(position, document=document) for document, position in places]
    found = joined(passages)
    told = [line for source in found for line in source.text.split("\n\n")]
    assert sorted(told) == sorted(passage.source.text for passage in passages)
    assert [source.n for source in found] == list(range(1, len(found) + 1))
    if passages:
        assert passages[0].source.text in found[0].text
