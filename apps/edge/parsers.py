"""JSON bodies: refused for their size before anybody looks into them, and read as the async doors read theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import orjson
from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from chatbot.errors import PayloadTooLarge


def declared_length(context: Mapping[str, Any] | None) -> int:
    """Bytes of the body as its request declares it; servers cut off what goes beyond."""
    request: Request = (context or {})["request"]
    return int(request.META["CONTENT_LENGTH"])  # a number: without one DRF does not parse


class BoundedJSONParser(JSONParser):
    """JSON up to DATA_UPLOAD_MAX_MEMORY_SIZE, which DRF's own parser does not heed; in UTF-8, not nested beyond reason,
    and without the lone surrogates that no answer and no row can hold."""

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        if declared_length(parser_context) > (settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0):
            raise PayloadTooLarge("The request's body is too large. Send a long text as a file.")
        try:
            return orjson.loads(stream.read())
        except orjson.JSONDecodeError as error:
            raise ParseError from error
