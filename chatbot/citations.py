"""Which passages an answer cites, by the [n] markers that stand in it.

`[1]`, `[1][2]`, `[1, 2]` and `[1-3]` are markers; they come out as `[1][2]`, so that a client needs one pattern to link
them. A number that no source carries is removed with the space before it. Markers in code, fenced or inline, are code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from chatbot.events import Source

_LONGEST = 40  # characters between the brackets; a longer list of numbers is no marker
_INSIDE = rf"[0-9][0-9,;\u2013 -]{{0,{_LONGEST - 1}}}"
_LEXEME = re.compile(rf" ?\[({_INSIDE})\]|`+|~~~+|\n")
# What the next piece of a stream may still turn into another lexeme.
_UNFINISHED = re.compile(rf"(?: ?\[(?:{_INSIDE})?| )\Z")
_PART = re.compile(r" *([0-9]{1,4})(?: *[\u2013-] *([0-9]{1,4}))? *\Z")
_OPEN = re.compile(r"\[[0-9,;\u2013 -]*\Z")
_FENCE = 3  # backticks or tildes, at least, at the start of a line


def _finished(text: str) -> int:
    """How much of `text` no continuation can change."""
    if text.endswith(("`", "~")):
        return len(text.rstrip(text[-1]))
    # From the end only: an answer may hold thousands of brackets.
    unfinished = _UNFINISHED.search(text, max(0, len(text) - _LONGEST - 2))
    return unfinished.start() if unfinished else len(text)


class MarkerFilter:
    """Answers in pieces: feed() gives back what is safe to show, flush() the rest.

    The pieces joined equal `cite` of the whole answer, however it was split. Held back is only what may become a marker
    or a code delimiter: an open bracket with its digits, backticks, or one space. `cited` are the numbers that stood in
    the text so far, in order of first appearance.
    """

    def __init__(self, known: Iterable[int]) -> None:
        self.cited: list[int] = []
        self._known = frozenset(known)
        self._held = ""
        self._code = ""  # the delimiter that opened the code we are in, or nothing
        self._fenced = False  # that code is a block, not inline
        self._blank = True  # nothing but spaces on this line so far
        self._tail = ""  # the end of what was let out

    def feed(self, text: str) -> str:
        text = self._held + text
        cut = _finished(text)
        self._held = text[cut:]
        return self._pass(text[:cut])

    def resume(self, shown: str) -> None:
        """Go on after an answer whose beginning was shown before."""
        self._pass(shown)

    def flush(self) -> str:
        text, self._held = self._held, ""
        return self._pass(text)

    def _pass(self, text: str) -> str:
        shown: list[str] = []
        at = 0
        for lexeme in _LEXEME.finditer(text):
            self._show(text[at : lexeme.start()], shown)
            self._lexeme(lexeme, shown)
            at = lexeme.end()
        self._show(text[at:], shown)
        return "".join(shown)

    def _show(self, text: str, shown: list[str]) -> None:
        if text:
            shown.append(text)
            self._tail = (self._tail + text)[-_LONGEST - 2 :]
            self._blank = self._blank and not text.strip(" ")

    def _lexeme(self, lexeme: re.Match[str], shown: list[str]) -> None:
        text = lexeme.group()
        if lexeme.group(1) and not self._code:
            self._show(self._resolved(text, lexeme.group(1)), shown)
            self._blank = False
            return
        starts_line = self._blank
        self._show(text, shown)
        if text == "\n":
            self._blank = True
            if not self._fenced:
                self._code = ""  # inline code ends with its line, so that a stray backtick hides no markers
        elif text[0] in "`~":
            self._delimiter(text, starts_line)

    def _delimiter(self, run: str, starts_line: bool) -> None:
        opens_fence = starts_line and len(run) >= _FENCE
        if not self._code:
            if opens_fence or run[0] == "`":
                self._code, self._fenced = run, opens_fence
        elif (opens_fence and run.startswith(self._code)) if self._fenced else run == self._code:
            self._code, self._fenced = "", False

    def _resolved(self, marker: str, inside: str) -> str:
        """The marker with its known numbers only, each in brackets of its own; other brackets stay as they are."""
        parts = [_PART.match(part) for part in re.split("[,;]", inside)]
        if not all(parts):
            return marker
        known = [n for part in parts if part for n in self._numbers(part)]
        self.cited += [n for n in dict.fromkeys(known) if n not in self.cited]
        if known:
            return marker[: marker.index("[")] + "".join(f"[{n}]" for n in known)
        # Taken out of "[ [9]7]", the rest would close up to a new marker.
        return f"({inside})" if _OPEN.search(self._tail) else ""

    def _numbers(self, part: re.Match[str]) -> list[int]:
        first, last = int(part.group(1)), int(part.group(2) or part.group(1))
        return [n for n in sorted(self._known) if first <= n <= last]


def cite(text: str, sources: Sequence[Source]) -> tuple[str, list[Source]]:
    """The answer without unknown markers, and the sources it cites in order of first appearance."""
    markers = MarkerFilter(source.n for source in sources)
    shown = markers.feed(text) + markers.flush()
    by_number = {source.n: source for source in sources}
    return shown, [by_number[n] for n in markers.cited]
