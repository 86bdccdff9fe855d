import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatbot.chunking import MAX_TOKENS, split
from chatbot.extraction import Extracted, Page
from chatbot.tokens import estimate

LONG = "This sentence is here to fill the section with a few words. " * 40


def markdown(*texts: str) -> Extracted:
    if len(texts) == 1:
        return Extracted([Page(None, texts[0])], None)
    return Extracted([Page(number, text) for number, text in enumerate(texts, start=1)], None)


def test_passages_know_where_they_stand() -> None:
    passages = split(markdown(f"# Guide\n\n## Setup\n\n{LONG}\n\n## Use\n\n{LONG}"), title="Manual")
    assert {passage.heading for passage in passages} == {("Guide", "Setup"), ("Guide", "Use")}
    assert [passage.position for passage in passages] == list(range(len(passages)))
    assert not any("#" in passage.text for passage in passages)


def test_the_title_is_not_repeated_in_the_heading() -> None:
    assert split(markdown("# Manual\n\n## Setup\n\nPress."), title="Manual")[0].heading == ("Setup",)


def test_short_sections_share_a_passage_under_their_common_heading() -> None:
    (passage,) = split(markdown("# Errors\n\n## E1\n\nNo paper.\n\n## E2\n\nNo ink."), title="Manual")
    assert passage.heading == ("Errors",)
    assert passage.text == "## E1\n\nNo paper.\n\n## E2\n\nNo ink."


def test_no_passage_crosses_an_outermost_heading() -> None:
    passages = split(markdown("# A\n\none\n\n# B\n\ntwo"), title="Manual")
    assert [(passage.heading, passage.text) for passage in passages] == [(("A",), "one"), (("B",), "two")]


def test_a_comment_in_code_is_no_heading() -> None:
    (passage,) = split(markdown("# A\n\n```sh\n# install\nmake up\n```"), title="Manual")
    assert passage.heading == ("A",)
    assert passage.text == "```sh\n# install\nmake up\n```"


