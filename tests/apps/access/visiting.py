"""Pages that visitors come from, and servers that let them in."""

from __future__ import annotations

from typing import Any

from django.test import AsyncClient

from apps.assistants.models import Assistant
from tests.apps.conversations.conftest import World

SHOP, OTHER = "https://shop.example", "https://other.example"
PAGE = "/api/v1/visitors/acme/guide"


def change(assistant: Assistant, **fields: Any) -> None:
    Assistant.objects.filter(pk=assistant.pk).update(**fields)


class Page(AsyncClient):
    """A browser's page: it sends its origin along, and its token once it has one."""

    def __init__(self, origin: str = SHOP, token: str = "", address: str = "203.0.113.7") -> None:
        super().__init__()
        self.sent = {"Origin": origin} if origin else {}
        self.token = token
        self.address = address

    def generic(self, *args: Any, headers: dict[str, str] | None = None, **extra: Any) -> Any:
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return super().generic(*args, headers=bearer | self.sent | (headers or {}), **extra)

    async def request(self, **request: Any) -> Any:
        return await super().request(**{**request, "client": [self.address, 40000]})

    async def say(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
        return await self.post(f"/api/v1/{path}", body or {}, content_type="application/json", headers=headers)

    async def enter(self) -> Any:
        response = await self.post(PAGE)
        if response.status_code == 201:
            self.token = response.json()["token"]
        return response


async def let_in(world: World, **asked: Any) -> Any:
    """What a tenant's server is answered."""
    headers = {"Authorization": f"Bearer {asked.pop('key', world.key)}"}
    body = {"assistant": "guide", "origin": SHOP, **asked}
    return await AsyncClient().post("/api/v1/visitors", body, content_type="application/json", headers=headers)


async def token_for(world: World, **asked: Any) -> str:
    return str((await let_in(world, **asked)).json()["token"])
