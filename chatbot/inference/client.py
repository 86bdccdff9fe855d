"""The only sockets to model servers: asks, streams, keeps the deadlines, and raises nothing but our own errors."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import SimpleNamespace
from typing import Final

import aiohttp

from chatbot.errors import ModelError, ModelFailed, ModelTimeout, ModelUnavailable
from chatbot.inference.endpoint import Endpoint
from chatbot.inference.wire import (
    ChatReader,
    ChatRequest,
    Delta,
    InputType,
    chat_payload,
    embeddings_payload,
    failure,
    read_embeddings,
)

# uvicorn (vLLM), Node and llama.cpp close idle connections after 5 s; a question sent at that moment would be lost.
KEEP_ALIVE: Final = 3.0
USAGE_WAIT: Final = 2.0  # seconds for the usage that follows a finish reason: the answer is whole without it
END_WAIT: Final = 0.1  # seconds for the end of the body after [DONE], so that the connection can be used again
ERROR_BODY_LIMIT: Final = 64 * 1024
EMBEDDINGS_LIMIT: Final = 64 * 1024 * 1024
RETRY_UNREACHABLE: Final = 5.0


_Holder = AsyncGenerator[aiohttp.ClientSession]


class Client:
    """One aiohttp session for each event loop that asks; it ends with its loop under asyncio.run, or with close()."""

    def __init__(self) -> None:
        self._sessions: dict[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, _Holder]] = {}

    async def chat(self, endpoint: Endpoint, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The answer as it comes. The last deltas carry finish reason and, where the server counts, usage.

        Raises PromptTooLong or a ModelError; deltas given before it are the partial answer.
        Closing the generator, or cancelling its reader, closes the connection: that is how Stop reaches the server.
        """
        clock = asyncio.get_running_loop().time
        deadlines = endpoint.deadlines
        end = clock() + deadlines.total
        until = clock() + deadlines.first_token
        reader = ChatReader(request.max_tokens)
        payload = chat_payload(endpoint.model, request)
        async with self._post(endpoint, "chat/completions", payload, until=min(until, end)) as response:
            if response.content_type in {"application/json", "text/html"}:
                raise ModelFailed("What answers at the model server's address does not stream.")
            while not reader.ended:
                try:
                    chunk = await _read(response, until=min(until, end))
                except ModelError:
                    if reader.finish_reason is None:
                        raise
                    return  # the answer is whole, only its usage is missing
                if not chunk:
                    break
                delta = reader.feed(chunk)
                if delta is not None:
                    yield delta
                    until = clock() + (USAGE_WAIT if reader.finish_reason else deadlines.between_tokens)
            reader.close()
            await _let_end(response)

    async def embed(self, endpoint: Endpoint, texts: list[str], *, input_type: InputType) -> list[list[float]]:
        """A vector for each text. A query waits `first_token` seconds at most, for someone waits; passages `total`."""
        if not texts:
            return []
        deadlines = endpoint.deadlines
        limit = deadlines.first_token if input_type == "query" else deadlines.total
        until = asyncio.get_running_loop().time() + limit
        payload = embeddings_payload(endpoint.model, texts, input_type)
        async with self._post(endpoint, "embeddings", payload, until=until) as response:
            body = await _read_all(response, EMBEDDINGS_LIMIT, until=until)
        vectors = read_embeddings(body, len(texts))
        if endpoint.dimension and len(vectors[0]) != endpoint.dimension:
            raise ModelFailed(
                f"The embedding server gave {len(vectors[0])} dimensions where {endpoint.dimension} are expected."
            )
        return vectors

    async def close(self) -> None:
        """Close the running loop's session, and with it every stream that still runs on it."""
        _, holder = self._sessions.get(asyncio.get_running_loop(), (None, None))
        if holder is not None:
            await holder.aclose()

    @asynccontextmanager
    async def _post(
        self, endpoint: Endpoint, path: str, payload: bytes, *, until: float
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """A successful answer, its body unread; what is left of that on leaving is cut off."""
        session = await self._session()
        response = await _send(session, endpoint, path, payload, until=until)
        try:
            if response.status != HTTPStatus.OK:
                body = await _error_body(response, until=until)
                raise failure(response.status, body, response.headers.get("Retry-After"))
            yield response
        finally:
            response.close()

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            holder = self._hold_session(loop)
            self._sessions[loop] = await anext(holder), holder
        return self._sessions[loop][0]

    async def _hold_session(self, loop: asyncio.AbstractEventLoop) -> _Holder:
        # A generator, because a loop that ends closes its generators: a sync caller's loop lasts for one call only.
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            trace_configs=[_tracing()],
        )
        try:
            yield session
        finally:
            del self._sessions[loop]
            await session.close()


