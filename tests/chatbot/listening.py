"""How a test asks a model server and listens to all that comes of it."""

from __future__ import annotations

from chatbot.errors import ParleyError
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Endpoint
from chatbot.inference.stream import Delta
from chatbot.inference.wire import ChatRequest, Message


def ask(text: str = "What is Parley?", max_tokens: int = 64) -> ChatRequest:
    return ChatRequest((Message("user", text),), max_tokens=max_tokens)


async def listen(
    client: Client, endpoint: Endpoint, request: ChatRequest
) -> tuple[str, list[Delta], ParleyError | None]:
    """The text, all deltas, and the error that ended them."""
    deltas: list[Delta] = []
    failure = None
    try:
        async for delta in client.chat(endpoint, request):
            deltas.append(delta)  # noqa: PERF401 - a comprehension would lose those before the error
    except ParleyError as error:
        failure = error
    return "".join(delta.text for delta in deltas), deltas, failure
