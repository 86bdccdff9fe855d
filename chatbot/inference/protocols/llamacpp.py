"""llama.cpp's server: OpenAI's protocol, and /props with the context that each of its slots really has.

A last message of the assistant's is continued since April 2025 (ggml-org/llama.cpp#13174), unless the server was
started with --no-prefill-assistant; continue_final_message overrides that since May 2026 (#23012). Streams bring what
follows, answers in one piece begin with the prefix. Where its template lets the model think, releases up to May 2026
refuse to continue (400); the one of October closes its thoughts first.

Source: tools/server/README.md and server.cpp, seen answering in the release that xllamacpp builds.
"""

from __future__ import annotations

from chatbot.inference.protocols.base import Browse, Model, Served, whole_number
from chatbot.inference.protocols.openai import OpenAI, listed_models


class LlamaCpp(OpenAI):
    name = "llamacpp"
    continues = True

    async def recognise(self, browse: Browse) -> Served | None:
        settings = (await browse("props")).get("default_generation_settings")
        cards = listed_models(await browse("v1/models"))
        if not isinstance(settings, dict):
            # /props asks for the key, the list of models does not.
            if not any(card.get("owned_by") == "llamacpp" for card in cards):
                return None
            settings = {}
        # Not n_ctx_train of the list, which is what the model was trained for, whatever -c says.
        context = whole_number(settings.get("n_ctx"))
        return Served("llamacpp", "llama.cpp", tuple(Model(card["id"], context) for card in cards), any_name=True)
