"""A file that is small to send and huge to read is refused by itself, while others are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from apps.conversations import attaching
from apps.conversations.models import Attachment
from apps.tenants.scoping import platform_unit
from chatbot.supervising import Limits
from tests.abuse.test_26_bombs import Readers, deep_pdf, laughing_word, readers, zip_bomb
from tests.apps.conversations.attached import allow, attach
from tests.apps.conversations.conftest import Api, World

__all__ = ["readers"]


@pytest.mark.parametrize(
    ("name", "make"), [("deep.pdf", deep_pdf), ("zeros.docx", zip_bomb), ("laughing.docx", laughing_word)]
)
async def test_a_bomb_is_refused_while_a_question_is_answered(
    world: World, api: Api, readers: Readers, name: str, make: Callable[[], bytes]
) -> None:
    await allow(world)
    refused, answered = await asyncio.gather(attach(world, api, name, make()), api.ask(world.turns, "pump?"))
    assert answered.status_code == 200
    if refused.status_code != 201:  # some readers simply skip what explodes
        assert refused.status_code in {413, 415, 422}
        assert refused.json()["code"] in {"payload_too_large", "unsupported_type", "parser", "too_large", "empty"}
    kept = await platform_unit(lambda: list(Attachment.objects.values_list("kept", flat=True)))
    assert all(size <= 4 * 200_000 for size in kept)


async def test_files_are_read_one_at_a_time(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever would have to wait for too long is told so."""
    await allow(world)
    monkeypatch.setattr(attaching, "PATIENCE", 0.05)
    monkeypatch.setattr(attaching, "LIMITS", Limits(seconds=2, output_chars=1000))
    with attaching._READING:
        response = await attach(world, api)
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    assert (await attach(world, api)).status_code == 201
