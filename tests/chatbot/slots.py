"""Servers as admission sees them, of which a test says what they can do."""

from __future__ import annotations

from dataclasses import dataclass

from chatbot.inference.admission import Lane


@dataclass(eq=False)
class Slots:
    group: str
    limit: int
    in_flight: int = 0
    up: bool = True

    def enter(self) -> None:
        self.in_flight += 1

    def leave(self) -> None:
        self.in_flight -= 1

    @property
    def room(self) -> bool:
        return self.up and self.in_flight < self.limit


class Servers:
    """hold: seconds that a question takes; None where that is not known."""

    def __init__(self, *servers: Slots, hold: float | None = None) -> None:
        self.servers = servers
        self.hold = hold

    def of(self, lane: Lane) -> list[Slots]:
        return [server for server in self.servers if server.group in lane.endpoints and server is not lane.tried]

    def free(self, lane: Lane) -> Slots | None:
        return next((server for server in self.of(lane) if server.room), None)

    def usable(self, lane: Lane) -> bool:
        return any(server.up for server in self.of(lane))

    def rate(self, lane: Lane) -> float | None:
        limit = sum(server.limit for server in self.of(lane) if server.up)
        return limit / self.hold if self.hold else None
