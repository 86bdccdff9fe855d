from chatbot.readers.furniture import is_contents, without_furniture


def book(*, pages: int = 8, header: str = "", footer: str = "") -> dict[int, list[str]]:
    return {
        n: [header.format(n=n, label=n - 2), "", f"text {n}a", f"text {n}b.", f"text {n}c.", footer.format(label=n - 2)]
        for n in range(1, pages + 1)
    }


def body(n: int) -> list[str]:
    return [f"text {n}a", f"text {n}b.", f"text {n}c."]


def words(lines: list[str]) -> list[str]:
    return [line for line in lines if line]


def test_repeated_lines_at_the_edges_go() -> None:
    cleaned = without_furniture(book(header="The Manual", footer="Draft"), {})
    assert [words(lines) for lines in cleaned.values()] == [body(n) for n in range(1, 9)]


def test_page_numbers_go_wherever_numbering_starts() -> None:
    for footer in ("{label}", "Chapter about it {label}", "{label} Chapter about it", "Page {label} of 6"):
        cleaned = without_furniture(book(footer=footer), {})
        assert words(cleaned[7]) == body(7), footer


def test_roman_numbers_go_in_front_only() -> None:
    pages = book(pages=50)
    pages[3].append("iii")
    pages[50].append("x")
    cleaned = without_furniture(pages, {})
    assert words(cleaned[3]) == body(3)
    assert words(cleaned[50]) == [*body(50), "x"]


def test_numbers_that_number_no_pages_stay() -> None:
    pages = book()
    pages[4].append("1 2 3")
    pages[5].append("17")
    cleaned = without_furniture(pages, {})
    assert words(cleaned[4])[-1] == "1 2 3"
    assert words(cleaned[5])[-1] == "17"


def test_a_heading_stays_even_if_it_looks_like_a_label() -> None:
    pages = book(footer="{label}")
    pages[7][0] = "5 Arrays"
    assert words(without_furniture(pages, {7: ["5 Arrays"]})[7]) == ["5 Arrays", *body(7)]


def test_a_part_of_a_heading_stays_however_often_it_is_there() -> None:
    pages = book(header="CHAPTER")
    kept = without_furniture(pages, {n: [f"CHAPTER {n} About"] for n in pages})
    assert all(lines[0] == "CHAPTER" for lines in kept.values())


def test_a_title_set_large_on_every_page_goes() -> None:
    pages = book(header="The Manual")
    assert words(without_furniture(pages, {n: ["The Manual"] for n in pages})[5]) == body(5)


def test_a_table_of_contents_goes_and_a_single_line_of_dots_stays() -> None:
    entries = [
        "1 Arrays . . . . . . . 3",
        "1.1 Lists........ 4",
        "2 Graphs 5",
        "A . . . . xii",
        "B More . . . . 9",
    ]
    pages = {1: ["Contents", *entries], 2: ["Fill in . . . . . . 3", "a", "b", "e", "f"]}
    cleaned = without_furniture(pages, {})
    assert cleaned[1] == ["Contents"]
    assert cleaned[2] == pages[2]


def test_is_contents() -> None:
    assert is_contents("4.2 Factors . . . . . . . . 17")
    assert is_contents("Preface...............iii")
    assert not is_contents("Version 4.2.2")
    assert not is_contents("and so on ...")
