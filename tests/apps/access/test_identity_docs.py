"""The signing program of docs/visitors.md: what it signs is taken, and the page's numbers are the code's."""

from __future__ import annotations

from typing import Any

from apps.access import identities, tickets
from apps.webhooks.registration import ROTATION
from tests.environment import ROOT
from tests.pages.blocks import blocks_of

PAGE = ROOT / "docs" / "visitors.md"


def test_what_the_page_signs_is_taken() -> None:
    (block,) = [block for block in blocks_of(PAGE) if block.language == "python"]
    names: dict[str, Any] = {}
    exec(block.text, names)
    secret = "a secret that is long enough to sign with"
    assert identities.subject_of(names["identity_of"]("customer-17", secret), [secret]) == "customer-17"


def test_its_numbers_are_those_of_the_code() -> None:
    text = " ".join(PAGE.read_text().split())
    assert f"for {tickets.LASTS // 86_400} days from its last use" in text
    assert identities.LONGEST_LIFE == 3600
    assert "`exp` at most an hour away" in text
    assert f"for {ROTATION.total_seconds() / 3600:.0f} hours after a new one was made" in text
