"""Lists are pages by cursor: `{"results", "next", "previous"}`, stable while rows are added."""

from __future__ import annotations

from rest_framework.pagination import CursorPagination


class ByCursor(CursorPagination):
    ordering = "-created"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
