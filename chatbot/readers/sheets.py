"""Tables of data as Markdown: the sheets of Excel files, CSV and TSV. Every passage of them tells its columns."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from kreuzberg import ExtractionConfig, KreuzbergError, extract_bytes_sync

from chatbot import charsets, formats, markdown
from chatbot.readers import Pages, Unreadable, archive, office

# A table is written with its head, which the passages cut from it repeat. Where head and row would fill a passage by
# themselves, each value stands in a line of its own under the name of its column.
WIDE = 400  # characters of head and longest row together

_SAMPLE = 50  # rows by which a file's delimiter is told
_DELIMITERS = ",;\t|"
_AGREEING = 0.75  # of those rows: the last may be cut short, others lack a value
_MIDNIGHT = re.compile(r"\A(\d{4}-\d\d-\d\d) 00:00:00\Z")
_LONG_FRACTION = re.compile(r"-?\d+\.\d{12,}")
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"

Rows = Iterable[Sequence[str]]


def read_xlsx(data: bytes) -> tuple[Pages, str | None]:
    """A page without number for each sheet that is shown and holds anything; its name is the heading."""
    parts = archive.text_parts(data)
    hidden = set(_hidden(parts))
    try:
        result = extract_bytes_sync(archive.packed(parts), formats.XLSX, config=ExtractionConfig(use_cache=False))
    except KreuzbergError as e:
        raise Unreadable(office.DAMAGED) from e
    names = result.metadata.get("sheet_names") or []
    pages: Pages = []
    for sheet in result.tables:
        name = names[sheet.page_number - 1]
        text = tabulated([_shown(cell) for cell in row] for row in sheet.cells)
        if text and name not in hidden:
            pages.append((None, f"## {' '.join(name.split())}\n\n{text}"))
    return pages, office.title_of(parts)


def _shown(cell: str) -> str:
    """A date without the time that it has not, and a number with the 15 digits that Excel shows at most."""
    if _LONG_FRACTION.fullmatch(cell):
        return f"{float(cell):.15g}"
    return _MIDNIGHT.sub(r"\1", cell)


def _hidden(parts: dict[str, bytes]) -> Iterator[str]:
    name = next((name for name in parts if re.fullmatch(r"xl/workbook\d*\.xml", name)), "")
    for sheet in office.parsed(parts, name).iterfind(f"{_SHEET}sheets/{_SHEET}sheet"):
        if sheet.get("state", "visible") != "visible":
            yield sheet.get("name", "")


def read_csv(data: bytes) -> tuple[Pages, str | None]:
    text = charsets.decoded(data).replace("\x00", "")
    return [(None, tabulated(_rows(text, _delimiter(text))))], None


def read_tsv(data: bytes) -> tuple[Pages, str | None]:
    return [(None, tabulated(_rows(charsets.decoded(data).replace("\x00", ""), "\t")))], None


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(sys.maxsize)
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    except csv.Error as e:
        raise Unreadable(f"The file is damaged: {e}.") from e


def _delimiter(text: str) -> str:
    """The one that cuts the first rows into the most columns, where they agree; else one that no text has."""

    def columns(delimiter: str) -> int:
        widths = [len(row) for row in islice(_rows(text, delimiter), _SAMPLE) if row]
        usual = max(set(widths), key=widths.count, default=1)
        return usual if widths.count(usual) >= _AGREEING * len(widths) else 1

    best = max(_DELIMITERS, key=columns)
    return best if columns(best) > 1 else "\x1f"


def tabulated(rows: Rows) -> str:
    """Rows as Markdown: a title above the table as text, then a table with a head, or where that is too wide a line
    for each value. Empty for rows without any text.
    """
    filled = [[" ".join(cell.split()) for cell in row] for row in rows if any(map(str.strip, row))]
    width = max(map(len, filled), default=0)
    used = [column for column in range(width) if any(column < len(row) and row[column] for row in filled)]
    table = [[row[column] if column < len(row) else "" for column in used] for row in filled]
    above: list[str] = []
    while len(used) > 1 and len(table) > 1 and sum(map(bool, table[0])) == 1:
        above.append(markdown.escape("".join(table.pop(0))))
    sizes = [sum(map(len, row)) + 3 * len(row) for row in table]
    if len(table) > 1 and len(used) > 1 and sizes[0] + max(sizes[1:]) > WIDE:
        return "\n\n".join([*above, *map("\n".join, _records(table))])
    return "\n\n".join([*above, *filter(None, [markdown.table(table)])])


def _records(table: Rows) -> Iterator[list[str]]:
    """Each row as "column: value" lines."""
    head, *rows = table
    for row in rows:
        yield [
            markdown.escape(f"{name}: {value}" if name else value)
            for name, value in zip(head, row, strict=True)
            if value
        ]
