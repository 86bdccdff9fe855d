import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.markdown import Line, escape, first_heading, lines


def headings(text: str) -> list[tuple[int, str]]:
    return [(line.level, line.text) for line in lines(text) if line.level]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# One\n## Two ##\n   ### Three", [(1, "One"), (2, "Two"), (3, "Three")]),
        ("#hash\n#\n####### seven\n    # indented code", []),
        ("C# is #1\n# C#", [(1, "C#")]),
        ("```sh\n# a comment\n```\n# Real", [(1, "Real")]),
        ("~~~\n```\n# still code\n~~~\n# Real", [(1, "Real")]),
        ("````\n```\n# still code\n````\n# Real", [(1, "Real")]),
        ("Title\n=====\n\nPart\n---\ntext", [(1, "Title"), (2, "Part")]),
        ("a paragraph\nof two lines\n---\n", []),
        ("- item\n---\n| a | b |\n|---|---|\n> quote\n---", []),
        ("---\ntitle: x\n---\n# Real", [(1, "Real")]),
        ("---\n\nA rule, not a front matter\n", []),
        ("\\# not a heading", []),
    ],
)
def test_headings(text: str, found: list[tuple[int, str]]) -> None:
    assert headings(text) == found


def test_code_keeps_its_backslashes() -> None:
    assert list(lines("```\n\\# x\n```\n\\# x")) == [Line("```"), Line("\\# x"), Line("```"), Line("# x")]


def test_first_heading() -> None:
    assert first_heading("## Two\n# One\n# Other") == "One"
    assert first_heading("no heading") is None


markup = st.text(alphabet="#`~=- \\\nab\t") | st.text()


@given(markup)
def test_escaped_text_reads_back_without_a_heading(text: str) -> None:
    read = list(lines(escape(text)))
    assert all(line.level == 0 for line in read)
    assert "\n".join(line.text for line in read) == text


@given(markup)
def test_every_word_is_in_some_line(text: str) -> None:
    read = "".join(line.text for line in lines(text))
    assert sum(character.isalpha() for character in read) == sum(character.isalpha() for character in text)


@pytest.mark.parametrize(
    "line", ["# " + " " * 1_000_000 + "x #y", "#" * 1_000_000, "-" * 1_000_000 + "x", " " * 1_000_000]
)
def test_a_line_of_megabytes_costs_its_length_only(line: str) -> None:
    assert len(list(lines(f"{line}\n{line}"))) == 2
