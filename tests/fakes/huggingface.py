"""The servers of Hugging Face, in their own words: TGI by its two doors, TEI, and Inference Providers."""

# ruff: noqa: ARG002 - a dialect may not need all that it is told
from __future__ import annotations

from typing import Any

from tests.fakes.dialects import CONTEXT_LENGTH, Dialect, Fault, Pages, Refusal, error, gauges, last_said
from tests.fakes.machine import Load

HUB_MODEL = "meta-llama/Llama-3.1-8B-Instruct"


class TGI(Dialect):
    """Text Generation Inference, Messages API: router/src/server.rs at 003eaec (/info, errors as events of a stream
    with status 200, then [DONE]), router/src/validation.rs (the words of a prompt that is too long) and
    router/src/infer/chat_template.rs of 3.0 (a last message of the assistant's, continued after its last character that
    is no blank); /metrics as router/src/server.rs describes it and backends/v3/src/{queue,backend}.rs fill it."""

    embed_path = ""
    rerank_path = ""

    def metrics(self, load: Load) -> str:
        return gauges(
            ("tgi_batch_current_size", "Current batch size", load.running),
            ("tgi_queue_size", "Current queue size", load.waiting),
        )

    def prefix(self, payload: dict[str, Any]) -> str:
        return last_said(payload).rstrip()

    def pages(self) -> Pages:
        def info() -> dict[str, Any]:
            return {
                "model_id": self.models[0],
                "model_sha": None,
                "max_concurrent_requests": 128,
                "max_best_of": 2,
                "max_stop_sequences": 4,
                "max_input_tokens": self.context_length - 1,
                "max_total_tokens": self.context_length,
                "validation_workers": 2,
                "max_client_batch_size": 4,
                "router": "text-generation-router",
                "version": "3.0.2",
                "sha": None,
                "docker_label": None,
            }

        return super().pages() | {"/info": info}

    def refusal(self, fault: Fault) -> Refusal:
        if fault == "overloaded":
            return Refusal(200, {"error": "Model is overloaded", "error_type": "overloaded"})
        if fault == "too_long":
            said = f"`inputs` tokens + `max_new_tokens` must be <= {self.context_length}. Given: 9000 `inputs` tokens"
            return Refusal(200, {"error": f"Input validation error: {said}", "error_type": "validation"})
        return Refusal(200, {"error": "Request failed during generation: CUDA error", "error_type": "generation"})

    def unauthorised(self) -> Refusal:
        return Refusal(401, {})


class TGIGenerate(TGI):
    """Text Generation Inference, /generate_stream: generate_stream_internal in router/src/server.rs at 003eaec and
    StreamResponse in router/src/lib.rs at 014d3fd: a token an event, the last with details, and no [DONE]."""

    chat_path = "/generate_stream"
    whole = False
    done = b""

    def question(self, payload: dict[str, Any]) -> str:
        return self._last_turn(payload)[0]

    def prefix(self, payload: dict[str, Any]) -> str:
        return self._last_turn(payload)[1].removeprefix(" ")

    def _last_turn(self, payload: dict[str, Any]) -> tuple[str, str]:
        """What was asked last, and what the model is to go on from."""
        asked, _, begun = str(payload["inputs"]).rpartition("User: ")[2].partition("\n\nAssistant:")
        return asked, begun

    def limit(self, payload: dict[str, Any]) -> int | None:
        limit: int = payload["parameters"]["max_new_tokens"]
        return limit

    def opening(self) -> list[dict[str, Any]]:
        return []

    def thought(self, text: str) -> dict[str, Any]:
        return self._event(text, [], None, special=True)  # no more than text that is none of the answer's

    def tool_call(self, pieces: list[str]) -> list[dict[str, Any]]:
        return []

    def token(self, text: str, tokens: list[str], finish: str | None) -> dict[str, Any]:
        # A length is reached with a token of the answer, an end of text or a stop sequence with one of its own.
        return self._event(text, tokens, "length" if finish == "length" else None)

    def closing(self, tokens: list[str], finish: str) -> list[dict[str, Any]]:
        if finish == "length":
            return []
        return [self._event("</s>", tokens, "eos_token" if finish == "stop" else finish, special=True)]

    def counted(self, payload: dict[str, Any], tokens: list[str]) -> list[dict[str, Any]]:
        return []

    def _event(self, text: str, tokens: list[str], finish: str | None, *, special: bool = False) -> dict[str, Any]:
        details = {"finish_reason": finish, "generated_tokens": len(tokens), "seed": None, "input_length": 3}
        return {
            "index": 1,
            "token": {"id": 1, "text": text, "logprob": -0.1, "special": special},
            "generated_text": "".join(tokens) if finish else None,
            "details": details if finish else None,
        }


