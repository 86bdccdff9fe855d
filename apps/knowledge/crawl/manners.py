"""How a run behaves towards the hosts that it asks: robots.txt is obeyed, and requests come one after the other.

Turns are counted in Redis for each host, so that runs of several tenants do not add up.
"""

from __future__ import annotations

import asyncio
import io
from contextlib import suppress

from django.conf import settings
from django.core.cache import cache
from django_redis.exceptions import ConnectionInterrupted
from yarl import URL

from apps.access import rates
from apps.edge.errors import ServiceUnavailable
from apps.knowledge.models import SourceRun
from chatbot import robots
from chatbot.errors import RateLimited
from chatbot.fetching import FetchFailed, SourceUnavailable, read
from chatbot.links import authority
from chatbot.robots import Robots

# A worker that would have to wait longer does something else meanwhile.
PATIENCE = 2.0  # seconds
_KEPT = 3600  # seconds: a run that takes longer reads them anew


class HostBusyError(Exception):
    """It is not our turn for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(seconds)


class RobotsUnavailableError(SourceUnavailable):
    code = "robots_unavailable"
    default_message = "The host's robots.txt cannot be read, so nothing else of it is."


class Manners:
    """Of one slice of a run."""

    def __init__(self, run: SourceRun) -> None:
        self._run = run
        self._robots: dict[str, Robots] = {}

    async def allow(self, url: str) -> bool:
        """Raises RobotsUnavailableError, FetchFailed, HostBusyError."""
        return (await self._of(url)).allows(url)

    async def take_turn(self, url: str) -> None:
        """Wait until the host may be asked. Raises HostBusyError where that lasts."""
        known = self._robots.get(_origin(url))
        delay = max(settings.PARLEY_CRAWL_DELAY_MS / 1000, known.delay if known else 0.0)
        while delay:
            try:
                await rates.take(rates.Rate(1, delay), "crawl", authority(url))
            except (RateLimited, ServiceUnavailable) as error:
                wait = error.retry_after or PATIENCE
                if wait > PATIENCE or isinstance(error, ServiceUnavailable):
                    raise HostBusyError(wait) from error
                await asyncio.sleep(wait)
            else:
                return

    async def _of(self, url: str) -> Robots:
        origin = _origin(url)
        if origin not in self._robots:
            self._robots[origin] = Robots(await self._text(origin))
        return self._robots[origin]

    async def _text(self, origin: str) -> str:
        key = f"robots:{self._run.tenant_id}:{self._run.pk}:{origin}"
        with suppress(ConnectionInterrupted):
            found: str | None = await cache.aget(key)
            if found is not None:
                return found
        text = await self._read(f"{origin}/robots.txt")
        with suppress(ConnectionInterrupted):
            await cache.aset(key, text, timeout=_KEPT)
        return text

    async def _read(self, url: str) -> str:
        await self.take_turn(url)
        content = io.BytesIO()
        try:
            allowed = settings.PARLEY_PRIVATE_SOURCE_HOSTS
            await read(url, content, max_bytes=robots.MAX_BYTES, allowed=allowed, cut=True)
        except SourceUnavailable as error:
            raise RobotsUnavailableError(retry_after=error.retry_after) from error
        except FetchFailed as error:
            if error.status is None:  # nothing of this host can be fetched
                raise
            return ""  # RFC 9309: where there are no rules, nothing is forbidden
        return content.getvalue().decode("utf-8", "replace")


def _origin(url: str) -> str:
    return str(URL(url).origin())
