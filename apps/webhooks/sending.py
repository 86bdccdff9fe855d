"""One request to a webhook, and in a sentence what came of it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import aiohttp
import orjson
from django.conf import settings
from django.utils import timezone

from apps.webhooks import signing
from apps.webhooks.models import Delivery, Webhook
from apps.webhooks.registration import check_address
from chatbot.addresses import REFUSED, connector
from chatbot.errors import InvalidRequest

CONNECT_SECONDS, TOTAL_SECONDS = 5.0, 15.0
# An answer's body says nothing that counts; read so far, a short one leaves the connection usable.
BODY_READ = 1024
GONE = 410


@dataclass(frozen=True, slots=True)
class Result:
    """What a receiver did. `error` is the sentence of what went wrong, empty where nothing did; no word of it is the
    receiver's, whose answers may hold secrets."""

    duration_ms: float
    status_code: int | None = None
    error: str = ""

    @property
    def gone(self) -> bool:
        return self.status_code == GONE


def session(*, allowed: Collection[str] | None = None) -> aiohttp.ClientSession:
    """For requests to webhooks: to public addresses and allowed hosts (PARLEY_PRIVATE_WEBHOOK_HOSTS, unless others are
    named), without cookies, proxies or decompression."""
    return aiohttp.ClientSession(
        connector=connector(allowed=settings.PARLEY_PRIVATE_WEBHOOK_HOSTS if allowed is None else allowed),
        timeout=aiohttp.ClientTimeout(total=TOTAL_SECONDS, connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


def body_of(delivery: Delivery) -> bytes:
    """What a webhook is sent, the same bytes each time."""
    return orjson.dumps(delivery.message, option=orjson.OPT_UTC_Z)


async def send(client: aiohttp.ClientSession, webhook: Webhook, delivery: Delivery) -> Result:
    """Send a delivery once. It never raises for what the receiver does."""
    try:
        url = check_address(webhook.url)
    except InvalidRequest as refused:
        return Result(0.0, error=refused.message)
    return await post(client, url, delivery.message_id, body_of(delivery), webhook.secrets(timezone.now()))


async def post(
    client: aiohttp.ClientSession, url: str, message_id: str, body: bytes, with_secrets: Iterable[str]
) -> Result:
    """Send a signed message once. It never raises for what the receiver does."""
    started = time.perf_counter()
    status: int | None = None
    try:
        status = await _post(client, url, message_id, body, with_secrets)
        error = _verdict(status)
    except (aiohttp.ClientError, TimeoutError, UnicodeError) as raised:
        error = _sentence(raised)
    return Result((time.perf_counter() - started) * 1000, status, error)


async def _post(
    client: aiohttp.ClientSession, url: str, message_id: str, body: bytes, with_secrets: Iterable[str]
) -> int:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Parley",
        **signing.headers(message_id, int(time.time()), body, with_secrets),
    }
    response = await client.post(url, data=body, headers=headers, allow_redirects=False)
    try:
        await response.content.read(BODY_READ)
        if response.content.at_eof():
            response.release()
    except (aiohttp.ClientError, TimeoutError):
        pass  # the status is known, and the rest was not wanted
    finally:
        response.close()
    return response.status


def _verdict(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"It answered {status}, a redirect, which is not followed. Enter the address that it leads to."
    if status == GONE:
        return "It answered 410 Gone: it wants no more."
    return f"It answered {status}."


# The first that fits.
_SENTENCES: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorCertificateError, "Its TLS certificate is not valid for this address."),
    (aiohttp.ClientConnectorSSLError, "No TLS connection could be made."),
    (aiohttp.ClientConnectorDNSError, "Its host name is not known."),
    (aiohttp.ClientConnectorError, "It does not accept connections."),
    (aiohttp.ConnectionTimeoutError, f"It accepted no connection within {CONNECT_SECONDS:.0f} seconds."),
    (TimeoutError, f"It did not answer within {TOTAL_SECONDS:.0f} seconds."),
    (aiohttp.InvalidURL, "This is not an address."),
    (UnicodeError, "Its host name is not valid."),
    (Exception, "It broke the connection off, or what it answered is not HTTP."),
)


def _sentence(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and error.strerror == REFUSED:
        return REFUSED
    return next(sentence for kind, sentence in _SENTENCES if isinstance(error, kind))
