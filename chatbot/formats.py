"""Which files can be read: told by their name and by what they hold, which have to agree."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import IO

from chatbot.charsets import decoded
from chatbot.errors import PayloadTooLarge, UnsupportedType
from chatbot.readers import TooMuch, Unreadable, archive

PDF = "application/pdf"
MARKDOWN = "text/markdown"
TEXT = "text/plain"
HTML = "text/html"
CSV = "text/csv"
TSV = "text/tab-separated-values"
MAIL = "message/rfc822"
EPUB = "application/epub+zip"
_OOXML = "application/vnd.openxmlformats-officedocument"
DOCX = f"{_OOXML}.wordprocessingml.document"
PPTX = f"{_OOXML}.presentationml.presentation"
XLSX = f"{_OOXML}.spreadsheetml.sheet"
PNG = "image/png"
JPEG = "image/jpeg"
WEBP = "image/webp"
TIFF = "image/tiff"
SUFFIXES = {
    ".pdf": PDF,
    ".docx": DOCX,
    ".pptx": PPTX,
    ".xlsx": XLSX,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".epub": EPUB,
    ".eml": MAIL,
    ".csv": CSV,
    ".tsv": TSV,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".txt": TEXT,
    ".text": TEXT,
    ".log": TEXT,
    ".rst": TEXT,
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".webp": WEBP,
    ".tif": TIFF,
    ".tiff": TIFF,
}
LABELS = {
    PDF: "PDF",
    DOCX: "Word",
    PPTX: "PowerPoint",
    XLSX: "Excel",
    HTML: "HTML",
    EPUB: "EPUB",
    MAIL: "E-mail",
    CSV: "CSV",
    TSV: "TSV",
    MARKDOWN: "Markdown",
    TEXT: "Text",
    PNG: "PNG",
    JPEG: "JPEG",
    WEBP: "WebP",
    TIFF: "TIFF",
}

_OTHER_NAMES = {"application/xhtml+xml": HTML, "text/x-markdown": MARKDOWN, "application/csv": CSV}
_HEAD = 4096  # bytes by which text is told from all else
# What a zipped document holds and no other does. The main part's own name varies: Word online writes document2.xml.
_INNER = {DOCX: "word/", PPTX: "ppt/", XLSX: "xl/", EPUB: "META-INF/container.xml"}
_BEGINNINGS = {
    # Readers accept a PDF's header anywhere in its first 1024 bytes.
    PDF: re.compile(rb".{0,1019}%PDF-", re.DOTALL),
    PNG: re.compile(rb"\x89PNG\r\n\x1a\n"),
    JPEG: re.compile(rb"\xff\xd8\xff"),
    WEBP: re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    TIFF: re.compile(rb"II\*\0|MM\0\*"),
}
_PAGE = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)
_OLE = bytes.fromhex("D0CF11E0A1B11AE1")  # of the formats before 2007, and of newer ones with a password
_OLD = {".doc": ".docx", ".dot": ".docx", ".xls": ".xlsx", ".ppt": ".pptx", ".pps": ".pptx", ".rtf": ".docx"}
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # \x1b stays: logs are coloured


def media_type_of(name: str) -> str:
    """The media type that a file's name says. Raises UnsupportedType for one that says nothing we read."""
    suffix = PurePath(name).suffix.lower()
    media_type = SUFFIXES.get(suffix)
    if media_type is None:
        if suffix in _OLD:
            raise UnsupportedType(f"Old {suffix} files cannot be read. Save it as {_OLD[suffix]} and upload that.")
        raise UnsupportedType(f"Files of this kind cannot be read. Readable are {', '.join(sorted(SUFFIXES))}.")
    return media_type


def detect(name: str, content: IO[bytes]) -> str:
    """The media type, by the file's name and its content, which is read from its beginning.

    Raises as media_type_of() does; UnsupportedType too for content that is not what the name says; PayloadTooLarge for
    an archive that says it unpacks to too much.
    """
    media_type = media_type_of(name)
    content.seek(0)
    head = content.read(_HEAD)
    if media_type in _INNER:
        _check_archive(media_type, head, content)
    elif media_type in _BEGINNINGS:
        if not _BEGINNINGS[media_type].match(head):
            raise UnsupportedType(f"The file is named as {LABELS[media_type]}, but is something else.")
    elif head.startswith(b"%PDF-") or _CONTROL.search(decoded(head)):
        raise UnsupportedType(f"The file is named as text ({PurePath(name).suffix.lower()}), but is something else.")
    return media_type


def _check_archive(media_type: str, head: bytes, content: IO[bytes]) -> None:
    label = LABELS[media_type]
    if head.startswith(_OLE):
        raise UnsupportedType(
            f"The file is protected by a password, or is an old {label} file under a new name. "
            "Save it without a password in the current format."
        )
    wrong = UnsupportedType(f"The file is named as {label}, but is something else.")
    if not head.startswith(b"PK\x03\x04"):
        raise wrong
    try:
        names = [info.filename for info in archive.listing(content)]
    except TooMuch as e:
        raise PayloadTooLarge(str(e)) from e
    except Unreadable as e:
        raise UnsupportedType(str(e)) from e
    if not any(name.startswith(_INNER[media_type]) for name in names):
        raise wrong


def guess_suffix(name: str, media_type: str, content: IO[bytes]) -> str:
    """The suffix for what a server sent as `media_type` under an address that ends in `name`; empty if none fits.

    Servers send Markdown and CSV as plain text and archives as any bytes: then the name tells, then the content.
    """
    own = PurePath(name).suffix.lower()
    named = _OTHER_NAMES.get(media_type, media_type)
    if named in LABELS and named != TEXT:
        return own if SUFFIXES.get(own) == named else next(s for s, known in SUFFIXES.items() if known == named)
    if own in SUFFIXES:
        return own
    content.seek(0)
    return ".txt" if named == TEXT else _sniffed(content.read(_HEAD))


def _sniffed(head: bytes) -> str:
    if head.startswith(b"%PDF-"):
        return ".pdf"
    return ".html" if _PAGE.match(head) else ""
