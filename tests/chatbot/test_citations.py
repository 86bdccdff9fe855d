import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatbot.citations import MarkerFilter, cite
from chatbot.events import Source


def sources(*numbers: int) -> list[Source]:
    return [Source(n, f"chunk{n}", "document", "Manual", [], None, "text", 1.0) for n in numbers]


@pytest.mark.parametrize(
    ("text", "shown", "cited"),
    [
        ("Press it [1].", "Press it [1].", [1]),
        ("Press it[2][1].", "Press it[2][1].", [2, 1]),
        ("Press it [1, 2].", "Press it [1][2].", [1, 2]),
        ("Press it [1-3].", "Press it [1][2][3].", [1, 2, 3]),
        ("Press it [1\u20133; 1].", "Press it [1][2][3][1].", [1, 2, 3]),
        ("Press it [9].", "Press it.", []),
        ("Press it [2, 9].", "Press it [2].", [2]),
        ("Press [9] it [1-99999].", "Press it [1-99999].", []),
        ("Nothing cited.", "Nothing cited.", []),
        ("See [the manual](http://x) [a] [] [ 1 ].", "See [the manual](http://x) [a] [] [ 1 ].", []),
        ("Use `a[9]` and a[9].", "Use `a[9]` and a.", []),
        ("``a ` [9]`` [1]", "``a ` [9]`` [1]", [1]),
        ("A stray ` tick [9]\nand [1] [9]", "A stray ` tick [9]\nand [1]", [1]),
        ("So:\n```\nx[9] = [1]\n```\nDone [2]", "So:\n```\nx[9] = [1]\n```\nDone [2]", [2]),
        ("~~~\n[9]\n```\n[9]\n~~~\n[9]!", "~~~\n[9]\n```\n[9]\n~~~\n!", []),
        ("1.  Do\n    ```\n    x[9]\n    ```\n    then [3]", "1.  Do\n    ```\n    x[9]\n    ```\n    then [3]", [3]),
        ("[1", "[1", []),
        ("ends in a space ", "ends in a space ", []),
        ("[ [9]7]", "[(9)7]", []),
        ("", "", []),
    ],
)
def test_markers(text: str, shown: str, cited: list[int]) -> None:
    answer, found = cite(text, sources(1, 2, 3))
    assert answer == shown
    assert [source.n for source in found] == cited


# Mostly what markers and code are made of.
answers = st.text(alphabet="[]0123,;- `~\nab\u2013.", max_size=60) | st.text(max_size=40)


@given(answers, st.data())
@example("` [7", None)
def test_any_split_streams_what_the_whole_gives(text: str, data: st.DataObject | None) -> None:
    markers = MarkerFilter({1, 2})
    shown, rest = "", text
    while rest:
        size = data.draw(st.integers(1, len(rest))) if data else 1
        shown, rest = shown + markers.feed(rest[:size]), rest[size:]
    shown += markers.flush()
    answer, cited = cite(text, sources(1, 2))
    assert shown == answer
    assert markers.cited == [source.n for source in cited]


@given(st.text(alphabet="[]0123,;- ab.", max_size=60))
def test_no_unknown_marker_is_ever_shown(text: str) -> None:
    answer, cited = cite(text, sources(1, 2))
    assert {int(n) for n in re.findall(r"\[(\d{1,4})\]", answer)} <= {1, 2}
    assert {int(n) for n in re.findall(r"\[(\d{1,4})\]", answer)} == {source.n for source in cited}


@given(answers)
def test_citing_twice_changes_nothing(text: str) -> None:
    once, cited = cite(text, sources(1, 2))
    assert cite(once, sources(1, 2)) == (once, cited)


@given(st.text(alphabet=st.characters(exclude_characters="[]` ~")))
def test_text_without_markers_passes_at_once(text: str) -> None:
    assert MarkerFilter({1}).feed(text) == text


def test_a_run_of_code_marks_costs_its_length_only() -> None:
    # A pattern that tries every start of the run would take minutes.
    text = "`" * 1_000_000 + "x [9]"
    assert cite(text, []) == (text, [])
