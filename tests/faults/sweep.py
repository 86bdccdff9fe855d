"""Plays the fault catalogue again and again, each time at other moments, and tells of each row how it went.

    python -m tests.faults.sweep --times 20 --only 06

Each run is a pytest of its own, in which crowds and outages have the size that the catalogue names. The table of a
sweep of all rows is also written into docs/reliability.md, between two comments.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = ROOT / "tests" / "faults"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- the last sweep -->", "<!-- end of the last sweep -->"


@dataclass(frozen=True)
class Played:
    """One test of one run. recovery and promised: seconds, where the row tells them."""

    row: str
    outcome: str
    recovery: float | None = None
    promised: float | None = None


def files(only: str) -> list[Path]:
    """The rows' files, or those of one row. Exits where there is none such."""
    found = sorted(ROWS.glob(f"test_{only.zfill(2)}_*.py" if only else "test_*.py"))
    if not found:
        raise SystemExit(f"There is no row {only} in tests/faults.")
    return found


def play(paths: Iterable[Path], seed: int) -> list[Played]:
    """One run, whose output goes to the terminal."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-o", "junit_family=xunit1", "--junitxml", str(report)]
        environment = {**os.environ, "PARLEY_FAULTS_FULL": "1", "PARLEY_FAULTS_SEED": str(seed)}
        subprocess.run([*command, *map(str, paths)], cwd=ROOT, env=environment, check=False)
        if not report.exists():
            raise SystemExit("pytest ended without a report.")
        return [_played(case) for case in ET.parse(report).iter("testcase")]


def _played(case: ET.Element) -> Played:
    row = re.search(r"test_(\d\d)_", case.get("classname", "") + case.get("name", ""))
    wrong = next((name for name in ("failure", "error", "skipped") if case.find(name) is not None), "passed")
    told = {one.get("name", ""): float(one.get("value", "0")) for one in case.iter("property")}
    return Played(row[1] if row else "?", wrong, told.get("recovery"), told.get("promised"))


def table(played: Iterable[Played], names: Mapping[str, str]) -> str:
    """In Markdown, a line a row."""
    by_row = defaultdict(list)
    for one in played:
        by_row[one.row].append(one)
    lines = ["| row | what is done | runs | failed | slowest | promised |", "|---|---|---|---|---|---|"]
    for row, ones in sorted(by_row.items()):
        ran = [one for one in ones if one.outcome != "skipped"]
        failed = sum(one.outcome != "passed" for one in ran)
        slowest = _seconds(one.recovery for one in ran)
        promised = _seconds(one.promised for one in ran)
        lines.append(f"| {int(row)} | {names[row]} | {len(ran)} | {failed} | {slowest} | {promised} |")
    return "\n".join(lines)


def _seconds(told: Iterable[float | None]) -> str:
    return f"{max(known):.1f} s" if (known := [one for one in told if one is not None]) else ""


def titles() -> dict[str, str]:
    """Of each row what is done, from its file's name."""
    found = {}
    for path in sorted(ROWS.glob("test_*.py"), reverse=True):
        _, row, *words = path.stem.split("_")
        found[row] = " ".join(words)
    return found


def write_into_page(told: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{told}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Break what answers depend on while they run.")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--only", default="", help="a row's number")
    options = parser.parse_args()
    paths = files(options.only)
    played = [one for seed in range(options.times) for one in play(paths, seed)]
    told = table(played, titles())
    sys.stdout.write(f"\n{told}\n")
    if not options.only:
        write_into_page(told)
    if any(one.outcome in ("failure", "error") for one in played):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
