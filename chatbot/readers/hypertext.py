"""Web pages as Markdown: kreuzberg converts them, without scripts, styles, forms and navigation.

What it would take for text or keep for its own purposes is cut out of the page's source before: titles, drawings,
frames. Images are left out of what comes back, and so are links that lead nowhere outside of the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from kreuzberg import ExtractionConfig, KreuzbergError, extract_bytes_sync

from chatbot import charsets, formats, markdown
from chatbot.readers import Pages, Unreadable, worthy_title

_CONFIG = ExtractionConfig(
    use_cache=False,
    output_format="markdown",
    html_options={
        "escape_misc": True,  # so that a paragraph of the page can be told from the markup made of it
        "escape_asterisks": True,
        "escape_underscores": True,
        "bullets": "-",
        "preprocessing": {"enabled": True, "preset": "aggressive", "remove_navigation": True, "remove_forms": True},
    },
)
_CUT = frozenset({"title", "svg", "math", "iframe", "template", "noscript", "object", "script", "style"})
_CUT_TAGS = frozenset({"meta", "link", "base", "hr"})
_DAMAGED = "This page is damaged and cannot be read."
_UNCLOSED = 100  # comments without an end: HTMLParser looks for each one's through the rest of the page
_COLUMNS = 200  # a cell may say that it spans a million
_HEAD_BYTES = 4096  # where a page says its encoding: the HTML standard looks at 1024

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_XML_CHARSET = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})", re.IGNORECASE)
_ADDRESS = r"((?:[^()\s]|\([^()\s]*\))*)(?: \"[^\"\n]*\")?"
_IMAGE = re.compile(rf"!\[((?:\\.|[^\]\\\n])*)\]\({_ADDRESS}\)")
_LINK = re.compile(rf"\[((?:\\.|[^\[\]\\\n])*)\]\({_ADDRESS}\)")
_RULE = re.compile(r"[|: -]+\Z")
_FOLLOWED = re.compile(r"(?:https?|mailto):", re.IGNORECASE)
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_HEADING = re.compile(r"(#{1,6}) (.*)\Z")
_FENCE = re.compile(r"\s*(?:[-*+>]\s+)*(`{3,}|~{3,})")


def read(data: bytes) -> tuple[Pages, str | None]:
    head = data[:_HEAD_BYTES]
    declared = _CHARSET.search(head) or _XML_CHARSET.search(head)
    text, title = convert(charsets.decoded(data, declared[1].decode() if declared else ""))
    return [(None, text)], title


def convert(page: str) -> tuple[str, str | None]:
    """(Markdown, title) of a page's source."""
    if page.count("<!--") > page.count("-->") + _UNCLOSED:
        raise Unreadable(_DAMAGED)
    source = _Source(page)
    try:
        result = extract_bytes_sync(source.without_cuts().encode("utf-8", "replace"), formats.HTML, config=_CONFIG)
    except KreuzbergError as e:
        raise Unreadable(_DAMAGED) from e
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(_cleaned(result.content)))
    return text.strip("\n"), worthy_title(source.title)


class _Source(HTMLParser):
    """Finds the title and what to cut. An element without an end is left alone, lest it takes the page with it."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._page = page
        self._lines = [0]
        for line in page.split("\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)
        self._cuts: list[tuple[int, int]] = []
        self._open = ("", 0, 0)  # the element that is being cut: its name, where it began, how often it is nested
        self.feed(page)
        self.close()

    def without_cuts(self) -> str:
        kept, at = [], 0
        for start, end in sorted(self._cuts):
            kept += [self._page[at:start], "<br>" if start >= at else ""]
            at = max(at, end)
        return "".join([*kept, self._page[at:]])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - its base's
        name, start, depth = self._open
        if tag == name:
            self._open = (name, start, depth + 1)
        elif not name and tag in _CUT:
            self._open = (tag, self._here(), 1)
        elif not name and tag in _CUT_TAGS:
            self._cuts.append((self._here(), self._here() + len(self.get_starttag_text() or "")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag == self._open[0]:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        name, start, depth = self._open
        if tag != name:
            return
        self._open = (name, start, depth - 1) if depth > 1 else ("", 0, 0)
        if depth == 1:
            end = self._page.find(">", self._here())
            self._cuts.append((start, len(self._page) if end < 0 else end + 1))

    def handle_data(self, data: str) -> None:
        if self._open[0] == "title" and len(self.title) < 1000:
            self.title += data

    def _here(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column


def _cleaned(text: str) -> Iterator[str]:
    """The lines without images, dead links and escapes; those of code as they stand."""
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line[mark.end() :].strip():
                fence = ""
            yield line
        elif mark:
            fence = mark[1]
            yield line
        elif (cleaned := _line(line)).strip() or not line.strip():
            yield cleaned


def _line(line: str) -> str:
    line = _LINK.sub(_link, _IMAGE.sub(r"\1", line))
    heading = _HEADING.match(line)
    if heading:
        title = _unescaped(heading[2]).strip(" ¶#")
        return f"{heading[1]} {title}" if title else ""
    if line.startswith("|"):
        line = "|".join(line.split("|")[:_COLUMNS])
        narrow = re.sub(r"-{4,}", "---", line) if _RULE.match(line) else re.sub(r" {2,}", " ", line)
        return "\\|".join(map(_unescaped, narrow.split("\\|")))
    plain = _unescaped(line)
    return line if plain == line else markdown.escape(plain)


def _link(link: re.Match[str]) -> str:
    text, url = link.groups()
    return f"[{text}]({url})" if text.strip() and _FOLLOWED.match(url) and text != url else text


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(r"\1", text)
