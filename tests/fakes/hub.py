"""The scripted Hub: dedicated Inference Endpoints that sleep, start and fail as a test says.

The API of huggingface_hub's HfApi (whoami-v2) and of Inference Endpoints (api.endpoints.huggingface.cloud/v2), as
hf_api.py and _inference_endpoints.py of huggingface_hub 2.4 ask and read it. One that is paused tells no address
(https://huggingface.co/docs/huggingface_hub/guides/inference_endpoints, pause and scale to zero).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Self

import pytest
from aiohttp import web
from huggingface_hub import constants

from tests.fakes.dialects import VLLM, Refusal

TOKEN = "hf_sesame"
OWNERS = ("alice", "acme")  # the token's owner, and an organisation


@dataclass(slots=True)
class Kept:
    """An endpoint at the Hub. states: what it is said to be once it was started, one after the other with each look at
    it; the last one stays. started: how often."""

    full_name: str
    url: str
    state: str = "paused"
    model: str = "org/model"
    task: str = "text-generation"
    states: list[str] = field(default_factory=lambda: ["initializing", "running"])
    started: int = 0

    def described(self) -> dict[str, Any]:
        return {
            "name": self.full_name.partition("/")[2],
            "type": "protected",
            "healthRoute": "/health",
            "model": {"repository": self.model, "framework": "pytorch", "revision": "main", "task": self.task},
            "status": {
                "state": self.state,
                "createdAt": "2026-01-01T00:00:00.000Z",
                "updatedAt": "2026-01-01T00:00:00.000Z",
            }
            | ({} if self.state == "paused" else {"url": self.url}),
        }


class FakeHub:
    """`asked`: method and path of each request, in order. `refused`: namespaces that the token may not look into.
    `status`: answered to everything, where it is set."""

    def __init__(self, *kept: Kept) -> None:
        self.kept = list(kept)
        self.asked: list[str] = []
        self.refused: set[str] = set()
        self.status = 0
        self.delay = 0.0
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def point_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let huggingface_hub find Hugging Face here, and a token of whoever runs this, which it must not send."""
        monkeypatch.setenv("HF_TOKEN", "hf_of_whoever_runs_this")
        monkeypatch.setattr(constants, "ENDPOINT", self.address)
        monkeypatch.setattr(constants, "INFERENCE_ENDPOINTS_ENDPOINT", self.address)

    @property
    def address(self) -> str:
        return "http://{}:{}".format(*self._runner.addresses[0][:2])

    @property
    def resumed(self) -> int:
        return sum(request.endswith("/resume") for request in self.asked)

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path}")
        await asyncio.sleep(self.delay)
        if self.status:
            return web.json_response({"error": "told so"}, status=self.status)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": "Invalid credentials in Authorization header"}, status=401)
        if request.path == "/api/whoami-v2":
            return web.json_response({"type": "user", "name": OWNERS[0], "orgs": [{"name": OWNERS[1]}]})
        _, _, namespace, *rest = request.path.split("/")
        if namespace in self.refused:
            return web.json_response({"error": "Forbidden"}, status=403)
        if not rest:
            items = [kept.described() for kept in self.kept if kept.full_name.startswith(f"{namespace}/")]
            return web.json_response({"items": items})
        return self._about(f"{namespace}/{rest[0]}", resume=rest[1:] == ["resume"])

    def _about(self, full_name: str, *, resume: bool) -> web.Response:
        kept = next((kept for kept in self.kept if kept.full_name == full_name), None)
        if kept is None:
            return web.json_response({"error": "Endpoint not found"}, status=404)
        if resume and kept.state not in ("paused", "scaledToZero"):
            return web.json_response({"error": "Endpoint is not paused"}, status=400)
        if resume:
            kept.state = "pending"
            kept.started += 1
        elif kept.started and kept.states:
            kept.state = kept.states.pop(0)
        return web.json_response(kept.described())


class Behind(VLLM):
    """What stands at an endpoint's address: vLLM, and before it a proxy that answers 503 while it does not run."""

    def __init__(self, kept: Kept) -> None:
        super().__init__("fake")
        self.kept = kept
        self.late = 0  # questions for which the proxy has not noticed yet that it runs

    def unknown_model(self, payload: dict[str, Any]) -> Refusal | None:
        if self.kept.state == "running" and not self.late:
            return super().unknown_model(payload)
        self.late -= self.kept.state == "running"
        return Refusal(503, {"error": "503 Service Unavailable"})
