"""A process that reports errors to the Sentry of its first argument, with secrets wherever one could stand."""

from __future__ import annotations

import logging
import sys

import sentry_sdk
import structlog

from config.logging import configure_logging
from config.sentry import report_errors

CANARY = "canary"  # in all that may not be told


def main(dsn: str) -> None:
    configure_logging(level="INFO")
    report_errors(dsn, environment="production", release="1.2.3")
    structlog.contextvars.bind_contextvars(tenant="acme", request_id="request-1", path=f"/share/{CANARY}")
    log = structlog.get_logger("apps.some")
    sentry_sdk.add_breadcrumb(message=CANARY)
    sentry_sdk.set_extra("body", CANARY)
    sentry_sdk.set_user({"email": f"{CANARY}@acme.com"})
    log.info("request.finished", question=CANARY)
    question = CANARY  # a local variable
    try:
        int(question)
    except ValueError:
        log.exception("request.failed", question=question)
    logging.getLogger("celery.worker").error("Task %s raised", question)
    logging.getLogger("asyncio").error(f"Task <{question}> was never retrieved")  # noqa: G004 - as asyncio does
    sentry_sdk.flush(timeout=30)


if __name__ == "__main__":
    main(sys.argv[1])
