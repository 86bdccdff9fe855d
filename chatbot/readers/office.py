"""Word, PowerPoint and EPUB documents as Markdown.

kreuzberg reads their paragraphs, lists and tables. What it does not know is put right in the archive before it sees it:
which slides are hidden, their order and notes, and in Word text the characters that XML writes as entities.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET  # no entities get here: archive.text_parts()

from kreuzberg import ExtractionConfig, KreuzbergError, extract_bytes_sync

from chatbot import formats, markdown
from chatbot.readers import Pages, Unreadable, archive, nodes, worthy_title

DAMAGED = "The file is damaged and cannot be read."
_CONFIG = ExtractionConfig(use_cache=False, output_format="markdown", include_document_structure=True)
_PRESENTATION = re.compile(r"ppt/presentation\d*\.xml")
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_SLIDE = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"

_NAMED = {b"amp": "&", b"lt": "<", b"gt": ">", b"quot": '"', b"apos": "'"}
_ENTITY = re.compile(rb"&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#x([0-9a-fA-F]{1,6}));")
_HASH, _SHIELDED_HASH = re.compile(rb"(<a:t[^>]{0,99}>\s{0,99})#"), rb"\1" + nodes.SHIELDS["#"].encode()
# What kreuzberg drops where it stands for text; a paragraph's tab stops have attributes.
_SPACE, _HYPHEN = b'<w:t xml:space="preserve"> </w:t>', b"<w:t>-</w:t>"

_NO_RELATIONS = b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"/>'
_ONE_SLIDE = (
    _NO_RELATIONS.removesuffix(b"/>") + b'><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/'
    b'officeDocument/2006/relationships/slide" Target="slides/slide1.xml"/></Relationships>'
)

Parts = dict[str, bytes]


def read_docx(data: bytes) -> tuple[Pages, str | None]:
    parts = archive.text_parts(data)
    for name in parts:
        if name.startswith("word/") and name.endswith(".xml"):
            shielded = _ENTITY.sub(_shield, parts[name])
            parts[name] = shielded.replace(b"<w:tab/>", _SPACE).replace(b"<w:noBreakHyphen/>", _HYPHEN)
    text, title = _read(parts, formats.DOCX)
    return [(None, text)], title


def read_epub(data: bytes) -> tuple[Pages, str | None]:
    parts = archive.text_parts(data)
    if "META-INF/rights.xml" in parts:
        raise Unreadable("This book is protected against being read by other programs.")
    text, title = _read({"mimetype": formats.EPUB.encode(), **parts}, formats.EPUB)
    return [(None, text)], title


def read_pptx(data: bytes) -> tuple[Pages, str | None]:
    """The slides that are shown, by their numbers, each with the speaker's notes."""
    parts = archive.text_parts(data)
    pages: Pages = []
    presentation = next((name for name in parts if _PRESENTATION.fullmatch(name)), "")
    for number, name in _slides(parts, presentation):
        text, _ = _read(_alone(parts, presentation, name), formats.PPTX)
        if notes := _notes(parts, name):
            text = f"{text}\n\n{markdown.escape(f'Notes: {notes}')}"
        if text.strip():
            pages.append((number, text.strip()))
    return pages, title_of(parts)


def _read(parts: Mapping[str, bytes], media_type: str) -> tuple[str, str | None]:
    try:
        result: Any = extract_bytes_sync(archive.packed(parts), media_type, config=_CONFIG)
    except KreuzbergError as e:
        raise Unreadable(DAMAGED) from e
    return nodes.to_markdown(result.document["nodes"]), worthy_title(result.metadata.get("title"))


def _shield(entity: re.Match[bytes]) -> bytes:
    name, decimal, hexadecimal = entity.groups()
    character = _NAMED[name] if name else chr(min(int(decimal or hexadecimal, 10 if decimal else 16), 0x10FFFF))
    return nodes.SHIELDS.get(character, character).encode(errors="ignore")


def _slides(parts: Parts, presentation: str) -> Iterator[tuple[int, str]]:
    """(number, part) of the slides that are shown, in the order in which they are."""
    targets = relations(parts, presentation)
    slides = parsed(parts, presentation).iterfind(f"{_SLIDE}sldIdLst/{_SLIDE}sldId")
    for number, slide in enumerate(slides, start=1):
        target = targets.get(slide.get(_RELATION, ""), ("", ""))[1]
        if target in parts and parsed(parts, target).get("show") not in {"0", "false"}:
            yield number, target


def _alone(parts: Parts, presentation: str, name: str) -> Parts:
    """A presentation of this slide only: kreuzberg numbers slides by the names of their files."""
    shared = {
        part: parts[part] for part in ("[Content_Types].xml", "_rels/.rels", "ppt/presentation.xml") if part in parts
    }
    own = parts.get(_relations_of(name), _NO_RELATIONS)
    content = _HASH.sub(_SHIELDED_HASH, parts[name])
    slide = {"ppt/slides/slide1.xml": content, "ppt/slides/_rels/slide1.xml.rels": own}
    return {**shared, presentation: parts[presentation], _relations_of(presentation): _ONE_SLIDE, **slide}


def _notes(parts: Parts, name: str) -> str:
    """What the speaker's notes of a slide say."""
    for kind, target in relations(parts, name).values():
        if not kind.endswith("/notesSlide") or target not in parts:
            continue
        for shape in parsed(parts, target).iter(f"{_SLIDE}sp"):
            holder = shape.find(f"{_SLIDE}nvSpPr/{_SLIDE}nvPr/{_SLIDE}ph")
            if holder is not None and holder.get("type") == "body":
                paragraphs = shape.iter(f"{_DRAWING}p")
                lines = ("".join(run.text or "" for run in each.iter(f"{_DRAWING}t")) for each in paragraphs)
                return "\n".join(line for line in lines if line.strip())
    return ""


def relations(parts: Parts, name: str) -> dict[str, tuple[str, str]]:
    """(kind, part) of each part that a part refers to, by the id it uses for it."""
    folder, source = posixpath.dirname(name), _relations_of(name)
    if source not in parts:
        return {}
    return {
        each.get("Id", ""): (
            each.get("Type", ""),
            posixpath.normpath(posixpath.join("/", folder, each.get("Target", ""))).lstrip("/"),
        )
        for each in parsed(parts, source)
    }


def _relations_of(name: str) -> str:
    folder, base = posixpath.split(name)
    return f"{folder}/_rels/{base}.rels"


def parsed(parts: Parts, name: str) -> ET.Element:
    try:
        return ET.fromstring(parts[name])  # noqa: S314 - see the import
    except (ET.ParseError, KeyError, ValueError, LookupError) as e:
        raise Unreadable(DAMAGED) from e


def title_of(parts: Parts) -> str | None:
    """What the document's properties call it."""
    if "docProps/core.xml" not in parts:
        return None
    return worthy_title(parsed(parts, "docProps/core.xml").findtext("{http://purl.org/dc/elements/1.1/}title"))
