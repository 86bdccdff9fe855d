"""Tells an address of the operators, where the settings name one, what happened to the platform itself.

What happens to a model server is no tenant's, and it happens on event loops that must not wait for a database. So a
message is no row: it lives in the broker, is tried for a quarter of an hour, and is then lost. What it tells stands in
the log and counts in the metrics as well. Who has rows of what is to be told hands each message over by hand_over().
"""

from __future__ import annotations

import datetime as dt
import queue
import threading
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
import structlog
from django.conf import settings
from django.core.cache import cache
from django.utils import timezone
from django_redis.exceptions import ConnectionInterrupted

from apps.edge import broker
from apps.webhooks import sending

log = structlog.get_logger(__name__)

TELL_TASK = "webhooks.tell_operators"
# Seconds to the next attempt, by how many there were. Each below the broker's visibility timeout (900 s), after which
# Redis would hand a message that waits to another worker as well.
BACKOFF = (10, 60, 300, 600)
EXPIRES_SECONDS = 3600.0
# Each process finds out for itself that a server is down: what several say of one thing within this time is one news.
SAME_NEWS_SECONDS = 60
MOST_WAITING = 200  # messages, while the broker hangs


@dataclass(frozen=True, slots=True)
class _Message:
    id: str
    event: str
    body: str
    about: str


_waiting: queue.Queue[_Message] = queue.Queue(MOST_WAITING)
_starting = threading.Lock()
_thread: threading.Thread | None = None


def announce(event: str, data: dict[str, Any], *, about: str) -> None:
    """Tell of an event, if operators want to know. about: of what it is news, as two processes name it alike.

    It never blocks and never raises, so it may be called on an event loop and with a lock held.
    """
    if not settings.PARLEY_OPERATOR_WEBHOOK_URL:
        return
    try:
        _waiting.put_nowait(_Message(f"msg_{uuid.uuid4().hex}", event, _body(event, timezone.now(), data), about))
    except queue.Full:
        log.warning("operator_webhook.dropped", type=event)
        return
    _start()


def hand_over(message: uuid.UUID, event: str, data: dict[str, Any], *, at: dt.datetime) -> bool:
    """Give a message to the broker, whose id is its own each time; False where the broker does not take it."""
    return broker.send(TELL_TASK, f"msg_{message.hex}", _body(event, at, data), expires=EXPIRES_SECONDS)


def _body(event: str, at: dt.datetime, data: dict[str, Any]) -> str:
    told = {"type": event, "timestamp": at.astimezone(dt.UTC), "data": data}
    return orjson.dumps(told, option=orjson.OPT_UTC_Z).decode()


def _start() -> None:
    """A worker process is a fork, which has no threads of the process that it came from."""
    global _thread  # noqa: PLW0603 - the process has one
    with _starting:
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_send_all, name="operator-webhook", daemon=True)
            _thread.start()


def _send_all() -> None:
    while True:
        message = _waiting.get()
        try:
            if _is_news(message):
                broker.send(TELL_TASK, message.id, message.body, expires=EXPIRES_SECONDS)
        except Exception:
            log.exception("operator_webhook.not_sent", type=message.event)


def _is_news(message: _Message) -> bool:
    """Two processes that look at the same moment may both think so: receivers have to bear a repetition anyway."""
    key = f"operator_webhook:{message.about}"
    try:
        if cache.get(key) == message.event:
            return False
        cache.set(key, message.event, timeout=SAME_NEWS_SECONDS)
    except ConnectionInterrupted:
        pass
    return True


async def deliver(message_id: str, body: str, *, attempt: int) -> int | None:
    """Send a message, the `attempt`th time counted from 0. Returns the seconds after which to try again; None where it
    arrived, or where there is nothing more to try."""
    url = settings.PARLEY_OPERATOR_WEBHOOK_URL
    if not url:
        return None  # the operators have thought better of it
    # Whoever sets the address may reach it, also in their own network; tenants, whose addresses may not, gain nothing.
    allowed = [urlsplit(url).hostname or ""]
    async with sending.session(allowed=allowed) as client:
        secret = settings.PARLEY_OPERATOR_WEBHOOK_SECRET
        result = await sending.post(client, url, message_id, body.encode(), [secret])
    again = None if not result.error or result.gone or attempt >= len(BACKOFF) else BACKOFF[attempt]
    outcome = "delivered" if not result.error else "failed" if again is None else "retrying"
    log.info("operator_webhook.attempted", outcome=outcome, message=message_id, attempt=attempt + 1, why=result.error)
    return again
