"""The only sockets to model servers: they reach allowed addresses only, keep deadlines, and raise our own errors."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final, Self
from urllib.parse import urljoin, urlsplit

import aiohttp
import orjson
from yarl import URL

from chatbot.addresses import REFUSED, check_url, connector, may_connect
from chatbot.errors import InvalidRequest, ModelError, ModelFailed, ModelTimeout, ModelUnavailable
from chatbot.inference.endpoint import Endpoint
from chatbot.inference.wire import failure

# uvicorn (vLLM), Node and llama.cpp close idle connections after 5 s; a question sent at that moment would be lost.
KEEP_ALIVE: Final = 3.0
SMALL_BODY: Final = 64 * 1024  # bytes of an error
LARGE_BODY: Final = 64 * 1024 * 1024  # bytes of vectors, and of the router's list of models
RETRY_UNREACHABLE: Final = 5.0
UNREACHABLE: Final = "The model server cannot be reached."
OTHER_NAME: Final = "The model server's certificate is for another name."
EXPIRED: Final = "The model server's certificate has expired."
NOT_YET: Final = "The model server's certificate is not valid yet."
# By OpenSSL's codes, X509_V_ERR_… of include/openssl/x509_vfy.h.in.
CERTIFICATES: Final = {62: OTHER_NAME, 64: OTHER_NAME, 10: EXPIRED, 9: NOT_YET}
UNTRUSTED: Final = "The model server's certificate is signed by nobody whom this machine trusts."
NO_TLS: Final = "What answers at the model server's address does not speak HTTPS as we do."
MALFORMED: Final = "The model server's address or key is malformed."
HOPS: Final = 3  # redirects within one host that a look-up follows: the Hub moves its files so

_Holder = AsyncGenerator[aiohttp.ClientSession]


@dataclass(frozen=True, slots=True)
class Page:
    """What a server has at an address: `body` is its JSON, None where it is something else."""

    status: int
    content_type: str
    body: Any


class Exchange:
    """The requests of one question to one endpoint: they carry its key, share a deadline and end with the exchange.

    `until` is in the loop's time and may be moved on; `refused` and `refusal` are status and body of the last post that
    failed. `address`, where it is not empty, is the one of the endpoint's host that is asked. Requests raise
    PromptTooLong or a ModelError.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: Endpoint,
        *,
        until: float,
        allowed: Collection[str],
        address: str = "",
        beside: Mapping[str, str],
    ) -> None:
        self.until = until
        self.refused: int | None = None
        self.refusal = b""
        self._session = session
        self._host = urlsplit(endpoint.base_url).hostname if address else None
        self._address = address
        self._connect = endpoint.deadlines.connect
        self._allowed = allowed
        # Compression would hold tokens back.
        self._headers = {**beside, "Content-Type": "application/json", "Accept-Encoding": "identity"}
        if endpoint.api_key:
            self._headers["Authorization"] = f"Bearer {endpoint.api_key}"
        self._responses: list[aiohttp.ClientResponse] = []
        self._clock = asyncio.get_running_loop().time
        self._alarm: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._alarm:
            self._alarm.cancel()
        for response in self._responses:
            response.close()

    async def post(self, url: str, body: bytes) -> aiohttp.ClientResponse:
        """A successful answer, its body unread."""
        response = await self._send("POST", url, body)
        if response.status != HTTPStatus.OK:
            self.refused, self.refusal = response.status, await self._error_body(response)
            raise failure(response.status, self.refusal, response.headers.get("Retry-After"))
        return response

    async def text(self, url: str) -> str | None:
        """What is there as text, None where the status is another than 200."""
        response = await self._send("GET", url, None)
        body = await self.whole(response)
        return body.decode(errors="replace") if response.status == HTTPStatus.OK else None

    async def page(self, url: str) -> Page:
        """What is there, whatever its status."""
        for _ in range(HOPS):
            response = await self._send("GET", url, None)
            target = urljoin(url, response.headers.get("Location", url))
            if target == url or urlsplit(target)[:2] != urlsplit(url)[:2]:
                break
            url = target
        body = await self.whole(response)
        try:
            return Page(response.status, response.content_type, orjson.loads(body))
        except orjson.JSONDecodeError:
            return Page(response.status, response.content_type, None)

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """What has arrived, or the next that does; b"" at the end."""
        if self._clock() >= self.until:
            raise ModelTimeout  # a flood never makes us wait, so no timer would stop it
        try:
            if chunk := response.content.read_nowait():
                return chunk
            self._set_alarm(response.content)
            return await response.content.readany()
        except TimeoutError as error:
            raise ModelTimeout from error
        except (aiohttp.ClientError, OSError) as error:
            raise ModelFailed("The model server broke off in the middle of its answer.") from error

    def _set_alarm(self, content: aiohttp.StreamReader) -> None:
        """Fail the wait at `until`. An alarm that is set already is left to look then whether `until` was moved on:
        asyncio.timeout_at() for each token would cost an eighth of what a token costs."""
        self._awaited = content
        if self._alarm and self._alarm.when() <= self.until:
            return
        if self._alarm:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(self.until, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._clock() < self.until:
            self._set_alarm(self._awaited)
        else:
            self._awaited.set_exception(TimeoutError())

    async def whole(self, response: aiohttp.ClientResponse, limit: int = LARGE_BODY) -> bytes:
        """The whole body. Raises ModelFailed beyond `limit` bytes."""
        body = bytearray()
        while chunk := await self.read(response):
            body += chunk
            if len(body) > limit:
                raise ModelFailed("The model server's answer is too large.")
        return bytes(body)

    async def _error_body(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await self.whole(response, SMALL_BODY)
        except ModelError:
            return b""  # the status alone still says what went wrong

    async def _send(self, method: str, url: str, body: bytes | None) -> aiohttp.ClientResponse:
        try:
            check_url(url, allowed=self._allowed)
            async with asyncio.timeout_at(self.until):
                response = await self._send_afresh(method, url, body)
        except InvalidRequest as error:
            raise ModelFailed(REFUSED if error.message == REFUSED else MALFORMED) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            if isinstance(error, OSError) and error.strerror == REFUSED:
                raise ModelFailed(REFUSED) from error
            raise ModelUnavailable(_unreached(error), retry_after=RETRY_UNREACHABLE) from error
        except TimeoutError as error:
            raise ModelTimeout from error
        except (ValueError, aiohttp.NonHttpUrlClientError) as error:
            raise ModelFailed(MALFORMED) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ModelFailed("The model server closed the connection without an answer.") from error
        self._responses.append(response)
        return response

    async def _send_afresh(self, method: str, url: str, body: bytes | None) -> aiohttp.ClientResponse:
        """Send; again if the connection was kept from an earlier answer and the server had closed it, as llama.cpp
        does."""
        target, headers, name = self._pinned(url)
        while True:
            attempt = _Attempt()
            try:
                return await self._session.request(
                    method,
                    target,
                    # aiohttp warns of long bytes, since it writes them in one piece.
                    data=None if body is None else io.BytesIO(body),
                    headers=self._headers | headers,
                    server_hostname=name,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, connect=self._connect),
                    trace_request_ctx=attempt,
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not attempt.reused_connection:
                    raise

    def _pinned(self, url: str) -> tuple[URL, dict[str, str], str | None]:
        """Where to connect, and what Host and certificate are still to say: the address stands in the URL, so that no
        kept connection ever serves another one. Raises InvalidRequest where it may not be reached."""
        target = URL(url)
        if not self._host or target.host != self._host or self._address == self._host:
            return target, {}, None
        if not may_connect(self._host, self._address, allowed=self._allowed):
            raise InvalidRequest(REFUSED)
        name = self._host if target.scheme == "https" else None
        return target.with_host(self._address), {"Host": target.host_port_subcomponent or ""}, name


def _unreached(error: Exception) -> str:
    """Why no connection came about, in a sentence."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        code = getattr(error.certificate_error, "verify_code", None)
        return CERTIFICATES.get(code or 0, UNTRUSTED)
    return NO_TLS if isinstance(error, aiohttp.ClientSSLError) else UNREACHABLE


class Sessions:
    """One aiohttp session for each event loop that asks; it ends with its loop under asyncio.run, or with close().

    allowed: hosts that may be asked although their addresses are not public. tls: as for addresses.connector(). beside:
    headers that go with a request, asked for in its context.
    """

    def __init__(
        self,
        *,
        allowed: Collection[str] = (),
        tls: ssl.SSLContext | None = None,
        beside: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._allowed = frozenset(allowed)
        self._beside = beside
        self._tls = tls
        self._sessions: dict[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, _Holder]] = {}

    @asynccontextmanager
    async def exchange(self, endpoint: Endpoint, *, until: float, address: str = "") -> AsyncGenerator[Exchange]:
        session = await self._session()
        beside = self._beside()
        async with Exchange(
            session, endpoint, until=until, allowed=self._allowed, address=address, beside=beside
        ) as exchange:
            yield exchange

    async def close(self) -> None:
        """Close the running loop's session, and with it every stream that still runs on it."""
        _, holder = self._sessions.get(asyncio.get_running_loop(), (None, None))
        if holder is not None:
            await holder.aclose()

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            holder = self._hold_session(loop)
            self._sessions[loop] = await anext(holder), holder
        return self._sessions[loop][0]

    async def _hold_session(self, loop: asyncio.AbstractEventLoop) -> _Holder:
        # A generator, because a loop that ends closes its generators: a sync caller's loop lasts for one call only.
        session = aiohttp.ClientSession(
            connector=connector(allowed=self._allowed, keep_alive=KEEP_ALIVE, tls=self._tls),
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


@dataclass(slots=True)
class _Attempt:
    reused_connection: bool = False


async def _note_reuse(_session: object, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.reused_connection = True


def _tracing() -> aiohttp.TraceConfig:
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(_note_reuse)
    return tracing
