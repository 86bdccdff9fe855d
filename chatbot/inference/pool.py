"""The model servers of this process: which there are, which one answers, and who steps in when it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal, Self

from chatbot.errors import ModelError, ModelFailed, ModelTimeout, ModelUnavailable
from chatbot.inference.asker import Asker
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Endpoint
from chatbot.inference.protocols import protocol_of
from chatbot.inference.state import Change, ServerState
from chatbot.inference.story import Story
from chatbot.inference.stream import Delta
from chatbot.inference.wire import ChatRequest, InputType

RETRY_SECONDS: Final = 5.0  # for the second attempt, beyond what the first endpoint may take to its first token
ATTEMPTS: Final = 2  # one retry, on another endpoint: more would multiply an overload

NOBODY: Final = Asker()


class Answer:
    """A stream whose first delta has come, from `endpoint`. It can be iterated once."""

    def __init__(self, endpoint: Endpoint, first: Delta, rest: AsyncGenerator[Delta], *, address: str = "") -> None:
        self.endpoint = endpoint
        self.address = address
        self._first: Delta | None = first
        self._rest = rest

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Delta]:
        # No coroutine around each of the rest's: this runs for every token.
        return self._rest.__anext__() if self._first is None else self._take_first(self._first)

    async def _take_first(self, first: Delta) -> Delta:
        self._first = None
        return first

    async def close(self) -> None:
        await self._rest.aclose()


class Pool:
    """Process-wide; knows endpoints by id. All attempts of one question share the time to its first token: what the
    first endpoint may take, and `retry_seconds`."""

    def __init__(
        self, client: Client, endpoints: Iterable[Endpoint] = (), *, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self._client = client
        self._retry_seconds = retry_seconds
        self.on_change: Callable[[Change], None] | None = None
        self.replace(endpoints)

    def divide(self, processes: int) -> None:
        """How many live processes share each server's limit."""

    def states(self) -> list[ServerState]:
        """Each server of each endpoint, as this process sees it now."""
        return []

    def reset(self, endpoint_id: str, address: str = "") -> None:
        """Close the breakers of an endpoint, or of one server of it."""

    def replace(self, endpoints: Iterable[Endpoint]) -> None:
        """From now on there are these endpoints; streams that run go on with theirs."""
        self._endpoints = {endpoint.id: endpoint for endpoint in endpoints}

    def continues(self, ids: Sequence[str]) -> bool:
        """Whether one of these can go on from a prefix. It may still refuse, as llama.cpp may with models that
        think: then chat() raises before the first token, and the answer is to be begun again without one."""
        return any(protocol_of(self._endpoints[key]).continues for key in ids if key in self._endpoints)

    @asynccontextmanager
    async def chat(
        self, ids: Sequence[str], request: ChatRequest, asker: Asker = NOBODY, *, story: Story | None = None
    ) -> AsyncGenerator[Answer]:
        """Ask the first of `ids`, and the next one if it fails before its first token; entering waits for that token.
        With a prefix only those are asked that can go on from it.

        Leaving closes the stream, and so stops the model. Raises PromptTooLong, which no other endpoint mends,
        or the ModelError of the last attempt; inside the block the error of the stream, which is not retried.
        """
        answer = await self._begin(ids, request)
        try:
            yield answer
        finally:
            await answer.close()

    async def embed(
        self, endpoint_id: str, texts: list[str], *, input_type: InputType, asker: Asker = NOBODY
    ) -> list[list[float]]:
        """A vector for each text, by this one endpoint: vectors of different models do not mix."""
        (endpoint,) = self._known([endpoint_id], "embedding")
        return await self._client.embed(endpoint, texts, input_type=input_type)

    def _known(self, ids: Sequence[str], kind: Literal["chat", "embedding"]) -> list[Endpoint]:
        known = [self._endpoints[key] for key in dict.fromkeys(ids) if key in self._endpoints]
        if usable := [endpoint for endpoint in known if endpoint.kind == kind]:
            return usable
        raise ModelUnavailable(f"No {kind} endpoint is set up for this.")

    async def _begin(self, ids: Sequence[str], request: ChatRequest) -> Answer:
        *others, last = self._able(ids, request)[:ATTEMPTS]
        patience = (*others, last)[0].deadlines.first_token + self._retry_seconds
        until = asyncio.get_running_loop().time() + patience
        for endpoint in others:
            try:
                return await self._start(endpoint, request, until)
            except ModelError:
                continue  # nothing was said yet, so the next endpoint can say all of it
        return await self._start(last, request, until)

    def _able(self, ids: Sequence[str], request: ChatRequest) -> list[Endpoint]:
        known = self._known(ids, "chat")
        if not request.begun:
            return known
        if able := [endpoint for endpoint in known if protocol_of(endpoint).continues]:
            return able
        raise ModelFailed("No chat endpoint here can continue an answer.")

    async def _start(self, endpoint: Endpoint, request: ChatRequest, until: float) -> Answer:
        deltas = self._client.chat(endpoint, request)
        try:
            async with asyncio.timeout_at(until):
                return Answer(endpoint, await anext(deltas), deltas)
        except TimeoutError as error:
            raise ModelTimeout from error
