"""What the engine knows of a model server: where it is, what it speaks and serves, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

Kind = Literal["chat", "embedding", "rerank"]
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
    """A model on a server, or on each of the servers that a name's addresses are. `base_url` may end in /v1 or not, and
    is empty for what the protocol itself finds by the model's id (hf); `context_length` is in tokens.

    weight: of the traffic among endpoints of one tier. tier: lower ones first, a higher one only where no server of a
    lower one can take the question now. limit: questions at once that one server takes, from all processes together.
    draining: takes no new questions. wake_seconds: how long a question waits for a dedicated endpoint that sleeps and
    that it has started; 0 for not at all. hub_name: that endpoint's namespace/name at Hugging Face, "" to find it by
    its address, which is not told of one that is paused.
    """

    id: str
    kind: Kind
    name: str
    base_url: str
    model: str
    context_length: int
    protocol: ProtocolName = "openai"
    dimension: int | None = None
    api_key: str = field(default="", repr=False)
    deadlines: Deadlines = Deadlines()
    weight: float = 1.0
    tier: int = 0
    limit: int = 32
    draining: bool = False
    prompt_price: Decimal = Decimal(0)  # of a million tokens
    completion_price: Decimal = Decimal(0)
    wake_seconds: float = 0.0
    hub_name: str = ""

    def url(self, path: str) -> str:
        """The address of a path that counts from the server's root, as "v1/models" or "info"."""
        return f"{self.base_url.rstrip('/').removesuffix('/v1')}/{path}"
