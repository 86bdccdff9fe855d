"""Hugging Face: Inference Providers by a model's id, dedicated Inference Endpoints by their address.

huggingface_hub decides where a request goes and what stands in it, and sends it over our own sockets, by which it has
our deadlines, our limits on addresses and our errors. A streamed answer is read from those sockets directly: the
library's own reader breaks lines at U+2028 and its like, which may stand in any answer, and costs 15 times as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, ClassVar, Final
from urllib.parse import quote

import aiohttp
import httpx2
from huggingface_hub import (
    AsyncInferenceClient,
    ChatCompletionInputStreamOptions,
    constants,
    set_client_factory,
)

from chatbot.errors import InvalidRequest, ModelBusy, ModelFailed, ModelUnavailable
from chatbot.inference.endpoint import Endpoint, ProtocolName
from chatbot.inference.protocols.base import Browse, Model, Protocol, Served, whole_number
from chatbot.inference.protocols.openai import listed_models
from chatbot.inference.protocols.tei import TEI
from chatbot.inference.transport import Exchange
from chatbot.inference.wire import ChatRequest, InputType, usable_vectors

HUB_SECONDS: Final = 10.0  # for the few requests about dedicated endpoints, which huggingface_hub sends itself
WAKING: Final = 60.0  # seconds until asking again may succeed
EMBEDDING_PROVIDER: Final = "hf-inference"
ASLEEP: Final = "The Inference Endpoint is asleep or still starting (503)."

constants.HF_HUB_DISABLE_TELEMETRY = True  # names and versions of what is installed here, in every request
# Its own default follows redirects, with our token, and waits for ever.
set_client_factory(lambda: httpx2.Client(timeout=HUB_SECONDS, follow_redirects=False, trust_env=False))


class HuggingFace(Protocol):
    name: ClassVar[ProtocolName] = "hf"

    async def ask(self, exchange: Exchange, endpoint: Endpoint, request: ChatRequest) -> aiohttp.ClientResponse:
        if not endpoint.base_url and "://" in endpoint.model:
            # The library would send the question there, and our key with it.
            raise ModelFailed("A model's name is like org/name; an address belongs into the base URL.")
        sender = _Sender(exchange, streamed=True)
        with _translated(exchange, endpoint):
            async with _Hub(sender, endpoint) as hub:
                await hub.chat_completion(
                    [{"role": message.role, "content": message.content} for message in request.messages],
                    model=endpoint.model,
                    max_tokens=request.max_tokens,
                    temperature=request.temperature,
                    top_p=request.top_p,
                    stop=list(request.stop) or None,
                    stream=True,
                    stream_options=ChatCompletionInputStreamOptions(include_usage=True),
                )
        if sender.response is None:
            raise ModelFailed("The model server closed the connection without an answer.")
        return sender.response

    async def embed(
        self,
        exchange: Exchange,
        endpoint: Endpoint,
        texts: list[str],
        input_type: InputType,  # noqa: ARG002
    ) -> list[list[float]]:
        url = endpoint.url("") if endpoint.base_url else _embedding_url(endpoint.model)
        with _translated(exchange, endpoint):
            async with _Hub(_Sender(exchange, streamed=False), endpoint) as hub:
                vectors = await hub.feature_extraction(texts, model=url, normalize=True, truncate=True)
                return usable_vectors(vectors.tolist(), len(texts))

    async def rerank(self, exchange: Exchange, endpoint: Endpoint, query: str, texts: list[str]) -> list[float]:
        """By Text Embeddings Inference, which dedicated endpoints rerank with; the library has no call for it."""
        if not endpoint.base_url:
            raise ModelFailed("Inference Providers do not rerank; a dedicated Inference Endpoint does.")
        with _translated(exchange, endpoint):
            return await TEI().rerank(exchange, endpoint, query, texts)

    async def look_up(self, browse: Browse, model: str) -> Served | None:
        cards = listed_models(await browse(f"{router()}/v1/models"))
        models = [offered for card in cards for offered in _provided(card)]
        known = next((offered for offered in models if offered.name == model), None)
        if known is None or known.context_length is None:
            # Models that embed are not listed, and not every provider tells its length.
            config = await browse(f"{constants.ENDPOINT}/{quote(model.partition(':')[0])}/resolve/main/config.json")
            if config:
                models = [Model(model, _context_of(config)), *(other for other in models if other.name != model)]
        return Served("hf", "Hugging Face", tuple(models)) if models else None


def router() -> str:
    """The address of Inference Providers."""
    return constants.INFERENCE_PROXY_TEMPLATE.format(provider="").rstrip("/")


def _embedding_url(model: str) -> str:
    """By its full address, for by its name the library asks the Hub about it first, blocking, with its own sockets."""
    name, _, provider = model.partition(":")
    if provider not in ("", EMBEDDING_PROVIDER):
        raise ModelFailed(f"By a model's id only {EMBEDDING_PROVIDER} embeds; take the protocol openai for {provider}.")
    base = constants.INFERENCE_PROXY_TEMPLATE.format(provider=EMBEDDING_PROVIDER)
    return f"{base}/models/{quote(name)}/pipeline/feature-extraction"


def _provided(card: dict[str, Any]) -> Iterator[Model]:
    """A model by its id, where the router chooses a provider, and by `id:provider`."""
    offers = [offer for offer in card.get("providers") or () if isinstance(offer, dict)]
    lengths = [whole_number(offer.get("context_length")) for offer in offers]
    # The router may choose any of them, so only what all of them take is safe.
    yield Model(card["id"], min((length for length in lengths if length), default=None))
    for offer, length in zip(offers, lengths, strict=True):
        yield Model(f"{card['id']}:{offer.get('provider')}", length)


def _context_of(config: dict[str, Any]) -> int | None:
    """The context length that a model's own config.json tells."""
    inner = config.get("text_config")  # of models that see, too
    told = [config.get("max_position_embeddings"), config.get("n_positions")]
    told += [inner.get("max_position_embeddings")] if isinstance(inner, dict) else []
    return next((length for length in map(whole_number, told) if length), None)


