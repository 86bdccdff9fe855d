"""How each kind of model server words what it says, for the scripted server in tests/fakes/inference.py.

Each class names the source whose wire behaviour it reproduces. The scripted server does the rest: sockets, pace, cuts.
"""

# ruff: noqa: ARG002 - a dialect may not need all that it is told
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.fakes.machine import Load

CONTEXT_LENGTH = 4096

# Ways to fail that each server tells in its own words: too many questions at once, a prompt beyond the context, and
# a generation that breaks.
Fault = Literal["overloaded", "too_long", "broken"]
Pages = dict[str, Callable[[], dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a server tells a fault: with a status of its own or, with 200, as an event of a stream that began well."""

    status: int
    body: dict[str, Any]


def error(message: str, kind: str, code: str | int | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def chunk(choice: dict[str, Any] | None, counted: dict[str, int] | None = None) -> dict[str, Any]:
    choices = [] if choice is None else [{"index": 0, "finish_reason": None} | choice]
    return {"id": "chatcmpl-fake", "created": 0, "model": "fake", "choices": choices, "usage": counted}


def gauges(*figures: tuple[str, str, float], labels: str = "") -> str:
    """(name, help, value) in Prometheus's text format
    (https://prometheus.io/docs/instrumenting/exposition_formats)."""
    told = (f"# HELP {name} {says}\n# TYPE {name} gauge\n{name}{labels} {value}\n" for name, says, value in figures)
    return "".join(told)


def last_said(payload: dict[str, Any]) -> str:
    """What the last message says if it is the assistant's."""
    last: dict[str, str] = payload["messages"][-1]
    return last["content"] if last["role"] == "assistant" else ""


def usage(payload: dict[str, Any], tokens: list[str]) -> dict[str, int]:
    prompt = sum(len(message["content"]) // 4 for message in payload["messages"])
    return {"prompt_tokens": prompt, "completion_tokens": len(tokens), "total_tokens": prompt + len(tokens)}


class Dialect:
    """OpenAI's: https://platform.openai.com/docs/api-reference (chat, chat-streaming, embeddings, models) and
    docs/guides/error-codes. It has every model that it is asked for. OpenAI does not rerank; those that follow it
    otherwise do so as Jina does (https://api.jina.ai/redoc, POST /v1/rerank)."""

    chat_path = "/v1/chat/completions"
    embed_path = "/v1/embeddings"
    rerank_path = "/v1/rerank"
    reranks = True  # what it runs can
    whole = True  # an answer in one piece, unless a stream is asked for
    repeats = False  # an answer in one piece begins with the prefix that it continues
    done = b"data: [DONE]\n\n"

    def __init__(self, *models: str, context_length: int = CONTEXT_LENGTH) -> None:
        self.models = models or ("fake",)
        self.context_length = context_length

    def pages(self) -> Pages:
        """What it tells of itself, by path."""
        return {"/v1/models": lambda: {"object": "list", "data": [self.card(name) for name in self.models]}}

    def card(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": 0, "owned_by": "tests"}

    def refusal(self, fault: Fault) -> Refusal:
        if fault == "overloaded":
            return Refusal(429, error("Rate limit reached for requests", "requests", "rate_limit_exceeded"))
        if fault == "too_long":
            said = f"This model's maximum context length is {self.context_length} tokens."
            return Refusal(400, error(said, "invalid_request_error", "context_length_exceeded"))
        return Refusal(200, error("The server had an error while processing your request.", "server_error", None))

    def unauthorised(self) -> Refusal:
        return Refusal(401, error("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"))

    def unknown_model(self, payload: dict[str, Any]) -> Refusal | None:
        return None

    def no_reranking(self) -> Refusal:
        said = "Unknown request URL: POST /v1/rerank."
        return Refusal(404, error(said, "invalid_request_error", "unknown_url"))

    def question(self, payload: dict[str, Any]) -> str:
        said = [message["content"] for message in payload["messages"] if message["role"] == "user"]
        return said[-1] if said else ""

    def prefix(self, payload: dict[str, Any]) -> str:
        """What the model goes on from. A last message of the assistant's is a message like any other to OpenAI."""
        return ""

    def limit(self, payload: dict[str, Any]) -> int | None:
        """The longest answer that is wanted, in tokens."""
        limit: int | None = payload.get("max_tokens")
        return limit

    def opening(self) -> list[dict[str, Any]]:
        return [chunk({"delta": {"role": "assistant", "content": ""}})]

    def token(self, text: str, tokens: list[str], finish: str | None) -> dict[str, Any]:
        """`finish` is told with the last token of an answer."""
        return chunk({"delta": {"content": text}})

    def thought(self, text: str) -> dict[str, Any]:
        """As DeepSeek's API words it (https://api-docs.deepseek.com/guides/reasoning_model), and most after it."""
        return chunk({"delta": {"reasoning_content": text}})

    def tool_call(self, pieces: list[str]) -> list[dict[str, Any]]:
        """A call of a function that nobody offered: its name first, then its arguments piece by piece
        (https://platform.openai.com/docs/guides/function-calling, streaming)."""
        named = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": ""}}
        calls = [named, *({"index": 0, "function": {"arguments": piece}} for piece in pieces)]
        return [chunk({"delta": {"tool_calls": [call]}}) for call in calls]

    def metrics(self, load: Load) -> str:
        """The page at /metrics; "" where there is none."""
        return ""

    def closing(self, tokens: list[str], finish: str) -> list[dict[str, Any]]:
        return [chunk({"delta": {}, "finish_reason": finish})]

    def counted(self, payload: dict[str, Any], tokens: list[str]) -> list[dict[str, Any]]:
        """The usage, after the end."""
        if not payload.get("stream_options", {}).get("include_usage"):
            return []
        return [chunk(None, usage(payload, tokens))]

    def texts(self, payload: dict[str, Any]) -> list[str]:
        """What is to be embedded."""
        given = payload["input"]
        return [given] if isinstance(given, str) else given

    def vectors(self, vectors: list[list[float]], texts: list[str]) -> Any:
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        counted = {"prompt_tokens": sum(len(text) // 4 for text in texts)}
        return {"object": "list", "data": data, "model": "fake", "usage": counted}

    def ranked(self, payload: dict[str, Any]) -> list[str]:
        """What is to be scored."""
        given: list[str] = payload["documents"]
        return given

    def scores(self, scores: list[tuple[int, float]]) -> Any:
        """`scores`: place and score, the best first."""
        results = [{"index": index, "relevance_score": score} for index, score in scores]
        return {"model": "fake", "object": "list", "usage": {"total_tokens": 1}, "results": results}


class StrictOpenAI(Dialect):
    """OpenAI and Mistral, which refuse fields that they do not know."""

    def unknown_model(self, payload: dict[str, Any]) -> Refusal | None:
        if "input_type" not in payload:
            return None
        said = "Unrecognized request argument supplied: input_type"
        return Refusal(400, error(said, "invalid_request_error", None))


class ReasoningOpenAI(Dialect):
    """OpenAI's reasoning models: https://platform.openai.com/docs/guides/reasoning and their refusals (400)."""

    def unknown_model(self, payload: dict[str, Any]) -> Refusal | None:
        if "max_tokens" in payload:
            said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
            return Refusal(400, error(said, "invalid_request_error", "unsupported_parameter"))
        if "temperature" in payload:
            said = "Unsupported value: 'temperature' does not support 0.2 with this model."
            return Refusal(400, error(said, "invalid_request_error", "unsupported_value"))
        return None

    def limit(self, payload: dict[str, Any]) -> int | None:
        limit: int | None = payload.get("max_completion_tokens")
        return limit


class VLLM(Dialect):
    """vLLM: vllm/entrypoints/openai/models/serving.py (cards, unknown model) at 00153c8, basic/api_router.py (version)
    at 681709b, chat_completion/serving.py (errors in streams; an engine that aborts an answer ends it with
    finish_reason "abort" and then [DONE], issue 57082) and protocol.py (continue_final_message), config/scheduler.py
    (503 beyond max_num_queued_reqs), v1/metrics/loggers.py at 005a810 (/metrics), pooling/score/api_router.py
    (/v1/rerank; there is no route where the model does not score)."""

    def pages(self) -> Pages:
        return super().pages() | {"/version": lambda: {"version": "0.11.0"}}

    def card(self, name: str) -> dict[str, Any]:
        return super().card(name) | {
            "owned_by": "vllm",
            "root": name,
            "parent": None,
            "max_model_len": self.context_length,
        }

    def refusal(self, fault: Fault) -> Refusal:
        if fault == "overloaded":
            return Refusal(503, error("The request queue is full.", "ServiceUnavailableError", 503))
        if fault == "too_long":
            said = (
                f"This model's maximum context length is {self.context_length} tokens. However, your request has 9000 "
                "input tokens. Please reduce the length of the input messages."
            )
            return Refusal(400, error(said, "BadRequestError", 400))
        return Refusal(200, error("EngineCore encountered an issue.", "InternalServerError", 500))

    def unauthorised(self) -> Refusal:
        return Refusal(401, {"error": "Unauthorized"})

    def no_reranking(self) -> Refusal:
        return Refusal(404, {"detail": "Not Found"})

    def scores(self, scores: list[tuple[int, float]]) -> Any:
        return super().scores(scores) | {"id": "score-fake"}

    def metrics(self, load: Load) -> str:
        return gauges(
            ("vllm:num_requests_running", "Number of requests in model execution batches.", float(load.running)),
            ("vllm:num_requests_waiting", "Number of requests waiting to be processed.", float(load.waiting)),
            ("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", load.cache),
            labels=f'{{engine="0",model_name="{self.models[0]}"}}',
        )

    def prefix(self, payload: dict[str, Any]) -> str:
        return last_said(payload) if payload.get("continue_final_message") else ""

    def unknown_model(self, payload: dict[str, Any]) -> Refusal | None:
        if payload.get("continue_final_message") and payload.get("add_generation_prompt"):
            said = "Cannot set both `continue_final_message` and `add_generation_prompt` to True."
            return Refusal(400, error(said, "BadRequestError", 400))
        if payload.get("model") in self.models:
            return None
        said = f"The model `{payload.get('model')}` does not exist."
        return Refusal(404, error(said, "NotFoundError", 404))


class LlamaCpp(Dialect):
    """llama.cpp's llama-server: tools/server/README.md, tools/server/server-context.cpp (/metrics, with --metrics; 501
    from /v1/rerank without --reranking), and what the release in xllamacpp answered when asked.

    thinks: its template lets the model think, and then releases from #15404 (August 2025) to May 2026 continue nothing.
    """

    repeats = True
    thinks = False

    def pages(self) -> Pages:
        def props() -> dict[str, Any]:
            return {
                "default_generation_settings": {"params": {"temperature": 0.8}, "n_ctx": self.context_length},
                "total_slots": 2,
                "model_alias": self.models[0],
                "model_path": f"/models/{self.models[0]}.gguf",
                "chat_template": "{{ messages }}",
                "build_info": "b0-unknown",
            }

        return super().pages() | {"/props": props}

    def card(self, name: str) -> dict[str, Any]:
        return super().card(name) | {
            "owned_by": "llamacpp",
            "meta": {"n_ctx": self.context_length, "n_ctx_train": 8 * self.context_length, "n_embd": 576},
        }

    def metrics(self, load: Load) -> str:
        return gauges(
            ("llamacpp:requests_processing", "Number of requests processing", load.running),
            ("llamacpp:requests_deferred", "Number of requests deferred", load.waiting),
        )

    def no_reranking(self) -> Refusal:
        said = "This server does not support reranking. Start it with `--reranking`"
        return Refusal(501, {"error": {"code": 501, "message": said, "type": "not_supported_error"}})

    def prefix(self, payload: dict[str, Any]) -> str:
        return last_said(payload)

    def unknown_model(self, payload: dict[str, Any]) -> Refusal | None:
        if not (self.thinks and last_said(payload)):
            return None
        said = "Assistant response prefill is incompatible with enable_thinking."
        return Refusal(400, {"error": {"code": 400, "message": said, "type": "invalid_request_error"}})

    def opening(self) -> list[dict[str, Any]]:
        return [chunk({"delta": {"role": "assistant", "content": None}})]

    def refusal(self, fault: Fault) -> Refusal:
        if fault == "overloaded":
            return Refusal(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}})
        if fault == "too_long":
            said = f"request (20031 tokens) exceeds the available context size ({self.context_length} tokens)"
            return Refusal(
                400,
                {
                    "error": {
                        "code": 400,
                        "message": f"{said}, try increasing it",
                        "type": "exceed_context_size_error",
                        "n_prompt_tokens": 20031,
                        "n_ctx": self.context_length,
                    }
                },
            )
        return Refusal(200, {"error": {"code": 500, "message": "decode failed", "type": "server_error"}})

    def unauthorised(self) -> Refusal:
        return Refusal(401, {"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}})
