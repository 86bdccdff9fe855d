"""The protocols that model servers speak, a class each: what is asked, how the answer is read, how they are known."""

from __future__ import annotations

from typing import Final

from chatbot.inference.endpoint import Endpoint, ProtocolName
from chatbot.inference.protocols.base import Protocol
from chatbot.inference.protocols.llamacpp import LlamaCpp
from chatbot.inference.protocols.openai import OpenAI
from chatbot.inference.protocols.tei import TEI
from chatbot.inference.protocols.tgi import TGI, TGIGenerate
from chatbot.inference.protocols.vllm import VLLM

# The most telling first: every chat server has OpenAI's list of models, too.
_PROTOCOLS: Final[dict[ProtocolName, Protocol]] = {
    protocol.name: protocol for protocol in (TGI(), TGIGenerate(), TEI(), LlamaCpp(), VLLM(), OpenAI())
}


def protocol_of(endpoint: Endpoint) -> Protocol:
    """How an endpoint is spoken to."""
    if endpoint.protocol == "hf":
        # huggingface_hub takes 40 MB and half a second, which is for those to spend who use it.
        from chatbot.inference.protocols import hf  # noqa: PLC0415

        return hf.HuggingFace()
    return _PROTOCOLS[endpoint.protocol]


def recognisable() -> list[Protocol]:
    """Those that know their servers from others, in the order in which to try them."""
    return list(_PROTOCOLS.values())
