"""Texts of others within a prompt: data, whatever they say."""

from __future__ import annotations

import re

_MARKER = re.compile(r"(?<![\w\])])\[([0-9][0-9,;\u2013 -]{0,39})\]")
_DELIMITER = re.compile(r"<(?=/?(?:passage|attachment)\b|\|)", re.IGNORECASE)


def quoted(text: str) -> str:
    """A text as data: it can neither close its fence, nor open a chat turn (`<|im_start|>`: servers parse such tokens
    wherever they stand), nor carry a footnote mark that reads as a citation. `a[1]` stays as it is.
    """
    return _MARKER.sub(r"(\1)", _DELIMITER.sub("< ", text))
