"""What an assistant's model receives: its own limits hold, whatever the asker wants. No row is read or written."""

from __future__ import annotations

import pytest

from apps.assistants.models import Assistant
from apps.assistants.prompting import prompt_for
from apps.tenants.models import Tenant
from chatbot.prompt import Packed
from chatbot.tokens import estimate
from tests.fakes.inference import make_endpoint


def prompt(**fields: object) -> Packed:
    return prompt_for(
        Tenant(name="Acme"),
        Assistant(name="Guide", max_tokens=400),
        template="Be brief.",
        question="When?",
        user="",
        found=(),
        endpoints=[make_endpoint(None, context_length=1000), make_endpoint(None, context_length=2000)],
        **fields,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("wanted", "given"), [(None, 400), (100, 100), (4000, 400)])
def test_the_assistants_limit_is_the_highest(wanted: int | None, given: int) -> None:
    assert prompt(max_tokens=wanted).max_tokens == given


def test_a_prefix_takes_room_in_the_smallest_window() -> None:
    prefix = "word " * 800
    packed = prompt(prefix=prefix)
    assert packed.prompt_tokens == prompt().prompt_tokens + estimate(prefix)
    assert packed.prompt_tokens + packed.max_tokens == 1000
