"""vLLM: OpenAI's protocol, and a list of models that tells how long a prompt may be.

Source: vllm/entrypoints/openai/models/serving.py (ModelCard.max_model_len), basic/api_router.py (GET /version) and
chat_completion/protocol.py (ChatCompletionRequest.continue_final_message; before 0.6.3 such a field is refused).
"""

from __future__ import annotations

from chatbot.inference.protocols.base import Browse, Model, Served, whole_number
from chatbot.inference.protocols.openai import OpenAI, listed_models


class VLLM(OpenAI):
    name = "vllm"
    continues = True

    async def recognise(self, browse: Browse) -> Served | None:
        cards = listed_models(await browse("v1/models"))
        if not any(card.get("owned_by") == "vllm" for card in cards):
            return None
        version = (await browse("version")).get("version")
        title = f"vLLM {version}" if isinstance(version, str) else "vLLM"
        lengths = [whole_number(card.get("max_model_len")) for card in cards]
        # Adapters (LoRA) are listed without a length: theirs is the base model's, which comes first.
        models = (Model(card["id"], length or lengths[0]) for card, length in zip(cards, lengths, strict=True))
        return Served("vllm", title, tuple(models))
