"""The log does not wait for whoever should take it, and says how much nobody took."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from apps.edge import lines
from apps.edge.lines import Lines
from apps.edge.metrics import LOG_LINES_DROPPED
from tests.environment import ROOT

SMALL = 4096  # bytes, the least that a pipe holds


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may give the thread that writes no time for a second."""
    monkeypatch.setattr(lines, "PATIENCE", 60.0)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that nobody reads yet: where to read and where to write."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SMALL)
    yield reader, writer
    for descriptor in (reader, writer):
        with suppress(OSError):
            os.close(descriptor)


@pytest.fixture
def dropped() -> Callable[[], float]:
    """How many lines were dropped in this test."""
    before = LOG_LINES_DROPPED._value.get()
    return lambda: LOG_LINES_DROPPED._value.get() - before


def told(handler: Lines, *sentences: str) -> None:
    for sentence in sentences:
        handler.handle(logging.makeLogRecord({"msg": sentence}))


def read(descriptor: int, lines: int) -> list[str]:
    """So many lines, as soon as they are there."""
    text = b""
    while text.count(b"\n") < lines:
        text += os.read(descriptor, 65536)
    return text.decode().splitlines()


def test_a_pipe_that_nobody_reads_holds_nobody_up(pipe: tuple[int, int], dropped: Callable[[], float]) -> None:
    reader, writer = pipe
    handler = Lines(writer, most=10 * SMALL)
    sentences = [f"{number:063}" for number in range(2000)]
    told(handler, *sentences)  # would never return if it waited
    assert dropped() >= 2000 - 11 * SMALL // 64
    kept = int(2000 - dropped())
    written = read(reader, kept)
    # What the pipe took at once made room for a few that came later.
    assert written[: 10 * SMALL // 64] == sentences[: 10 * SMALL // 64], "the first ones"
    assert written == sorted(set(written)), "in order, and none twice"
    handler.flush()
    told(handler, "there is room again")
    assert read(reader, 1) == ["there is room again"]


def test_a_full_disk_loses_lines_and_nothing_else(dropped: Callable[[], float]) -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    handler = Lines(descriptor)
    told(handler, "one", "two", "three")
    handler.flush()
    assert dropped() == 3
    os.close(descriptor)


def test_what_follows_a_torn_line_is_whole(pipe: tuple[int, int], dropped: Callable[[], float]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)  # so that it takes a part and fails, as a disk that is almost full
    handler = Lines(writer)
    told(handler, "x" * 3 * SMALL)
    handler.flush()
    told(handler, "lost as a whole")
    handler.flush()
    assert dropped() == 2
    assert os.read(reader, 65536) == b"x" * SMALL
    told(handler, "whole")
    assert read(reader, 2) == ["", "whole"]


def test_whoever_has_gone_is_not_waited_for(pipe: tuple[int, int], dropped: Callable[[], float]) -> None:
    reader, writer = pipe
    os.close(reader)
    handler = Lines(writer)
    told(handler, "to nobody")
    handler.flush()
    assert dropped() == 1


def test_a_forked_process_tells_its_own_and_nothing_twice(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handler = Lines(writer)
    told(handler, *("before" for _ in range(20)))
    if not (child := os.fork()):
        told(handler, "of the child")
        handler.flush()
        os._exit(0)
    os.waitpid(child, 0)
    told(handler, "after")
    assert sorted(read(reader, 22)) == ["after", *["before"] * 20, "of the child"]


def test_processes_that_share_a_pipe_do_not_tear_each_others_lines(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handler = Lines(writer)
    sentences = [letter * length for letter in "ab" for length in (200, SMALL, 3 * SMALL)] * 50
    children = []
    for letter in "ab":
        if not (child := os.fork()):
            told(handler, *(sentence for sentence in sentences if sentence[0] == letter))
            while handler._held:
                handler.flush()
            os._exit(0)
        children.append(child)
    assert sorted(read(reader, len(sentences))) == sorted(sentences)
    for child in children:
        os.waitpid(child, 0)


def test_lines_wait_for_a_thread_where_none_can_be_had(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handler = Lines(writer)
    threading.stack_size(2**47)  # more than there is room for
    try:
        told(handler, "one", "two")
    finally:
        threading.stack_size(0)
    told(handler, "three")
    handler.flush()
    assert os.read(reader, SMALL) == b"one\ntwo\nthree\n"


PROGRAM = """
import django
django.setup()
import structlog
for number in range(100):
    structlog.get_logger("some").info("something.done", number=number)
"""


def test_a_process_says_its_last_word_before_it_ends() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, stderr=subprocess.PIPE, check=True)
    assert done.stderr.count(b'"event": "something.done"') == 100


def test_a_process_ends_though_nobody_takes_its_last_word(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    os.write(writer, bytes(SMALL))
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, stderr=writer, check=True, timeout=60)


def test_a_line_of_broken_text_is_written_all_the_same(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        handler = Lines(file.fileno())
        told(handler, "half a pair \ud800")
        handler.flush()
    assert (tmp_path / "log").read_text() == "half a pair \\ud800\n"
