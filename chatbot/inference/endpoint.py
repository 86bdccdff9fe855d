"""What the engine knows of a model server: where it is, what it speaks and serves, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ProtocolName = Literal["openai", "vllm", "tgi", "tgi-generate", "llamacpp", "tei", "hf"]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. `first_token` counts from the question, `between_tokens` from the last token, not from keep-alives."""

    connect: float = 2.0
    first_token: float = 15.0
    between_tokens: float = 10.0
    total: float = 180.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model on a server. `base_url` may end in /v1 or not, and is empty for what the protocol itself finds by the
    model's id (hf); `context_length` is in tokens."""

    id: str
    kind: Literal["chat", "embedding"]
    name: str
    base_url: str
    model: str
    context_length: int
    protocol: ProtocolName = "openai"
    dimension: int | None = None
    api_key: str = field(default="", repr=False)
    deadlines: Deadlines = Deadlines()

    def url(self, path: str) -> str:
        """The address of a path that counts from the server's root, as "v1/models" or "info"."""
        return f"{self.base_url.rstrip('/').removesuffix('/v1')}/{path}"
