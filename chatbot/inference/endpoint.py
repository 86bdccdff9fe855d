"""What the engine knows of a model server: where it is, what it serves and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. `first_token` counts from the question, `between_tokens` from the last token, not from keep-alives."""

    connect: float = 2.0
    first_token: float = 15.0
    between_tokens: float = 10.0
    total: float = 180.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model on a server. `base_url` may end in /v1 or not; `context_length` is in tokens."""

    id: str
    kind: Literal["chat", "embedding"]
    name: str
    base_url: str
    model: str
    context_length: int
    dimension: int | None = None
    api_key: str = field(default="", repr=False)
    deadlines: Deadlines = Deadlines()

    def url(self, path: str) -> str:
        return f"{self.base_url.rstrip('/').removesuffix('/v1')}/v1/{path}"
