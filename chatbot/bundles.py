"""The files in an uploaded ZIP, one after another: names that are no paths, within a count and a size."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from chatbot.errors import ParleyError, PayloadTooLarge, UnsupportedType
from chatbot.readers import TooMuch, Unreadable, archive

SUFFIX = ".zip"
MAX_MEMBERS = 200
_ENCRYPTED = 0x1
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


@dataclass(frozen=True, slots=True)
class Member:
    """name: as the archive has it, for people to read. refusal: why there is no content."""

    name: str
    content: bytes
    refusal: ParleyError | None = None


def members(file: IO[bytes], *, max_bytes: int, max_total: int) -> Iterator[Member]:
    """Each file in it; what systems put there for themselves is left out.

    max_bytes: of one file, unpacked; max_total: of all. Raises UnsupportedType for what is no archive, PayloadTooLarge
    for one that says it holds too much, before anything of it is unpacked.
    """
    infos = _listed(file)
    if sum(info.file_size for info in infos) > max_total:
        raise PayloadTooLarge(f"The archive unpacks to more than {max_total / 2**20:.4g} MiB.")
    left = max_total
    with zipfile.ZipFile(file) as opened:
        for info in infos:
            member = _member(opened, info, min(max_bytes, left))
            left -= len(member.content)
            yield member


def _listed(file: IO[bytes]) -> list[zipfile.ZipInfo]:
    try:
        archive.check_length(file)
        with zipfile.ZipFile(file) as opened:
            infos = [info for info in opened.infolist() if not info.is_dir() and not _is_litter(info.filename)]
    except TooMuch as e:
        raise PayloadTooLarge("The archive lists more files than are looked at.") from e
    except (Unreadable, zipfile.BadZipFile, OSError, ValueError, OverflowError, NotImplementedError) as e:
        raise UnsupportedType("The file is named as a ZIP, but is none, or is damaged.") from e
    if not infos:
        raise UnsupportedType("The archive holds no files.")
    if len(infos) > MAX_MEMBERS:
        raise PayloadTooLarge(f"The archive holds {len(infos):,} files. At most {MAX_MEMBERS} are taken at once.")
    return infos


def _is_litter(name: str) -> bool:
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> Member:
    name = info.filename

    def refused(why: ParleyError) -> Member:
        return Member(name, b"", why)

    if name.lower().endswith(SUFFIX):
        return refused(UnsupportedType("An archive within an archive is not opened. Upload it by itself."))
    if info.flag_bits & _ENCRYPTED:
        return refused(UnsupportedType("The file is protected by a password."))
    if info.compress_type not in _METHODS:
        return refused(UnsupportedType("The file is packed in a way that is not read. Pack it as an ordinary ZIP."))
    try:
        # What it says of its size is not believed.
        with opened.open(info) as part:
            content = part.read(limit + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError, OSError):
        return refused(UnsupportedType("The file is damaged: it cannot be unpacked."))
    if len(content) > limit:
        return refused(PayloadTooLarge(f"The file unpacks to more than {limit / 2**20:.4g} MiB."))
    return Member(name, content)