@pytest.mark.parametrize("block", ["```\n" + "x = 1\n" * 20 + "```", "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 12])
def test_a_block_that_fits_stays_whole(block: str) -> None:
    passages = split(markdown(f"# A\n\n{LONG}\n\n{block}\n\n{LONG}"), title="Manual")
    assert any(block.strip() in passage.text for passage in passages)


CODE = "".join(f'  "number {n}": "of the lines in this block",\n' for n in range(16))
ROW = "| a cell | another |\n"


@pytest.mark.parametrize(
    "text",
    [
        *(f"{LONG}\n\n```json\n{{\n{CODE * times}}}\n```\n\n{LONG}" for times in (1, 2, 3)),
        f"{LONG}\n\n~~~\n" + "one statement of many\n" * 100 + "~~~",
        "```\n" + "word " * 2000 + "\n```",
        f"| a | b |\n|---|---|\n{ROW * 20}\n\n---\n\n| a | b |\n|---|---|\n{ROW * 20}",
        f"{LONG}\n\n***\n\n{'-' * 60}\n\n---\n\n{LONG}",
    ],
)
@pytest.mark.parametrize("max_tokens", [*range(150, 250, 7), 250])
def test_no_passage_is_markup_alone(text: str, max_tokens: int) -> None:
    passages = split(markdown(f"# A\n\n{text}"), title="Manual", max_tokens=max_tokens)
    assert max(passage.tokens for passage in passages) <= max_tokens
    for passage in passages:
        lines = [line for line in passage.text.splitlines() if not line.startswith(("```", "~~~"))]
        assert any(character.isalnum() for line in lines for character in line), passage.text


def test_the_page_is_that_of_the_first_character() -> None:
    passages = split(markdown(f"# A\n\n{LONG}", "carried over\n", f"# B\n\n{LONG}"), title="Manual")
    assert [page for page, _ in itertools.groupby(passage.page for passage in passages if passage.heading)] == [1, 3]
    assert next(passage for passage in passages if passage.heading == ("B",)).page == 3


def test_text_that_starts_on_a_later_page_says_so() -> None:
    passages = split(markdown("# A", "", LONG), title="Manual")
    assert {passage.page for passage in passages} == {3}


def test_a_heading_without_text_is_still_found() -> None:
    (passage,) = split(markdown("# Only"), title="Manual")
    assert (passage.text, passage.heading) == ("# Only", ("Only",))


def test_digest_changes_with_title_heading_and_text_only() -> None:
    def digests(text: str, title: str = "Manual") -> list[str]:
        return [passage.digest for passage in split(markdown(text), title=title)]

    base = digests("# A\n\none")
    assert base == digests("# A\n\none")
    assert len(base[0]) == 64
    assert base != digests("# A\n\ntwo")
    assert base != digests("# B\n\none")
    assert base != digests("# A\n\none", title="Other")
    # What comes before leaves a passage's digest alone.
    assert base[0] in digests("# 0\n\nnew\n\n# A\n\none")


def test_nothing_gives_nothing() -> None:
    assert split(markdown(" \n\n"), title="Manual") == []


documents = st.lists(
    st.sampled_from(
        ["# A", "## B", "### C", "# ", "word " * 30, "a word.", "", "```", "- item", "| a | b |", "|---|---|", "\\# x"]
    )
    | st.text(max_size=60),
    max_size=40,
).map("\n".join)


@example([" 00\x80\x80\x80\n|---|---|"], 20)  # an indented head of a table, as long as a passage may be
@given(st.lists(documents, min_size=1, max_size=3), st.integers(20, 300))
def test_nothing_is_lost_and_nothing_is_too_long(pages: list[str], max_tokens: int) -> None:
    passages = split(markdown(*pages), title="\x00", max_tokens=max_tokens, overlap_tokens=max_tokens // 10)
    kept = {character for passage in passages for character in (passage.text, *passage.heading)}
    there = set("".join(kept))
    missing = {character for page in pages for character in page if not character.isspace()} - there
    assert missing <= set("#=-\\")
    assert all(passage.text.strip() for passage in passages)
    assert all(passage.tokens == estimate(passage.text) <= max_tokens for passage in passages)


@given(st.lists(st.integers(0, 999), min_size=1, max_size=300), st.data())
def test_every_word_is_in_a_passage_in_order(numbers: list[int], data: st.DataObject) -> None:
    between = st.sampled_from([" ", "\n", "\n\n", ".\n\n# H\n\n", "\n## K\n"])
    text = "".join(f"w{number}{data.draw(between)}" for number in range(len(numbers)))
    passages = split(markdown(text), title="Manual", max_tokens=40, overlap_tokens=0)
    words = [word.strip(".") for passage in passages for word in passage.text.split() if word.startswith("w")]
    assert words == [f"w{number}" for number in range(len(numbers))]


@pytest.mark.parametrize("text", ["a" * 50_000, "`" * 50_000, "| a |\n" + "-" * 50_000 + "x", "[" * 50_000])
def test_text_without_a_break_is_cut_all_the_same(text: str) -> None:
    passages = split(markdown(text), title="Manual", overlap_tokens=0)
    assert max(passage.tokens for passage in passages) <= 250
    assert sum(passage.text.count(text[-1]) for passage in passages) == text.rstrip().count(text[-1])


class TestLongTables:
    def test_each_piece_begins_with_the_head(self) -> None:
        head = "| Part number | Price |\n| --- | --- |\n"
        rows = "".join(f"| P-{number} | {number * 3} euros and some cents |\n" for number in range(600))
        passages = split(Extracted([Page(None, f"# Parts\n\nOur prices.\n\n{head}{rows}")], None), title="List")
        assert len(passages) > 10
        for passage in passages[1:]:
            assert passage.text.startswith(head + "| P-")
            assert passage.tokens <= MAX_TOKENS
        assert "".join(passage.text.replace(head, "") + "\n" for passage in passages).endswith(rows)

    def test_a_head_as_long_as_a_passage_is_not_repeated(self) -> None:
        head = "|" + " a long name of a column |" * 60 + "\n|" + " --- |" * 60 + "\n"
        text = head + "".join(f"| value {number} |\n" for number in range(300))
        passages = split(Extracted([Page(None, text)], None), title="List")
        assert sum("a long name" in passage.text for passage in passages) < 10
        assert all(passage.tokens <= MAX_TOKENS for passage in passages)
        assert "value 299" in passages[-1].text
