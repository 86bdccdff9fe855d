"""Runs the Python blocks of a page one after the other in one interpreter, as a reader does who pastes them into it.

Reads a file's path a line, and answers with a line: 0 if the block ended well. Blocks print to file descriptor 4, and
find in their environment what the page's shell has exported.
"""

from __future__ import annotations

import os
import sys
from code import InteractiveInterpreter
from pathlib import Path


class Session(InteractiveInterpreter):
    failed = False

    def showtraceback(self) -> None:
        self.failed = True
        super().showtraceback()

    def run(self, path: Path) -> bool:
        """Whether the block ended well."""
        self.failed = False
        exported = path.with_name(f"{path.name}.env").read_text().split("\0")
        os.environ.update(dict(pair.split("=", 1) for pair in exported if pair))
        self.runcode(compile(path.read_text(), path.name, "exec"))
        sys.stdout.flush()
        return not self.failed


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(4, 1)
    sys.path[0] = ""  # as in a terminal: the directory that it is in
    session = Session({"__name__": "__main__"})
    for line in sys.stdin:
        print(int(not session.run(Path(line.strip()))), file=answers, flush=True)


main()
