"""Request bodies that are refused for their size before anybody looks into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from rest_framework.exceptions import ParseError
from rest_framework.parsers import DataAndFiles, MultiPartParser
from rest_framework.request import Request

from apps.edge.parsers import declared_length
from apps.knowledge import storage
from chatbot.errors import InvalidRequest, StorageFull

ENVELOPE_BYTES = 64 * 1024  # what a form may weigh beyond its file


def refuse_unmeasured(request: Request) -> None:
    """Raise InvalidRequest for a body of unknown length, which Django would take for an empty one."""
    if "Transfer-Encoding" in request.headers and "Content-Length" not in request.headers:
        raise InvalidRequest("Send a Content-Length: bodies of unknown length are not read.")


class UploadParser(MultiPartParser):
    """A form with a file, of which no byte is kept when the declared length is beyond the limit of what it is."""

    what, setting = "A document", "PARLEY_MAX_UPLOAD_BYTES"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> DataAndFiles[Any, Any]:
        if declared_length(parser_context) > getattr(settings, self.setting) + ENVELOPE_BYTES:
            raise storage.too_large(self.what, self.setting)
        try:
            return super().parse(stream, media_type, parser_context)
        except (SuspiciousOperation, ParseError) as error:
            raise InvalidRequest("The request's form cannot be read.") from error
        except OSError as error:  # large files come by a temporary one
            if error.errno in storage.NO_ROOM:
                raise StorageFull from error
            raise
