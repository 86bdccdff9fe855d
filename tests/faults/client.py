"""A patient client: it reads a turn's events by SSE, comes back with its cursor through any replica, and keeps to the
protocol: what `restarted` says to forget it forgets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from chatbot.events import START, Cursor


@dataclass
class Reader(threading.Thread):
    """Asks at the first address, or follows `turn`, and goes on at the next address whenever a connection ends."""

    addresses: Sequence[str]
    key: str
    conversation: str = ""
    turn: str = ""
    seen: list[tuple[Cursor, str, dict[str, Any]]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    cursor: Cursor = START
    reconnected: int = 0
    failure: str = ""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        until = time.monotonic() + 60
        at = 0
        while not self.ended and time.monotonic() < until:
            try:
                self._read(self.addresses[at % len(self.addresses)])
            except AssertionError as error:
                self.failure = str(error) or "an event out of order"
                return
            except httpx.HTTPError:
                pass
            at += 1
            self.reconnected += 1
            time.sleep(0.05)

    @property
    def ended(self) -> bool:
        return bool(self.seen) and self.seen[-1][1] in ("turn.finished", "error")

    def _read(self, address: str) -> None:
        headers = {"Authorization": f"Bearer {self.key}", "Accept": "text/event-stream"}
        with httpx.Client(base_url=f"{address}/api/v1", headers=headers, timeout=30) as http:
            if self.turn:
                request = http.build_request("GET", f"turns/{self.turn}/events", params={"after": str(self.cursor)})
            else:
                url = f"conversations/{self.conversation}/turns"
                request = http.build_request(
                    "POST", url, json={"text": "pump?"}, headers={"Idempotency-Key": self.conversation}
                )
            response = http.send(request, stream=True)
            response.raise_for_status()
            block: dict[str, str] = {}
            for line in response.iter_lines():
                if line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    block[name] = value
                elif block:
                    if "event" in block:
                        self._take(block)
                    block = {}

    def _take(self, block: dict[str, str]) -> None:
        kind, body = block["event"], json.loads(block["data"])
        if "id" not in block:  # reconnect
            return
        cursor = Cursor.parse(block["id"])
        assert cursor > self.cursor, f"{cursor} after {self.cursor}"
        if self.seen and cursor.epoch == self.cursor.epoch:
            assert cursor.seq == self.cursor.seq + 1, f"{cursor} after {self.cursor}"
        self.cursor = cursor
        if kind == "restarted":
            self.seen = [one for one in self.seen if one[0].seq <= body["after"]]
        if kind == "turn.started":
            self.turn = body["turn"]
        self.seen.append((cursor, kind, body))
        self.times.append(time.monotonic())

    # --- What a test asks ---------------------------------------------------------------------------------------------

    def wait_for_tokens(self, count: int = 1, seconds: float = 20) -> None:
        until = time.monotonic() + seconds
        while len(self.texts()) < count:
            assert time.monotonic() < until, f"{len(self.texts())} tokens, {self.failure}"
            assert not self.failure, self.failure
            time.sleep(0.01)

    def finish(self, seconds: float = 60) -> dict[str, Any]:
        """The last event's body."""
        self.join(seconds)
        assert not self.failure, self.failure
        assert self.ended, [kind for _, kind, _ in self.seen]
        return self.seen[-1][2]

    def texts(self) -> list[str]:
        return [body["text"] for _, kind, body in tuple(self.seen) if kind == "token"]

    @property
    def text(self) -> str:
        return "".join(self.texts())

    @property
    def longest_pause(self) -> float:
        return max((b - a for a, b in zip(self.times, self.times[1:], strict=False)), default=0.0)
