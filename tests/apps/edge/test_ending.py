"""Whether a worker has been told to end, as its processes see it."""

from __future__ import annotations

import subprocess
import sys

from tests.environment import ROOT

FORKED = """
import os
from apps.edge import ending

assert not ending.has_begun()
hears, tells = os.pipe()
child = os.fork()
if child == 0:
    os.read(hears, 1)
    os._exit(0 if ending.has_begun() else 1)
ending.begin()
os.write(tells, b"!")
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_processes_that_were_forked_before_hear_of_it() -> None:
    subprocess.run([sys.executable, "-c", FORKED], check=True, cwd=ROOT, timeout=60)
