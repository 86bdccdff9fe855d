"""Readers of untrusted formats, a module each. They run in the confined child of chatbot.extraction only.

Each has `read(data) -> (pages, title)`: (page number from 1, or None where the format has no pages; Markdown) of each
page with text, and what the document calls itself. It raises Unreadable.
"""

from __future__ import annotations

import re

Pages = list[tuple[int | None, str]]

_WORTHLESS_TITLE = re.compile(
    r"untitled|microsoft word|powerpoint.presentation|\.(?:docx?|pptx?|xlsx?|tex|dvi|indd|qxd|ps)\Z|\A\W*\Z",
    re.IGNORECASE,
)


class Unreadable(Exception):
    """The message is a sentence for the person who uploaded the file."""


class TooMuch(Unreadable):
    """There is more in the file than is read."""


def worthy_title(title: object) -> str | None:
    """The title that a document gives itself, unless its program made it up."""
    text = " ".join(str(title or "").split())
    return None if _WORTHLESS_TITLE.search(text) else text
