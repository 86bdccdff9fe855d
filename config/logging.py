"""One JSON object a line on stderr, each with what is bound to its context: request id, tenant, turn."""

from __future__ import annotations

import logging

import structlog

from apps.edge.lines import Lines

STDERR = 2  # the descriptor itself: whoever replaces sys.stderr does not get the log
# They tell of each request or task, which is in our own log.
CHATTY = ("daphne", "uvicorn", "uvicorn.access", "httpx", "httpx2", "aiohttp.access", "axes", "celery.app.trace")
# At DEBUG they write down what a page was made of and what was stored, the secrets that it shows once among it.
TELLING = ("django.template", "django.db.backends")


def configure_logging(*, level: str) -> None:
    """Route structlog and the standard library's loggers through one JSON renderer."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = Lines(STDERR)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # No local variables: they hold questions, answers and keys.
                structlog.processors.ExceptionRenderer(
                    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
                ),
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)  # by themselves they are written to stderr, and waited for
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for telling in TELLING:
        logging.getLogger(telling).setLevel(logging.INFO)
    # Scanners send made-up Host headers all day; the 400 that they get is in the request log.
    logging.getLogger("django.security.DisallowedHost").setLevel(logging.CRITICAL)
