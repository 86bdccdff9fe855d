"""Files as clients attach them."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile

from apps.assistants.models import Assistant
from apps.tenants.scoping import platform_unit
from tests.apps.conversations.conftest import World

NOTE = "The valve of pump 7 is painted ochre."


def file(name: str = "note.txt", content: bytes | str = NOTE) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content.encode() if isinstance(content, str) else content)


def address(world: World, conversation: Any = None) -> str:
    return f"/api/v1/conversations/{(conversation or world.conversation).pk}/attachments"


async def allow(world: World, allowed: bool = True) -> None:
    await platform_unit(Assistant.objects.filter(pk=world.assistant.pk).update, takes_attachments=allowed)


async def attach(world: World, client: Any, *given: Any, **more: Any) -> Any:
    """The response to a file; what it is called and holds may be `given`."""
    headers = more.pop("headers", None)
    return await client.post(address(world), {"file": file(*given), **more}, headers=headers)
