"""kreuzberg's structure of a document as Markdown. Its own Markdown takes literal text for markup, its nodes do not."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from chatbot import markdown

Node = dict[str, Any]

# kreuzberg 4.10 drops every entity in the text of a Word document, so that "R&D" becomes "RD", and takes a # in that of
# a slide for the mark of a heading. Until it has read them, these code points stand for such characters: Unicode keeps
# them free of characters for uses like this one.
SHIELDS = {character: chr(0xFDD0 + place) for place, character in enumerate("&<>\"'#")}
_UNSHIELD = str.maketrans({shield: character for character, shield in SHIELDS.items()})

_IMAGE = re.compile(r"!\[[^\]\n]*\]\([^)\n]*\)")
_FOOTNOTE = re.compile(r"\[\^\d+\]")
_NOTE_MARK = re.compile(r"[\[(]?(?:\d{1,3}|\*{1,3}|†)[\])]?")
_FURNITURE = frozenset({"header", "footer"})
_FOLLOWED = re.compile(r"(?:https?|mailto):[^\s()<>]+\Z", re.IGNORECASE)


def to_markdown(nodes: Sequence[Node]) -> str:
    """Headings, paragraphs, lists, tables and code, with a blank line between; images are left out."""
    blocks: list[str] = []
    last_is_item = False
    for node in _with_footnotes(nodes):
        if node.get("content_layer") in _FURNITURE:
            continue
        is_item = node["content"]["node_type"] == "list_item"
        block = _item(nodes, node) if is_item else _block(node).strip()
        if not block:
            continue
        if is_item and last_is_item:
            blocks[-1] += f"\n{block}"
        else:
            blocks.append(block)
        last_is_item = is_item
    return "\n\n".join(blocks)


def _with_footnotes(nodes: Sequence[Node]) -> Iterator[Node]:
    """The nodes, each footnote after the one with its mark: kreuzberg has their texts at the end, in that order."""
    notes = iter([node for node in nodes if node["content"]["node_type"] == "footnote"])
    for node in nodes:
        if node["content"]["node_type"] == "footnote":
            continue
        yield node
        marks = len(_FOOTNOTE.findall(node["content"].get("text") or ""))
        yield from islice(notes, marks)
    yield from notes


def _block(node: Node) -> str:
    content = node["content"]
    match content["node_type"]:
        case "group" | "list" | "page_break" | "slide":
            return ""
        case "heading" | "title":
            return _heading(content.get("level") or 1, content["text"])
        case "table":
            return markdown.table(_rows(content["grid"]))
        case "code":
            return _fenced(content["text"].translate(_UNSHIELD))
        case "image":
            return markdown.escape(_plain(content.get("description") or ""))
    return markdown.escape(_plain(_linked(node)))


def _heading(level: int, text: str) -> str:
    title = " ".join(_plain(text).split())
    return f"{'#' * min(max(level, 1), 6)} {title}" if title else ""


def _item(nodes: Sequence[Node], node: Node) -> str:
    """A line of a list, as deep as the lists around it, with its number where that list has numbers."""
    depth, above = -1, node
    while (parent := above.get("parent")) is not None:
        above = nodes[parent]
        depth += above["content"]["node_type"] == "list"
    around = nodes[node["parent"]] if node.get("parent") is not None else None
    mark = "-"
    if around is not None and around["content"].get("ordered"):
        place = [nodes[child] is node for child in around.get("children", [])]
        mark = f"{place.index(True) + 1 if True in place else 1}."
    text = " ".join(_plain(_linked(node)).split())
    return f"{'  ' * max(depth, 0)}{mark} {text}" if text else ""


def _rows(grid: Node) -> Iterator[list[str]]:
    """Rows of equal width; those without any text are left out, as they hold images only."""
    for _, cells in groupby(sorted(grid["cells"], key=itemgetter("row", "col")), key=itemgetter("row")):
        row = [""] * grid["cols"]
        for cell in cells:
            row[cell["col"]] = _plain(cell["content"]).strip()
        if any(row):
            yield row


def _fenced(text: str) -> str:
    longest = max(map(len, re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}\n{text.strip()}\n{fence}"


def _plain(text: str) -> str:
    """As it is to be read: without images and the marks of footnotes, whose texts follow as paragraphs."""
    return _FOOTNOTE.sub("", _IMAGE.sub("", text)).translate(_UNSHIELD)


def _linked(node: Node) -> str:
    """The text with the addresses of its links, but those within the document."""
    text: str = node["content"].get("text") or ""
    for mark in sorted(node.get("annotations") or (), key=itemgetter("start"), reverse=True):
        url = html.unescape(mark["kind"].get("url") or "")  # which it left as XML writes it
        # kreuzberg counts bytes of UTF-8.
        start, end = (len(text.encode()[: mark[side]].decode(errors="ignore")) for side in ("start", "end"))
        if url.startswith("#") and _NOTE_MARK.fullmatch(text[start:end]):
            text = text[:start] + text[end:]
        elif _FOLLOWED.match(url) and text[start:end].strip() not in {"", url}:
            text = f"{text[:start]}[{text[start:end]}]({url}){text[end:]}"
    return text
