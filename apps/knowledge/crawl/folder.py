"""Files in a folder below PARLEY_SOURCE_FOLDERS. No path leaves it: links are not followed, not even upwards to it.

Every step of a path is opened below the one before, so that nothing exchanged meanwhile leads elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
    """Files below the folder, by their paths in it; hidden ones are left out. Raises FolderUnavailableError, also where
    a folder below cannot be opened: what is in it is not gone."""
    with _folder(location) as folder:
        try:
            return list(islice(_walk(folder), most))
        except OSError as error:
            raise FolderUnavailableError(f"A folder below cannot be read: {error.strerror}.") from error


def _walk(folder: int) -> Iterator[Found]:
    for path, directories, names, here in os.fwalk(".", onerror=_refuse, dir_fd=folder, follow_symlinks=False):
        directories[:] = sorted(name for name in directories if _is_shown(name))
        for name in sorted(filter(_is_shown, names)):
            try:
                found = os.stat(name, dir_fd=here, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode):
                yield Found(str(PurePosixPath(path, name)), f"{found.st_size}-{found.st_mtime_ns}")


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # that one was deleted meanwhile
        raise error


def _is_shown(name: str) -> bool:
    """Not hidden, and of a name that can be written down."""
    return not name.startswith(".") and name.isprintable()


@contextmanager
def opened(location: str, path: str) -> Iterator[IO[bytes]]:
    """A file of the folder. Raises FolderUnavailableError, and FileNotFoundError for what is none, or is a link."""
    *directories, name = PurePosixPath(path).parts
    with _folder(location) as folder:
        try:
            with _directory(folder, directories) as last:
                file = os.open(name, _FILE, dir_fd=last)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                raise FileNotFoundError(errno.ENOENT, "This is a link.") from error
            raise
        with open(file, "rb") as content:  # noqa: PTH123 - a descriptor
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise FileNotFoundError(errno.ENOENT, "This is no file.")
            yield content


@contextmanager
def _folder(location: str) -> Iterator[int]:
    names = PurePosixPath(location).parts
    if not settings.PARLEY_SOURCE_FOLDERS or ".." in names:
        raise FolderUnavailableError
    with ExitStack() as stack:
        try:
            root = os.open(settings.PARLEY_SOURCE_FOLDERS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, root)
            folder = stack.enter_context(_directory(root, names))
        except OSError as error:
            raise FolderUnavailableError from error
        yield folder


@contextmanager
def _directory(folder: int, names: Sequence[str]) -> Iterator[int]:
    """The one that these lead to, step by step. An absolute name would lead out of the folder, and is none here."""
    here = os.dup(folder)
    try:
        for name in names:
            above, here = here, os.open(f"./{name}", _DIRECTORY, dir_fd=here)
            os.close(above)
        yield here
    finally:
        os.close(here)
