"""By what a search is narrowed: tags, source and date of documents, and the fields that their collection declares."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass, field
from typing import Any

from apps.knowledge.models import FILTERS, MOST_TAGS, TAG_CHARS, URL_CHARS, Collection
from chatbot.errors import InvalidRequest

VALUE_CHARS = 200

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Filters:
    """A document is searched where all of these hold: it has each tag, its file has this name or its address begins
    with it, it was added on or after a day and before another (UTC), and its fields have these values."""

    tags: tuple[str, ...] = ()
    source: str | None = None
    after: datetime.date | None = None
    before: datetime.date | None = None
    fields: dict[str, Value] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self != EVERYTHING


EVERYTHING = Filters()


def read_filters(collection: Collection, asked: dict[str, Any]) -> Filters:
    """Raises InvalidRequest, which for an unknown key names the allowed ones."""
    allowed = [*FILTERS, *collection.fields]
    if unknown := [key for key in asked if key not in allowed]:
        raise _refusal(f"There is no {unknown[0][:40]!r} to filter by. Allowed are {', '.join(allowed)}.")
    return Filters(
        tags=tuple(read_tags(asked.get("tags", []), "filter")),
        source=_source(asked["source"]) if "source" in asked else None,
        after=_day(asked, "after"),
        before=_day(asked, "before"),
        fields=read_fields(collection, {key: value for key, value in asked.items() if key not in FILTERS}, "filter"),
    )


def read_tags(tags: Any, name: str) -> list[str]:
    """Raises InvalidRequest for the field `name`."""
    if not isinstance(tags, list) or len(tags) > MOST_TAGS or not all(_is_text(tag, TAG_CHARS) for tag in tags):
        raise _refusal(f"tags is a list of up to {MOST_TAGS} texts of 1 to {TAG_CHARS} characters.", name)
    return list(dict.fromkeys(tags))


def read_fields(collection: Collection, values: Any, name: str) -> dict[str, Value]:
    """Values of the collection's own fields. Raises InvalidRequest for the field `name`."""
    if not isinstance(values, dict):
        raise _refusal("This should be an object of names and values.", name)
    for key, value in values.items():
        if key not in collection.fields:
            allowed = ", ".join(collection.fields) or "none yet"
            raise _refusal(f"The collection declares no field {key[:40]!r}. It declares {allowed}.", name)
        if not _is_number(value) and not _is_text(value, VALUE_CHARS):
            raise _refusal(f"{key} should be a number, true, false, or a text of 1 to {VALUE_CHARS} characters.", name)
    return values


def _source(value: Any) -> str:
    if not _is_text(value, URL_CHARS):
        raise _refusal("source is the name of a file, or the beginning of an address.")
    return str(value)


def _day(asked: dict[str, Any], key: str) -> datetime.date | None:
    if key not in asked:
        return None
    try:
        return datetime.date.fromisoformat(asked[key])
    except (TypeError, ValueError) as error:
        raise _refusal(f"{key} is a day, like 2026-01-31.") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: Any, longest: int) -> bool:
    # PostgreSQL stores no NUL, and no half of a surrogate pair is UTF-8.
    return isinstance(value, str) and 0 < len(value) <= longest and "\0" not in value and not _has_surrogate(value)


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _refusal(sentence: str, name: str = "filter") -> InvalidRequest:
    return InvalidRequest(fields={name: sentence})
