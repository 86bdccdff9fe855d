"""Usage as a table of text: for terminals, and for spreadsheets, which no text in it can make calculate."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from apps.usage.report_statement import BILLS

# More than a page shows; spreadsheets end at about a million rows.
MAX_ROWS = 100_000
_SUMS = ("requests", "unsettled", *BILLS, "prompt_tokens", "completion_tokens", "total_tokens", "pages", "cost")
# What begins a formula in one spreadsheet or another, the wide forms included, and what makes one begin a new cell.
_FORMULA = tuple("=+-@＝＋－＠\t\r\n")


def head(by: str, tenants: Mapping[str, str] | None = None) -> list[str]:
    return [by, "name", *(["tenant"] if tenants is not None else []), *_SUMS]


def table(groups: Iterable[dict[str, Any]], tenants: Mapping[str, str] | None = None) -> Iterator[list[str]]:
    """A line for each group, below head(). Money has no currency, for Parley knows of none.

    tenants: the names, by id, of those that the groups are of, where there are several.
    """
    for group in groups:
        sums = group | group["bills"]
        numbers = (f"{sums[name]:f}" if name == "cost" else str(sums[name]) for name in _SUMS)
        whose = [tenants.get(str(group["tenant_id"]), "")] if tenants is not None else []
        yield [group["key"] or "", group["name"] or "", *whose, *numbers]


def csv_of(lines: Iterable[Sequence[str]]) -> str:
    """RFC 4180, UTF-8."""
    written = io.StringIO()
    csv.writer(written).writerows([cell(text) for text in line] for line in lines)
    return written.getvalue()


def cell(text: str) -> str:
    """The text, marked as such where a spreadsheet would take it for a formula: people name keys, and end users and
    models are named by others."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
