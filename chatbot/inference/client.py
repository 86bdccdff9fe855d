"""Asks model servers: streams answers, embeds and ranks texts, looks what a server is; raises only our own errors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Collection
from typing import Final

from chatbot.errors import ModelError, ModelFailed, OtherModel
from chatbot.inference.discovery import Seen, look
from chatbot.inference.endpoint import Endpoint
from chatbot.inference.load import FIGURES, read_load
from chatbot.inference.protocols import protocol_of
from chatbot.inference.state import ServerLoad
from chatbot.inference.stream import Delta
from chatbot.inference.traffic import Pulse, Traffic
from chatbot.inference.transport import Sessions
from chatbot.inference.wire import ChatRequest, InputType

USAGE_WAIT: Final = 2.0  # seconds for the usage that follows a finish reason: the answer is whole without it
END_WAIT: Final = 0.1  # seconds for the end of the body after [DONE], so that the connection can be used again
LOAD_WAIT: Final = 2.0  # seconds for a server's own figures
LOOK_WAIT: Final = 10.0  # seconds to find out what a server is
# Texts in one request: Text Embeddings Inference refuses more unless --max-client-batch-size says otherwise, also on
# its OpenAI route and as a dedicated endpoint of Hugging Face's.
BATCH: Final = 32


class Client:
    """Speaks every protocol, over connections shared by all who ask on one event loop.

    allowed: hosts that may be asked although their addresses are not public. tls: whose certificates to trust; by
    default those that this machine trusts.
    """

    def __init__(self, *, allowed: Collection[str] = (), tls: ssl.SSLContext | None = None) -> None:
        self._sessions = Sessions(allowed=allowed, tls=tls)

    async def chat(
        self, endpoint: Endpoint, request: ChatRequest, *, address: str = "", pulse: Pulse | None = None
    ) -> AsyncGenerator[Delta]:
        """The answer as it comes. The last deltas carry finish reason and, where the server counts, usage.

        address: which of its host's to ask; any where it is empty. pulse: is told of each read, and how it ended.
        Raises PromptTooLong or a ModelError; deltas given before it are the partial answer.
        Closing the generator, or cancelling its reader, closes the connection: that is how Stop reaches the server.
        """
        clock = asyncio.get_running_loop().time
        pulse = pulse or Pulse(Traffic(), clock())
        deadlines = endpoint.deadlines
        end = clock() + deadlines.total
        protocol = protocol_of(endpoint)
        reader = protocol.reader(request)
        first = min(clock() + deadlines.first_token, end)
        with pulse:
            async with self._sessions.exchange(endpoint, until=first, address=address) as exchange:
                response = await protocol.ask(exchange, endpoint, request)
                if response.content_type in {"application/json", "text/html"}:
                    raise ModelFailed("What answers at the model server's address does not stream.")
                while not reader.ended:
                    try:
                        chunk = await exchange.read(response)
                    except ModelError:
                        if reader.finish_reason is None:
                            raise
                        return  # the answer is whole, only its usage is missing
                    if not chunk:
                        break
                    delta = reader.feed(chunk)
                    if delta is not None:
                        pulse.beat(clock(), len(delta.text))
                        yield delta
                        patience = USAGE_WAIT if reader.finish_reason else deadlines.between_tokens
                        exchange.until = min(clock() + patience, end)
                reader.close()
                # Without the end of the body the connection cannot serve another question.
                exchange.until = clock() + END_WAIT
                try:
                    await exchange.read(response)
                except ModelError:
                    return

    async def embed(
        self, endpoint: Endpoint, texts: list[str], *, input_type: InputType, address: str = ""
    ) -> list[list[float]]:
        """A vector for each text. A batch of queries waits `first_token` seconds at most, for someone waits; one of
        passages `total`."""
        vectors: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            vectors += await self._embed_batch(endpoint, texts[start : start + BATCH], input_type, address)
        return vectors

    async def _embed_batch(
        self, endpoint: Endpoint, texts: list[str], input_type: InputType, address: str
    ) -> list[list[float]]:
        deadlines = endpoint.deadlines
        limit = deadlines.first_token if input_type == "query" else deadlines.total
        until = asyncio.get_running_loop().time() + limit
        async with self._sessions.exchange(endpoint, until=until, address=address) as exchange:
            vectors = await protocol_of(endpoint).embed(exchange, endpoint, texts, input_type)
        if endpoint.dimension and len(vectors[0]) != endpoint.dimension:
            raise OtherModel(
                f"The embedding server gave {len(vectors[0])} dimensions where {endpoint.dimension} are expected."
            )
        return vectors

    async def rerank(self, endpoint: Endpoint, query: str, texts: list[str], *, address: str = "") -> list[float]:
        """How well each text answers the query, in the order of the texts: the higher, the better. Only scores of one
        call can be compared. Waits `first_token` seconds at most, for someone waits."""
        if not texts:
            return []
        until = asyncio.get_running_loop().time() + endpoint.deadlines.first_token
        async with self._sessions.exchange(endpoint, until=until, address=address) as exchange:
            return await protocol_of(endpoint).rerank(exchange, endpoint, query, texts)

    async def look(self, endpoint: Endpoint) -> Seen:
        """What stands at the endpoint's address. Raises a ModelError where nothing answers."""
        until = asyncio.get_running_loop().time() + LOOK_WAIT
        async with self._sessions.exchange(endpoint, until=until) as exchange:
            return await look(exchange, endpoint)

    async def load(self, endpoint: Endpoint, *, address: str = "") -> ServerLoad | None:
        """How busy the server says it is; None where it does not. Raises a ModelError where nothing answers."""
        figures = FIGURES.get(endpoint.protocol)
        if not figures:
            return None
        until = asyncio.get_running_loop().time() + LOAD_WAIT
        async with self._sessions.exchange(endpoint, until=until, address=address) as exchange:
            page = await exchange.text(endpoint.url("metrics"))
        return read_load(page, figures) if page else None

    async def close(self) -> None:
        """Close the running loop's connections, and with them every stream that still runs on them."""
        await self._sessions.close()
