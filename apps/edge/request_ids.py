"""The id that ties a request's response, log lines and turn together."""

from __future__ import annotations

import re
import uuid

import structlog

_FORM = re.compile(r"[A-Za-z0-9._-]{8,64}")


def accept_request_id(offered: str | None) -> str:
    """A client's own id where it is a harmless token, else a new one; bound to the log context either way."""
    request_id = offered if offered and _FORM.fullmatch(offered) else uuid.uuid4().hex
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


def current_request_id() -> str:
    """The id bound in this context, or an empty string outside any request."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))
