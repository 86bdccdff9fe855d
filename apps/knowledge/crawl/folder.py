"""Files in a folder below PARLEY_SOURCE_FOLDERS. No path leaves it: links are not followed, not even upwards to it.

Every step of a path is opened below the one before, so that nothing exchanged meanwhile leads elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePosixPath
from typing import IO

from django.conf import settings

from apps.knowledge.crawl.frontier import Found
from chatbot.errors import ExtractionFailed

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe would be waited for


class FolderUnavailableError(ExtractionFailed):
    code = "folder_unavailable"
    default_message = "The folder is not there, or may not be read, or is none of those that the operator shares."


def files_in(location: str, most: int) -> list[Found]:
    """Files below the folder, by their paths in it; hidden ones are left out. Raises FolderUnavailableError."""
    with _folder(location) as folder:
        return list(islice(_walk(folder), most))


def _walk(folder: int) -> Iterator[Found]:
    for path, directories, names, here in os.fwalk(".", dir_fd=folder, follow_symlinks=False):
        directories[:] = sorted(name for name in directories if _is_shown(name))
        for name in sorted(filter(_is_shown, names)):
            try:
                found = os.stat(name, dir_fd=here, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode):
                yield Found(str(PurePosixPath(path, name)), f"{found.st_size}-{found.st_mtime_ns}")


def _is_shown(name: str) -> bool:
    """Not hidden, and of a name that can be written down."""
    return not name.startswith(".") and name.isprintable()


@contextmanager
def opened(location: str, path: str) -> Iterator[IO[bytes]]:
    """A file of the folder. Raises FolderUnavailableError, FileNotFoundError."""
    *directories, name = PurePosixPath(path).parts
    with _folder(location) as folder, _below(folder, directories) as last:
        try:
            file = os.open(name, _FILE, dir_fd=last)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise FileNotFoundError(errno.ENOENT, "This is a link.") from error
            raise
        with open(file, "rb") as content:  # noqa: PTH123 - a descriptor
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise FileNotFoundError(errno.ENOENT, "This is no file.")
            yield content


@contextmanager
def _folder(location: str) -> Iterator[int]:
    if not settings.PARLEY_SOURCE_FOLDERS:
        raise FolderUnavailableError
    try:
        root = os.open(settings.PARLEY_SOURCE_FOLDERS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FolderUnavailableError from error
    try:
        with _below(root, PurePosixPath(location).parts) as folder:
            yield folder
    except (NotADirectoryError, PermissionError) as error:
        raise FolderUnavailableError from error
    finally:
        os.close(root)


@contextmanager
def _below(folder: int, names: list[str] | tuple[str, ...]) -> Iterator[int]:
    here = os.dup(folder)
    try:
        for name in names:
            if name in {"..", "/"}:
                raise FolderUnavailableError
            above, here = here, os.open(name, _DIRECTORY, dir_fd=here)
            os.close(above)
        yield here
    finally:
        os.close(here)
