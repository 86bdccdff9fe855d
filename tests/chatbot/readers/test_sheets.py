"""Rows of data as Markdown that tells in every passage what its columns are."""

from __future__ import annotations

import pytest

from chatbot.chunking import split
from chatbot.extraction import Extracted, Page
from chatbot.readers.sheets import read_csv, tabulated


def test_row_500_says_what_its_columns_are() -> None:
    rows = "".join(f"{number};Dichtung {number};{number},50\n" for number in range(1, 1001))
    [(_, text)], _ = read_csv(f"Nummer;Name;Preis\n{rows}".encode())
    passages = split(Extracted([Page(None, text)], None), title="Preise")
    [about] = [passage.text for passage in passages if "| Dichtung 500 |" in passage.text]
    assert about.startswith("| Nummer | Name | Preis |\n| --- | --- | --- |\n")


def test_a_wide_row_says_it_for_each_value() -> None:
    head = [f"Measured at gauge number {number}" for number in range(40)]
    text = tabulated([head, *([str(row * 100 + column) for column in range(40)] for row in range(50))])
    passages = split(Extracted([Page(None, text)], None), title="Gauges")
    assert all("Measured at gauge number" in line for passage in passages for line in passage.text.split("\n") if line)
    assert any("Measured at gauge number 39: 4939" in passage.text for passage in passages)


@pytest.mark.parametrize(
    ("data", "head"),
    [
        (b"a,b\n1,2\n", "| a | b |"),
        (b"a;b\n1,5;2,5\n", "| a | b |"),
        (b"a\tb\n1\t2\n", "| a | b |"),
        (b"a|b\n1|2\n", "| a | b |"),
        (b'"a, or b";c\n"1, 2";3\n', "| a, or b | c |"),
        (b"only one column\nof words, now and then\nwith a comma\n", "| only one column |"),
        (b"", ""),
        (b"x\n", "| x |"),
    ],
)
def test_the_delimiter_is_told_by_the_rows(data: bytes, head: str) -> None:
    [(_, text)], _ = read_csv(data)
    assert text.split("\n")[0] == head


def test_empty_rows_and_columns_are_left_out() -> None:
    assert tabulated([["", "a", "", "b"], [], ["", "", "", ""], ["", "1", "", "2"], ["", "3"]]) == (
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 |  |"
    )