class _Sender(httpx2.AsyncBaseTransport):
    """Carries a request of huggingface_hub's over our sockets. A streamed answer stays unread, in `response`."""

    def __init__(self, exchange: Exchange, *, streamed: bool) -> None:
        self.response: aiohttp.ClientResponse | None = None
        self._exchange = exchange
        self._streamed = streamed

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        # Its headers stay behind: without a key of ours it would send the token of whoever runs this process.
        self.response = await self._exchange.post(str(request.url), await request.aread())
        body = b"" if self._streamed else await self._exchange.whole(self.response)
        return httpx2.Response(200, content=body, request=request)


class _Hub(AsyncInferenceClient):
    """For one call, as the library keeps each one's stream; the connections are ours and shared."""

    def __init__(self, sender: _Sender, endpoint: Endpoint) -> None:
        # No token would make the library look for one on this machine.
        super().__init__(endpoint.base_url or None, token=endpoint.api_key or "none")
        self._sender = sender

    async def _get_async_client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=self._sender, follow_redirects=False, trust_env=False, timeout=None)


@contextmanager
def _translated(exchange: Exchange, endpoint: Endpoint) -> Iterator[None]:
    try:
        yield
    except ModelBusy as error:
        if exchange.refused != HTTPStatus.SERVICE_UNAVAILABLE or not endpoint.base_url:
            raise
        # What was asked wakes an endpoint that was scaled to zero, which takes minutes; one that was paused sleeps on.
        asleep = ModelUnavailable(ASLEEP, retry_after=WAKING)
        asleep.asleep = True
        raise asleep from error
    except UnicodeEncodeError as error:
        raise InvalidRequest("The text is not valid Unicode.") from error
    except (ValueError, TypeError) as error:  # what the library finds wrong before it sends, and vectors that are none
        if "API key" in str(error):
            raise ModelFailed("Inference Providers take a Hugging Face token (hf_…) as the API key.") from error
        raise ModelFailed("The embedding server's answer was not understood.") from error
