"""The file that a backup is: a tar of parts whose last part is the manifest, then the digest of all that.

    tables/<table>/<number>.copy     rows, as PostgreSQL's COPY writes them
    files/<name>                     what the storage keeps under that name
    manifest.json                    what was backed up, from where, and each part's size and SHA-256
    <64 hexadecimal digits>          after the tar's end, where tar looks at nothing: SHA-256 of every byte before

`tar tf` lists it. The digest at the end tells of a change in any byte, a tar's padding included, and of a missing end.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

FORMAT = 1
MANIFEST = "manifest.json"
KEYS = {"parley", "environment", "made", "migrations", "secrets", "tables", "sequences", "missing", "parts"}
TRAILER = 65  # bytes: the digest's digits and a line feed
BLOCK = 1024 * 1024


class BackupError(Exception):
    """One sentence for the person at the terminal: why no backup was made, or why this one is not restored."""


class _Hashed(io.RawIOBase):
    """Hashes what passes through: written to `file`, or read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def _seen(self, data: Any) -> None:
        self.digest.update(data)
        self.size += len(data)

    def write(self, data: Any) -> int:
        self._seen(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.size

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self._seen(data)
        return data


class Writer:
    """Writes parts one after the other, none of which it keeps in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._out = _Hashed(file)
        self._tar = tarfile.open(fileobj=self._out, mode="w:")  # noqa: SIM115 - closed by finish
        self._parts: list[dict[str, Any]] = []

    def add(self, name: str, content: IO[bytes], size: int) -> None:
        """Raises OSError where `content` ends before `size` bytes."""
        hashed = _Hashed(content)
        self._put(name, hashed, size)
        self._parts.append({"name": name, "size": size, "sha256": hashed.digest.hexdigest()})

    def _put(self, name: str, content: IO[bytes] | _Hashed, size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        self._tar.addfile(info, content)
        self._tar.members = []  # type: ignore[attr-defined]  # it would remember every part

    def finish(self, manifest: dict[str, Any]) -> None:
        text = json.dumps({"format": FORMAT, **manifest, "parts": self._parts}, indent=1).encode()
        self._put(MANIFEST, io.BytesIO(text), len(text))
        self._tar.close()
        self._out.file.write(f"{self._out.digest.hexdigest()}\n".encode())


class Archive:
    """A backup whose every byte was found to be as it was written. Raises BackupError for any other."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        try:
            _check_digest(self._file, path)
            self.manifest = self._check_parts(path)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def _members(self) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
        self._file.seek(0)
        with tarfile.open(fileobj=self._file, mode="r:") as tar:
            while info := tar.next():
                if not info.isreg():
                    raise BackupError(f"The backup holds {info.name}, which is no plain file.")
                content = tar.extractfile(info)
                if content:
                    yield info, content
                tar.members = []  # type: ignore[attr-defined]

    def _check_parts(self, path: Path) -> dict[str, Any]:
        """The manifest, once the parts before it proved to be those that it lists, in that order."""
        found: list[tuple[str, int]] = []
        text = b""
        try:
            for info, content in self._members():
                found.append((info.name, info.size))
                if info.name == MANIFEST:
                    text = content.read()
            manifest = json.loads(text)
            told = manifest["format"]
            if told == FORMAT:
                listed = [(part["name"], part["size"]) for part in manifest["parts"]]
                _check_names([name for name, _ in listed])
                if found[:-1] == listed and found[-1][0] == MANIFEST and manifest.keys() >= KEYS:
                    return dict(manifest)
        except (tarfile.TarError, ValueError, LookupError, TypeError) as error:
            raise BackupError(f"{path} is no backup that Parley made.") from error
        if told != FORMAT:
            raise BackupError(f"{path} has format {told!r}, and this Parley reads {FORMAT}: use the one that made it.")
        raise BackupError(f"{path} does not hold the parts that its manifest lists.")

    def parts(self) -> Iterator[tuple[str, IO[bytes]]]:
        """Each part with its content. Raises BackupError where one is not what the manifest says."""
        for part, (info, content) in zip(self.manifest["parts"], self._members(), strict=False):
            hashed = _Hashed(content)
            yield info.name, hashed  # type: ignore[misc]
            while hashed.read(BLOCK):
                pass
            if hashed.digest.hexdigest() != part["sha256"]:
                raise BackupError(f"{info.name} in the backup is not what the manifest says.")


def _check_digest(file: IO[bytes], path: Path) -> None:
    size = file.seek(0, os.SEEK_END) - TRAILER
    file.seek(max(size, 0))
    trailer = file.read()
    file.seek(0)
    if size <= 0 or not trailer.endswith(b"\n") or not set(trailer[:-1]) <= set(b"0123456789abcdef"):
        raise BackupError(f"{path} is no backup of Parley, or its end is missing.")
    digest = hashlib.sha256()
    while size and (block := file.read(min(BLOCK, size))):
        digest.update(block)
        size -= len(block)
    if digest.hexdigest().encode() != trailer[:-1]:
        raise BackupError(f"{path} is damaged: its bytes are not those that were written.")


def _check_names(names: list[str]) -> None:
    """Names that lead somewhere else than into the storage are nobody's backup."""
    for name in names:
        kind, _, rest = name.partition("/")
        steps = rest.split("/")
        if kind not in ("tables", "files") or not all(steps) or {".", ".."} & set(steps) or "\\" in name:
            raise BackupError(f"The backup holds {name!r}, which no backup of Parley holds.")
    if len(set(names)) < len(names):
        raise BackupError("The backup holds a part twice.")