class TEI(Dialect):
    """Text Embeddings Inference: router/src/http/server.rs at bc0fa32 (routes, key, statuses; the route that its model
    is not for answers 424), types.rs at 02506d0 (/embed, /rerank) and router/src/lib.rs at 009f067 (/info, errors)."""

    chat_path = ""
    embed_path = "/embed"
    rerank_path = "/rerank"
    reranks = False
    batch = 32  # --max-client-batch-size

    def pages(self) -> Pages:
        def info() -> dict[str, Any]:
            return {
                "model_id": self.models[0],
                "model_sha": None,
                "model_dtype": "float16",
                "model_type": self.model_type(),
                "max_concurrent_requests": 512,
                "max_input_length": 512,
                "max_batch_tokens": 16384,
                "max_batch_requests": None,
                "max_client_batch_size": self.batch,
                "auto_truncate": False,
                "tokenization_workers": 4,
                "version": "1.7.2",
                "sha": None,
                "docker_label": None,
            }

        return {"/info": info}

    def model_type(self) -> dict[str, Any]:
        return {"embedding": {"pooling": "mean"}}

    def no_reranking(self) -> Refusal:
        return Refusal(424, {"error": "model is not a re-ranker model", "error_type": "Backend"})

    def refusal(self, fault: Fault) -> Refusal:
        if fault == "overloaded":
            return Refusal(429, {"error": "Model is overloaded", "error_type": "Overloaded"})
        if fault == "too_long":
            said = "Input validation error: `inputs` must have less than 512 tokens. Given: 600"
            return Refusal(413, {"error": said, "error_type": "Validation"})
        return Refusal(424, {"error": "Backend error", "error_type": "Backend"})

    def unauthorised(self) -> Refusal:
        return Refusal(401, {})

    def unknown_model(self, payload: dict[str, Any]) -> Refusal | None:
        size = len(payload["texts"] if "texts" in payload else payload["inputs"])
        if size <= self.batch:
            return None
        said = f"batch size {size} > maximum allowed batch size {self.batch}"
        return Refusal(422, {"error": said, "error_type": "Validation"})

    def texts(self, payload: dict[str, Any]) -> list[str]:
        given = payload["inputs"]
        return [given] if isinstance(given, str) else given

    def vectors(self, vectors: list[list[float]], texts: list[str]) -> Any:
        return vectors

    def ranked(self, payload: dict[str, Any]) -> list[str]:
        given: list[str] = payload["texts"]
        return given

    def scores(self, scores: list[tuple[int, float]]) -> Any:
        return [{"index": index, "score": score} for index, score in scores]


class TEIReranker(TEI):
    """Text Embeddings Inference with a model that reranks."""

    reranks = True

    def model_type(self) -> dict[str, Any]:
        return {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}

    def unknown_model(self, payload: dict[str, Any]) -> Refusal | None:
        if "inputs" in payload:
            return Refusal(424, {"error": "Model is not an embedding model", "error_type": "Backend"})
        return super().unknown_model(payload)


class HuggingFace(Dialect):
    """Inference Providers: the router's chat route and list of models as
    https://huggingface.co/docs/inference-providers/tasks/chat-completion and /hub-api describe them, embeddings as
    huggingface_hub 2.4 asks hf-inference for them, and a model's config.json as the Hub serves it."""

    def __init__(self, *models: str, context_length: int = CONTEXT_LENGTH) -> None:
        super().__init__(*(models or (HUB_MODEL,)), context_length=context_length)
        self.rerank_path = ""
        self.embed_path = "/hf-inference/models/{organisation}/{name}/pipeline/feature-extraction"

    def pages(self) -> Pages:
        config = {"architectures": ["BertModel"], "max_position_embeddings": 512}
        return super().pages() | {"/intfloat/multilingual-e5-small/resolve/main/config.json": lambda: config}

    def card(self, name: str) -> dict[str, Any]:
        offers = [("groq", 2 * self.context_length), ("together", self.context_length), ("novita", None)]
        providers = [{"provider": who, "status": "live", "context_length": length} for who, length in offers]
        return super().card(name) | {"owned_by": name.partition("/")[0], "providers": providers}

    def unauthorised(self) -> Refusal:
        return Refusal(401, {"error": "Invalid username or password."})

    def unknown_model(self, payload: dict[str, Any]) -> Refusal | None:
        if "model" not in payload or payload["model"].partition(":")[0] in self.models:
            return None
        said = f"The requested model '{payload['model']}' does not exist"
        return Refusal(400, error(said, "invalid_request_error", "model_not_found"))

    def texts(self, payload: dict[str, Any]) -> list[str]:
        given = payload["inputs"]
        return [given] if isinstance(given, str) else given

    def vectors(self, vectors: list[list[float]], texts: list[str]) -> Any:
        return vectors
