"""Passages that stand next to each other become one, and nothing is lost or told twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatbot.events import Source
from chatbot.neighbours import MOST, Placed, joined


def placed(position: int, text: str = "", document: str = "d", heading: list[str] | None = None, n: int = 1) -> Placed:
    chunk = f"{document}{position}"
    source = Source(n, chunk, document, "Title", heading or [], position, text or f"Text {position}.", 1 / n)
    return Placed(source, position)


def test_neighbours_are_read_in_their_order_at_the_better_ones_place() -> None:
    found = joined([placed(7, document="e"), placed(4), placed(9), placed(3)])
    assert [source.text for source in found] == ["Text 7.", "Text 3.\n\nText 4.", "Text 9."]
    assert [source.n for source in found] == [1, 2, 3]
    assert (found[1].chunk, found[1].page) == ("d4", 3)


def test_what_splitting_repeated_is_told_once() -> None:
    (source,) = joined([placed(1, "Close the valve. Then wait."), placed(2, "Then wait. Open it.")])
    assert source.text == "Close the valve. Then wait. Open it."


def test_the_headings_that_they_do_not_share_stand_above_each() -> None:
    (source,) = joined([placed(1, heading=["Pump", "Seal"]), placed(2, heading=["Pump", "Rotor"])])
    assert source.heading == ["Pump"]
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
