"""What a host's robots.txt lets us fetch, and how often. RFC 9309."""

from __future__ import annotations

from protego import Protego

from chatbot.fetching import AGENT

MAX_BYTES = 500 * 1024  # RFC 9309: what stands behind them need not be read
LONGEST_DELAY = 30.0  # seconds: a host that asks for more gets this


class Robots:
    def __init__(self, text: str) -> None:
        self._rules = Protego.parse(text.replace("\0", ""))

    def allows(self, url: str) -> bool:
        return bool(self._rules.can_fetch(url, AGENT))

    @property
    def delay(self) -> float:
        """Seconds between two requests that the host asks for."""
        return min(max(self._rules.crawl_delay(AGENT) or 0.0, 0.0), LONGEST_DELAY)
