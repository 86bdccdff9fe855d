"""Dedicated Inference Endpoints as Hugging Face manages them: which there are, in which state, and how one is started.

huggingface_hub sends these requests itself, over sockets of its own and blocking, so each runs in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, InferenceEndpoint
from huggingface_hub.errors import HfHubHTTPError

from chatbot.errors import ModelFailed, ModelTimeout, ModelUnavailable
from chatbot.inference.endpoint import Endpoint
from chatbot.inference.protocols.hf import HUB_SECONDS, WAKING
from chatbot.inference.waking import Dedicated

ASLEEP: Final = ("paused", "scaledToZero")
TOKENLESS: Final = "Hugging Face asks for a token, and the endpoint has no API key."
REFUSED: Final = "Hugging Face does not let this token see or start the endpoint."
UNKNOWN: Final = "This token's owner has no Inference Endpoint at this address."

T = TypeVar("T")


async def owned(token: str) -> list[Dedicated]:
    """Those of the token's owner and of the organisations that it may look into. Raises a ModelError."""
    return await _in_thread(lambda: [_told(found) for found in _all(_api(token), token)])


async def start(endpoint: Endpoint) -> Dedicated:
    """Start an endpoint that is paused or scaled to zero; it is left alone in any other state.

    Raises a ModelError where the token may not, or owns no such endpoint.
    """
    return await _in_thread(lambda: _told(_start(endpoint)))


async def look(endpoint: Endpoint, full_name: str) -> Dedicated:
    """How one that is known by its name is now. Raises a ModelError."""
    return await _in_thread(lambda: _told(_named(_api(endpoint.api_key), endpoint.api_key, full_name)))


async def _in_thread(ask: Callable[[], T]) -> T:
    try:
        async with asyncio.timeout(3 * HUB_SECONDS):
            return await asyncio.to_thread(ask)
    except (TimeoutError, httpx2.TimeoutException) as error:
        raise ModelTimeout from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise ModelUnavailable("Hugging Face is busy or out of order.", retry_after=WAKING) from error
        raise ModelFailed(UNKNOWN if status == HTTPStatus.NOT_FOUND else REFUSED) from error
    except (httpx2.HTTPError, OSError) as error:
        raise ModelUnavailable("Hugging Face cannot be reached.", retry_after=WAKING) from error
    except UnicodeEncodeError as error:  # a header holds ASCII alone
        raise ModelFailed(REFUSED) from error


def _api(token: str) -> HfApi:
    # The token goes with each call: what the library gives back has forgotten it, and would look for one here.
    if not token:
        raise ModelFailed(TOKENLESS)
    return HfApi(token=token)


def _start(endpoint: Endpoint) -> InferenceEndpoint:
    token = endpoint.api_key
    api = _api(token)
    found = _named(api, token, endpoint.hub_name) if endpoint.hub_name else _at(api, token, endpoint.base_url)
    if found.status not in ASLEEP:
        return found
    try:
        return api.resume_inference_endpoint(found.name, namespace=found.namespace, token=token)
    except HfHubHTTPError as error:
        if error.response.status_code != HTTPStatus.BAD_REQUEST:
            raise
        # Another process was faster, or the question itself has woken one that was scaled to zero.
        now = api.get_inference_endpoint(found.name, namespace=found.namespace, token=token)
        if now.status == "paused":
            raise
        return now


def _named(api: HfApi, token: str, full_name: str) -> InferenceEndpoint:
    namespace, _, name = full_name.partition("/")
    return api.get_inference_endpoint(name, namespace=namespace, token=token)


def _at(api: HfApi, token: str, base_url: str) -> InferenceEndpoint:
    host = urlsplit(base_url).hostname
    for found in _all(api, token):
        if found.url and urlsplit(found.url).hostname == host:
            return found
    raise ModelFailed(UNKNOWN)


def _all(api: HfApi, token: str) -> Iterator[InferenceEndpoint]:
    who = api.whoami(token=token)
    # Namespace by namespace, since "*" asks for them without the token.
    for namespace in [who["name"], *(org["name"] for org in who.get("orgs", ()))]:
        try:
            yield from api.list_inference_endpoints(namespace, token=token)
        except HfHubHTTPError as error:
            # A token may be confined to some of its owner's organisations.
            if error.response.status_code not in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
                raise


def _told(found: InferenceEndpoint) -> Dedicated:
    return Dedicated(
        full_name=f"{found.namespace}/{found.name}",
        model=str(found.repository),
        task=str(found.task),
        state=str(found.raw["status"]["state"]),
        url=str(found.url or ""),
    )
