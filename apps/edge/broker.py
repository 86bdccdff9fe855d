"""Sends tasks to the workers from any process, without waiting for a broker that is gone or hangs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from amqp.exceptions import AMQPError
from celery import Celery
from kombu.exceptions import OperationalError

from apps.edge import tracing

log = structlog.get_logger(__name__)

# Sending needs the broker's address only; config.celery is the workers' application, with settings of theirs.
_sender = Celery(
    "parley-sender",
    set_as_current=False,
    changes={
        "broker_transport_options": {
            # As Redis calls them.
            "socket_timeout": 1.0,
            "socket_connect_timeout": 1.0,
            # As RabbitMQ does. It is to say that it has a message, or nobody would notice that it hangs.
            "connect_timeout": 1.0,
            "read_timeout": 1.0,
            "write_timeout": 1.0,
            "confirm_publish": True,
        }
    },
)
_sender.config_from_object("django.conf:settings", namespace="CELERY")
_RETRIES = {"max_retries": 1, "interval_start": 0, "interval_max": 0.2}


def send(
    task: str,
    *arguments: str | int,
    expires: float,
    queue: str | None = None,
    headers: Mapping[str, bool] | None = None,
) -> bool:
    """Send a task, forgotten after `expires` seconds; by its route where no queue is named. False where the broker
    does not take it: whoever sends has rows that say what is to be done, and a beat that looks for them.

    headers: the task finds them in its request; a worker of the release before does not look for them.
    """
    how: Any = {"expires": expires, "queue": queue, "retry_policy": _RETRIES}
    try:
        with tracing.span(f"send {task}", "PRODUCER", messaging__system="celery", messaging__destination__name=queue):
            _sender.send_task(task, args=list(arguments), headers={**tracing.headers(), **(headers or {})}, **how)
    except (OperationalError, AMQPError) as error:  # the latter where RabbitMQ does not let us in
        log.warning("task.not_sent", task=task, error=type(error).__name__)
        return False
    return True
