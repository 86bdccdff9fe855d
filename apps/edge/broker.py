"""Sends tasks to the workers from any process, without waiting for a broker that is gone or hangs."""

from __future__ import annotations

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from apps.edge import tracing

log = structlog.get_logger(__name__)

# Sending needs the broker's address only; config.celery is the workers' application, with settings of theirs.
_sender = Celery(
    "parley-sender",
    set_as_current=False,
    changes={"broker_transport_options": {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}},
)
_sender.config_from_object("django.conf:settings", namespace="CELERY")
_RETRIES = {"max_retries": 1, "interval_start": 0, "interval_max": 0.2}


def send(task: str, *arguments: str | int, expires: float, queue: str | None = None) -> bool:
    """Send a task, forgotten after `expires` seconds; by its route where no queue is named. False where the broker
    does not take it: whoever sends has rows that say what is to be done, and a beat that looks for them."""
    try:
        with tracing.span(f"send {task}", "PRODUCER", messaging__system="celery", messaging__destination__name=queue):
            _sender.send_task(
                task,
                args=list(arguments),
                expires=expires,
                queue=queue,
                retry_policy=_RETRIES,
                headers=tracing.headers(),
            )
    except OperationalError as error:
        log.warning("task.not_sent", task=task, error=type(error).__name__)
        return False
    return True
