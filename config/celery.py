"""The worker's and beat's application: `celery -A config.celery worker`."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Bulk inserts of passages may take longer than a request's statement; nobody waits for them.
os.environ.setdefault("PARLEY_SQL_TIMEOUT_MS", "30000")

from typing import Any

from celery import Celery, Task, signals
from django.conf import settings
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from apps.edge import alive, ending, lines, tracing


class TracedTask(Task):  # type: ignore[type-arg]  # at run time it takes none
    """Goes on with the trace of whoever sent it."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        sent = {"traceparent": parent} if (parent := self.request.get("traceparent")) else None
        with tracing.span(f"run {self.name}", "CONSUMER", of=sent, messaging__system="celery"):
            return self.run(*args, **kwargs)


app = Celery("parley", task_cls=TracedTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["apps.knowledge.crawl", "apps.knowledge.second"])


@signals.worker_ready.connect
def tell_metrics(**_: Any) -> None:
    """Serve what the worker's processes have counted, for as long as it runs."""
    if settings.PARLEY_WORKER_METRICS_ADDRESS:
        host, port = settings.PARLEY_WORKER_METRICS_ADDRESS
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        start_http_server(port, addr=host, registry=registry)


@signals.worker_shutting_down.connect
def tell_its_processes(**_: Any) -> None:
    ending.begin()


@signals.beat_init.connect
def tell_that_beat_lives(**_: Any) -> None:
    """Now, and whenever it has sent something."""
    alive.note(alive.BEAT)
    signals.after_task_publish.connect(lambda **_: alive.note(alive.BEAT), weak=False)


@signals.worker_process_shutdown.connect
def end(pid: int, **_: Any) -> None:
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
    tracing.flush()
    lines.flush()
