"""A PDF's pages as Markdown: headings found by their type size, running headers and tables of contents left out.

Runs in the sandboxed child of chatbot.extraction only. kreuzberg reads the file twice: its plain text keeps lines and
code as they stand on the page, its document structure knows which lines are set larger; the two are matched here.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from kreuzberg import ExtractionConfig, KreuzbergError, PageConfig, extract_bytes_sync

from chatbot import markdown
from chatbot.readers import Pages, Unreadable, portions, worthy_title
from chatbot.readers.furniture import is_contents, key, label_offset, without_furniture
from chatbot.readers.leftward import Restore, is_leftward, restorers

# Structure takes 10 to 15 ms a page, text 4: beyond this many pages a document goes without headings rather than
# beyond the time it is given.
STRUCTURED_PAGES = 1000

_PAGED = PageConfig(extract_pages=True)
_PLAIN = ExtractionConfig(use_cache=False, pages=_PAGED)
_LARGER = 1.08  # times the body's type size; headings differ by a tenth or more, measuring errors stay below
_LEADING = 1.2  # distance of lines, in type sizes; the usual one, and that of headings
_LEADINGS = [_LEADING, *(1 + step / 20 for step in range(21))]  # of the body's text
_ALIKE = 0.03  # of a size: how far apart two measurements of it may lie
_FEW_LINES = 4  # longer paragraphs are often several, with gaps between them
_SHORT = 0.8  # of the page's widest lines: a sentence that ends in a shorter one ends its paragraph
_HEADING_LENGTH = 150  # characters
_HEADING_LETTERS = 2  # the single letters of an index are none
_HEADING_LINES = 5
_LABELS = frozenset({"CHAPTER", "PART", "APPENDIX"})

_NUMBERED = re.compile(
    r"(?:(?i:chapter|part|section|appendix)\s+(?:\d{1,3}|[A-Z])|\d{1,3}|[A-Z](?=\.\d))((?:\.\d{1,3})*)\.?:?\s+\S"
)
_SECTION = re.compile(r"(\d{1,3}(?:\.\d{1,3})+)\.?\s+[^\W\d_]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BULLETS = frozenset("\u00b7\u2022\u2023\u25aa\u25e6\u2013-*")
_SENTENCE_END = re.compile(r"[.:!?][\"'\u201d\u2019)\]]*\Z")


@dataclass(frozen=True, slots=True)
class _Heading:
    page: int
    level: int
    text: str
    large: bool


def warm_up() -> None:
    """Load the native PDF library, which kreuzberg unpacks on first use: afterwards no file needs to be written."""
    with suppress(Unreadable):
        _parsed(b"%PDF-1.4", ExtractionConfig(use_cache=False))
    portions.warm_up()


def read(data: bytes, tell: Callable[[int, int], None]) -> tuple[Pages, str | None]:
    """(page number from 1, Markdown) of each page, empty where it holds no text, and the document's title.

    Raises Unreadable.
    """
    pages, title = _plain(data, tell)
    restore = restorers(data, (number for number, lines in pages.items() if any(map(is_leftward, lines))))
    pages |= {number: [*map(restored, pages[number])] for number, restored in restore.items()}
    scanned = {number for number, lines in pages.items() if not lines}
    headings: list[_Heading] = []
    if len(scanned) < len(pages) <= STRUCTURED_PAGES:
        structured = ExtractionConfig(
            use_cache=False, pages=_PAGED, output_format="markdown", include_document_structure=True
        )
        headings = list(_headings(_restored(_parsed(data, structured).document["nodes"], restore), label_offset(pages)))
    by_page: dict[int, list[_Heading]] = {number: [] for number in pages}
    for heading in headings:
        by_page.setdefault(heading.page, []).append(heading)
    large = {number: [heading.text for heading in found if heading.large] for number, found in by_page.items()}
    text = without_furniture(pages, large)
    # Labels and cards repeat what a book would have as its header.
    pages = text if any(map(any, text.values())) else pages
    marked = [(number, _markdown(lines)) for number, lines in _marked_pages(pages, by_page)]
    return (
        [(number, content) for number, content in marked if content or number in scanned],
        worthy_title(title),
    )


def _plain(data: bytes, tell: Callable[[int, int], None]) -> tuple[dict[int, list[str]], object]:
    """The lines of each page by its number, and the title that the document gives itself."""
    with suppress(portions.Indivisible):
        title, total = portions.about(data)
        pages: dict[int, list[str]] = {}
        for before, portion in portions.of(data):
            tell(_with_text(pages), total)
            pages |= _lines_of(_parsed(portion, _PLAIN), before)
        tell(_with_text(pages), total)
        return pages, title
    plain = _parsed(data, _PLAIN)
    pages = _lines_of(plain, 0)
    tell(_with_text(pages), len(pages))
    return pages, plain.metadata.get("title")


def _with_text(pages: dict[int, list[str]]) -> int:
    """How many are read; the others are yet to be looked at as pictures."""
    return sum(map(bool, pages.values()))


def _lines_of(plain: Any, before: int) -> dict[int, list[str]]:
    return {before + page["page_number"]: _lines(page["content"]) for page in plain.pages}


def _parsed(data: bytes, config: ExtractionConfig) -> Any:
    try:
        return extract_bytes_sync(data, "application/pdf", config=config)
    except KreuzbergError as e:
        if "password" in str(e).lower():
            raise Unreadable("This PDF is protected by a password. Remove the password and upload it again.") from e
        raise Unreadable("This PDF is damaged and cannot be read.") from e


def _lines(text: str) -> list[str]:
    lines = [_cleaned(line).rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return lines if any(lines) else []


def _cleaned(text: str) -> str:
    """Without control characters; PDFium marks a hyphen at the end of a line with one."""
    return _CONTROL.sub("", text)


def _headings(nodes: Sequence[dict[str, Any]], offset: int | None) -> Iterator[_Heading]:
    body = _body_size(nodes)
    label: list[str] = []  # "CHAPTER", "TWO": set in lines of their own above the title, as Sphinx does
    for node in nodes:
        content = node["content"]
        if content["node_type"] != "heading" or "page" not in node:
            continue
        set_text = _unlabelled(content["text"], node["page"], offset)
        large = _height(node) / (1 + _LEADING * _breaks(set_text)) > body * _LARGER
        text = _cleaned(" ".join(set_text.split()))
        if text in _LABELS or len(label) == 1:
            label = [*label, text]
        elif label:
            yield _Heading(node["page"], 1, " ".join([*label, text]), large=True)
            label = []
        elif (large or _SECTION.match(text)) and _may_be_heading(text):
            yield _Heading(node["page"], _level(text, content["level"]), text, large)


def _unlabelled(text: str, page: int, offset: int | None) -> str:
    """Without the page's printed number, drawn before a heading and taken for its first line."""
    first, _, rest = text.partition("\n")
    return rest if offset is not None and rest and first.strip() == str(page - offset) else text


