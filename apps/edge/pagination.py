"""Lists are pages by cursor: `{"results", "next", "previous"}`, stable while rows are added."""

from __future__ import annotations

import datetime
from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request

from chatbot.errors import InvalidRequest


class ByCursor(CursorPagination):
    """Every `ordering` is by a point in time."""

    ordering = "-created"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        """Raises InvalidRequest for what is no number, which would otherwise be taken for none at all."""
        given = request.query_params.get(self.page_size_query_param)
        if given is None:
            return self.page_size
        if not (given.isascii() and given.isdigit() and given.strip("0")):
            raise InvalidRequest(fields={"limit": f"Give a number from 1 to {self.max_page_size}."})
        return self.max_page_size if len(given) > 9 else min(int(given), self.max_page_size)

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

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        limit = f"Rows of a page: {self.page_size} unless told, {self.max_page_size} at most."
        return [
            {
                "name": self.cursor_query_param,
                "in": "query",
                "description": "A place in the list, from an earlier page's `next` or `previous`.",
                "schema": {"type": "string"},
            },
            {
                "name": self.page_size_query_param,
                "in": "query",
                "description": limit,
                "schema": {"type": "integer", "minimum": 1, "default": self.page_size},
            },
        ]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "next": {**link, "description": "The address of the next page; null on the last one."},
                "previous": {**link, "description": "The address of the page before; null on the first one."},
                "results": schema,
            },
        }
