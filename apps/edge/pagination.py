"""Lists are pages by cursor: `{"results", "next", "previous"}`, stable while rows are added."""

from __future__ import annotations

import datetime

from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request


class ByCursor(CursorPagination):
    """Every `ordering` is by a point in time."""

    ordering = "-created"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Raises NotFound, too, for a cursor that somebody made up: PostgreSQL would fail on what is no time."""
        cursor = super().decode_cursor(request)
        if cursor is None or cursor.position is None:
            return cursor
        try:
            moment = datetime.datetime.fromisoformat(str(cursor.position)).astimezone(datetime.UTC)
        except (ValueError, OverflowError) as error:
            raise NotFound from error
        return cursor._replace(position=str(moment))  # type: ignore[arg-type]