def _may_be_heading(text: str) -> bool:
    """Not a list item, the scale of a figure, an entry of the table of contents, or a paragraph."""
    letters = sum(character.isalpha() for character in text)
    scale_or_item = letters * 3 < len(text) or letters < _HEADING_LETTERS or text[0] in _BULLETS
    return len(text) <= _HEADING_LENGTH and not scale_or_item and not is_contents(text)


def _height(node: dict[str, Any]) -> float:
    """Of the box around the node's lines, in points; 0 where there is none."""
    box = node.get("bbox")
    return box["y1"] - box["y0"] if box else 0.0


def _breaks(text: str) -> int:
    return text.strip().count("\n")


def _restored(nodes: Sequence[dict[str, Any]], restore: dict[int, Restore]) -> Sequence[dict[str, Any]]:
    for node in nodes:
        if (restored := restore.get(node.get("page", 0))) and "text" in node["content"]:
            node["content"]["text"] = "\n".join(map(restored, node["content"]["text"].split("\n")))
    return nodes


def _body_size(nodes: Sequence[dict[str, Any]]) -> float:
    """The type size, in points, that most characters are set in.

    A box tells the size only together with the leading, which differs from book to book: the one at which the most
    characters come out alike is taken.
    """
    texts = [
        (_height(node), node["content"].get("text") or "")
        for node in nodes
        if node["content"]["node_type"] != "heading"
    ]
    boxes = [(height, _breaks(text), len(text)) for height, text in texts if height and text]
    boxes = [box for box in boxes if box[1] < _FEW_LINES] or boxes

    def measured(leading: float) -> tuple[int, float]:
        sized = sorted((height / (1 + leading * breaks), length) for height, breaks, length in boxes)
        body = _median(sized)
        return sum(weight for size, weight in sized if abs(size - body) <= body * _ALIKE), body

    return max(map(measured, _LEADINGS), key=itemgetter(0))[1]


