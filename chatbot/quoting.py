"""Texts of others within a prompt: data, whatever they say."""

from __future__ import annotations

import re

_MARKER = re.compile(r"(?<![\w\])])\[([0-9][0-9,;\u2013 -]{0,39})\]")
# Of fences, and of the chat formats of Llama, Mistral, Gemma, Qwen and DeepSeek: servers parse them wherever they
# stand.
_TOKEN = re.compile(
    r"<(?=/?(?:passage|attachment|s|start_of_turn|end_of_turn)\b|<?/?SYS>|[|\uff5c])|\[(?=/?INST\])", re.IGNORECASE
)


def quoted(text: str) -> str:
    """A text as data: it can neither close its fence, nor open a chat turn (`<|im_start|>`), nor carry a footnote mark
    that reads as a citation. `a[1]` stays as it is.
    """
    return _MARKER.sub(r"(\1)", _TOKEN.sub(r"\g<0> ", text))


def quoted_line(text: str) -> str:
    """The same of what stands on a line of its own: a title, a heading, the name of a file."""
    return quoted(" ".join(text.split()))
