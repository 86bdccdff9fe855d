"""A client of Parley's REST API. Copy it; it needs httpx and nothing else."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx


class ParleyError(Exception):
    """What Parley answered instead: `code` is for programs, the message for people, `request_id` for its operator."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body["message"])
        self.code, self.request_id, self.retry_after = body["code"], body.get("request_id"), body.get("retry_after")


class Event(NamedTuple):
    name: str
    cursor: str
    data: dict[str, Any]


class Parley:
    def __init__(self, base_url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        hooks = {"response": [_refused]}
        self._http = httpx.Client(base_url=f"{base_url}/api/v1", headers=headers, event_hooks=hooks, timeout=60)

    def begin(self, assistant: str, user: str = "") -> str:
        """A new conversation's id; `user` is your name for the end user."""
        return str(self._http.post("/conversations", json={"assistant": assistant, "user": user}).json()["id"])

    def ask(self, conversation: str, text: str, attempts: int = 5) -> Iterator[Event]:
        """The events of an answer, each once, also where the connection breaks."""
        asked: dict[str, Any] = {
            "method": "POST",
            "url": f"/conversations/{conversation}/turns",
            "json": {"text": text},
        }
        # The key makes asking again harmless: the same turn answers.
        headers = {"Accept": "text/event-stream", "Idempotency-Key": uuid.uuid4().hex}
        for attempt in range(attempts):
            try:
                with self._http.stream(**asked, headers=headers) as response:
                    for event in _events(response):
                        if event.name == "error":
                            raise ParleyError(event.data)
                        yield event
                        if event.name == "turn.finished":
                            return
                        headers["Last-Event-ID"] = event.cursor
                        if event.name == "turn.started":  # from now on it can be followed
                            asked = {"method": "GET", "url": f"/turns/{event.data['turn']}/events"}
            except httpx.TransportError:
                time.sleep(0.2 * 2**attempt)
        raise ParleyError({"code": "connection_lost", "message": "Parley could not be reached."})

    def upload(self, collection: str, path: Path, wait: float = 300) -> dict[str, Any]:
        """Add a file and wait until questions find it, `wait` seconds at most."""
        form = {"collection": collection}
        document = self._http.post("/documents", data=form, files={"file": (path.name, path.read_bytes())}).json()
        until = time.monotonic() + wait
        while document["status"] != "ready":
            if document["status"] == "failed" or time.monotonic() > until:
                raise ParleyError(document["failure"] or {"code": "slow", "message": "It is not ready yet."})
            time.sleep(0.5)
            document = self._http.get(f"/documents/{document['id']}").json()
        return dict(document)

    def search(self, collection: str, query: str, limit: int = 6) -> list[dict[str, Any]]:
        """The passages that an assistant would be given, best first."""
        asked = {"collection": collection, "query": query, "limit": limit}
        return list(self._http.post("/search", json=asked).json()["results"])


def _refused(response: httpx.Response) -> None:
    if response.is_error:
        response.read()
        raise ParleyError(response.json())


def _events(response: httpx.Response) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:  # an empty line ends an event
            yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}
