"""The parts of text in a zipped document: nothing else of it is unpacked, and no name in it is followed."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import IO

from chatbot.readers import TooMuch, Unreadable

# A list of parts as long as this describes some 10,000 of them; what zipfile makes of it takes 20 MB.
LISTING_BYTES = 1 << 20
UNPACKED_BYTES = 100 << 20  # of all parts of text; what a parser makes of them must fit into Limits.memory_mb

_TEXT = (".xml", ".rels", ".xhtml", ".html", ".htm", ".opf", ".ncx")
_END, _END_BYTES, _LONGEST_COMMENT = b"PK\x05\x06", 22, 0xFFFF  # APPNOTE.TXT, 4.3.16
_LOCATOR, _LOCATOR_BYTES = b"PK\x06\x07", 20  # of the record of archives beyond 4 GB, 4.3.15
_ENCRYPTED = 0x1
_DAMAGED = "The file is damaged: it cannot be unpacked."
_TOO_MUCH = f"The file unpacks to more than {UNPACKED_BYTES >> 20} MB of text."


def listing(file: IO[bytes]) -> list[zipfile.ZipInfo]:
    """The parts of text and how large they say they are; nothing is unpacked. Raises Unreadable and TooMuch."""
    check_length(file)
    try:
        with zipfile.ZipFile(file) as archive:
            infos = [info for info in archive.infolist() if _is_text(info.filename)]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as e:
        raise Unreadable(_DAMAGED) from e
    if any(info.flag_bits & _ENCRYPTED for info in infos):
        raise Unreadable("The file is protected by a password. Remove the password and upload it again.")
    if sum(info.file_size for info in infos) > UNPACKED_BYTES:
        raise TooMuch(_TOO_MUCH)
    return infos


def text_parts(data: bytes) -> dict[str, bytes]:
    """The parts of text by their names, which are words and no paths; none defines entities. Raises Unreadable and
    TooMuch.
    """
    infos = listing(io.BytesIO(data))
    parts: dict[str, bytes] = {}
    left = UNPACKED_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in infos:
                # What a part says of its size is not believed.
                with archive.open(info) as part:
                    parts[info.filename] = part.read(left + 1)
                left -= len(parts[info.filename])
                if left < 0:
                    raise TooMuch(_TOO_MUCH)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as e:
        raise Unreadable(_DAMAGED) from e
    # XML that defines words of its own: no program writes such documents, only attackers do.
    if any(b"<!ENTITY" in part or b"<\0!\0E\0N\0T\0I\0T\0Y" in part for part in parts.values()):
        raise Unreadable("The file is not an ordinary document: its XML defines entities.")
    return parts


def packed(parts: Mapping[str, bytes]) -> bytes:
    """The parts as an archive that unpacks to no more than its own size."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def _is_text(name: str) -> bool:
    path = PurePosixPath(name)
    return name.lower().endswith(_TEXT) and ".." not in path.parts and not path.is_absolute() and "\\" not in name


def check_length(file: IO[bytes]) -> None:
    """zipfile reads the list of parts whole, however long: look at what the end of the file says of it first."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _LONGEST_COMMENT - _END_BYTES - _LOCATOR_BYTES))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise Unreadable(_DAMAGED)
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    if length > LISTING_BYTES or tail[:at][-_LOCATOR_BYTES:].startswith(_LOCATOR):
        raise TooMuch("The file holds more parts than a document has.")
