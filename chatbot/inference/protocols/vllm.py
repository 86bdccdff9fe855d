"""vLLM: OpenAI's protocol, and a list of models that tells how long a prompt may be.

Source: vllm/entrypoints/openai/models/serving.py (ModelCard.max_model_len) and basic/api_router.py (GET /version).
"""

from __future__ import annotations

from chatbot.inference.protocols.base import Browse, Served
from chatbot.inference.protocols.openai import OpenAI, listed_models, model_card


class VLLM(OpenAI):
    name = "vllm"

    async def recognise(self, browse: Browse) -> Served | None:
        cards = listed_models(await browse("v1/models"))
        if not any(card.get("owned_by") == "vllm" for card in cards):
            return None
        version = (await browse("version")).get("version")
        title = f"vLLM {version}" if isinstance(version, str) else "vLLM"
        # Adapters (LoRA) are listed without a length: theirs is the base model's.
        base = model_card(cards[0], "max_model_len")
        models = [model_card(card, "max_model_len") for card in cards]
        return Served(
            "vllm",
            title,
            tuple(model if model.context_length else type(model)(model.name, base.context_length) for model in models),
        )