def _median(weighted: Sequence[tuple[float, int]]) -> float:
    """Of values in ascending order, each counted as often as its weight says; 0 of none."""
    half = sum(weight for _, weight in weighted) / 2
    for value, weight in weighted:
        half -= weight
        if half <= 0:
            return value
    return 0.0


def _level(text: str, found: int) -> int:
    """The depth of a section number, where there is one: more telling than sizes, of which a document has few."""
    numbered = _NUMBERED.match(text)
    return min(6, 1 + numbered[1].count(".")) if numbered else found


def _marked_pages(
    pages: dict[int, list[str]], headings: dict[int, list[_Heading]]
) -> Iterator[tuple[int, list[tuple[str, int]]]]:
    """Each page's lines with their level, 0 for text. A line that carries the very section number due next is a heading
    even where its type says nothing.
    """
    last: tuple[int, ...] = ()
    for number, lines in pages.items():
        marked = []
        for text, level in _marked(lines, headings[number]):
            numbered = _SECTION.match(text)
            section = tuple(int(part) for part in numbered[1].split(".")) if numbered else ()
            is_due = (
                section and section in _due_after(last) and _may_be_heading(text) and not _SENTENCE_END.search(text)
            )
            here = level or (min(6, len(section)) if is_due else 0)
            last = section if here and section else last
            marked.append((text, here))
        yield number, marked


def _due_after(last: tuple[int, ...]) -> set[tuple[int, ...]]:
    """What may follow section 2.3: 2.3.1, 2.4. (A single number starts too many other lines.)"""
    nexts = {(*last[:depth], last[depth] + 1) for depth in range(1, len(last))}
    return {*nexts, (*last, 1)} if last else set()


def _markdown(marked: list[tuple[str, int]]) -> str:
    """A page's text, with a blank line where a paragraph seems to end."""
    lengths = [len(text) for text, level in marked if not level]
    width = statistics.quantiles(lengths, n=10)[-1] if len(lengths) > 1 else 0
    pieces: list[str] = []
    for text, level in marked:
        if level:
            pieces += ["", f"{'#' * level} {text}", ""]
            continue
        pieces.append(markdown.escape(text))
        if _SENTENCE_END.search(text) and len(text) < _SHORT * width:
            pieces.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(pieces)).strip("\n")


def _marked(lines: list[str], headings: list[_Heading]) -> Iterator[tuple[str, int]]:
    """Each line with its level, 0 for text; a heading set in several lines becomes one."""
    wanted = {key(heading.text): heading for heading in reversed(headings)}
    keys = [*map(key, lines)]
    at = 0
    while at < len(lines):
        for count in range(1, _HEADING_LINES + 1):
            heading = wanted.get("".join(keys[at : at + count]))
            if heading and lines[at].strip():
                yield heading.text, heading.level
                at += count
                break
        else:
            yield lines[at], 0
            at += 1
