"""What is reported to Sentry: which error, where in the code, at which tenant; never what anybody wrote, nor a secret.

An event is made anew of what may be told. Leaving out what may not would miss what the next release of the SDK adds.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import structlog

from config.env import refuse

# Of an event; those of a frame are of our code.
_TOLD: Final = ("event_id", "timestamp", "level", "platform", "sdk", "release", "environment", "logger", "transaction")
_TAGS: Final = ("tenant", "request_id", "turn", "document")


def report_errors(dsn: str, *, environment: str, release: str) -> None:
    """Send what is logged as an error, and what ends a thread or the process."""
    import sentry_sdk  # noqa: PLC0415 - a quarter of a second that most processes need not spend
    from sentry_sdk.utils import BadDsn  # noqa: PLC0415

    try:
        sentry_sdk.init(
            dsn=dsn,
            environment=environment,
            release=f"parley@{release}",
            send_default_pii=False,
            include_local_variables=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            # Those of Django, Redis or OpenAI watch what goes through them. Errors of views and tasks are logged.
            auto_enabling_integrations=False,
            before_send=scrubbed,
        )
    except BadDsn:
        refuse("SENTRY_DSN is not an address that Sentry gave: https://key@host/project.")


def scrubbed(event: Any, hint: dict[str, Any]) -> Any:
    """The event without what people wrote: an exception says its type and place, not its sentence, which may quote."""
    told = {name: event[name] for name in _TOLD if name in event}
    bound = structlog.contextvars.get_contextvars()
    told["tags"] = {name: str(bound[name]) for name in _TAGS if bound.get(name)}
    if record := hint.get("log_record"):
        told["logentry"] = {"message": _message(record)}
    values = event.get("exception", {}).get("values", ())
    told["exception"] = {"values": [_exception(value) for value in values]}
    return told


def _message(record: logging.LogRecord) -> str:
    """Our own lines are dictionaries of facts; what others put into a sentence, nobody knows."""
    return str(record.msg.get("event", "")) if isinstance(record.msg, dict) else record.name


def _exception(value: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {
        name: value[name] for name in ("type", "module", "stacktrace", "mechanism") if name in value
    }
    if mechanism := kept.get("mechanism"):
        kept["mechanism"] = {name: mechanism[name] for name in ("type", "handled") if name in mechanism}
    return kept