async def _send(
    session: aiohttp.ClientSession, endpoint: Endpoint, path: str, payload: bytes, *, until: float
) -> aiohttp.ClientResponse:
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}  # compression would hold tokens back
    if endpoint.api_key:
        headers["Authorization"] = f"Bearer {endpoint.api_key}"
    try:
        async with asyncio.timeout_at(until):
            return await _post_afresh(session, endpoint, path, payload, headers)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise ModelUnavailable("The model server cannot be reached.", retry_after=RETRY_UNREACHABLE) from error
    except TimeoutError as error:
        raise ModelTimeout from error
    except (ValueError, aiohttp.NonHttpUrlClientError) as error:
        raise ModelFailed("The model server's address or key is malformed.") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ModelFailed("The model server closed the connection without an answer.") from error


async def _post_afresh(
    session: aiohttp.ClientSession, endpoint: Endpoint, path: str, payload: bytes, headers: dict[str, str]
) -> aiohttp.ClientResponse:
    """Post; again if the connection was kept from an earlier answer and the server had closed it, as llama.cpp does."""
    while True:
        attempt = _Attempt()
        try:
            return await session.post(
                endpoint.url(path),
                data=io.BytesIO(payload),  # aiohttp warns of long bytes, since it writes them in one piece
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=endpoint.deadlines.connect),
                trace_request_ctx=attempt,
            )
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not attempt.reused_connection:
                raise


@dataclass(slots=True)
class _Attempt:
    reused_connection: bool = False


async def _note_reuse(_session: object, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.reused_connection = True


def _tracing() -> aiohttp.TraceConfig:
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(_note_reuse)
    return tracing


async def _read(response: aiohttp.ClientResponse, *, until: float) -> bytes:
    """What has arrived, or the next that does; b"" at the end. `until` is in the loop's time."""
    if asyncio.get_running_loop().time() >= until:
        raise ModelTimeout  # a flood never makes us wait, so no timer would stop it
    try:
        if chunk := response.content.read_nowait():
            return chunk
        async with asyncio.timeout_at(until):
            return await response.content.readany()
    except TimeoutError as error:
        raise ModelTimeout from error
    except (aiohttp.ClientError, OSError) as error:
        raise ModelFailed("The model server broke off in the middle of its answer.") from error


async def _read_all(response: aiohttp.ClientResponse, limit: int, *, until: float) -> bytes:
    """The whole body. Raises ModelFailed beyond `limit` bytes."""
    body = bytearray()
    while chunk := await _read(response, until=until):
        body += chunk
        if len(body) > limit:
            raise ModelFailed("The model server's answer is too large.")
    return bytes(body)


async def _error_body(response: aiohttp.ClientResponse, *, until: float) -> bytes:
    try:
        return await _read_all(response, ERROR_BODY_LIMIT, until=until)
    except ModelError:
        return b""  # the status alone still says what went wrong


async def _let_end(response: aiohttp.ClientResponse) -> None:
    """Wait a moment for the end of the body: without it the connection cannot serve another question."""
    try:
        await _read(response, until=asyncio.get_running_loop().time() + END_WAIT)
    except ModelError:
        return
