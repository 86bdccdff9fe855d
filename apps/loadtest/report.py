"""The figures of a load test for people: a table for the terminal, and a page that needs nothing beside itself."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import mark_safe

from apps.loadtest.charts import Line, chart
from apps.loadtest.plan import Plan
from apps.loadtest.tally import PERCENTILES

_STYLE = Path(__file__).with_name("report.css")
CLOSED = (
    "Closed loop: each user waits for an answer before the next question, so a slow target is asked less, and the times"
    " tell nothing of those who would have come meanwhile."
)
OPEN = (
    "Open loop: conversations begin at their rate, whoever still waits, and their first questions are timed from when"
    " they were due."
)
_LATE_MS, _BUSY = 50.0, 0.8
_ALL = tuple(f"p{percent}" for percent in PERCENTILES)


def described(plan: Plan) -> dict[str, Any]:
    return {
        "loop": "open" if plan.opens else "closed",
        "mix": plan.mix,
        "stages": [{"level": stage.level, "seconds": stage.seconds} for stage in plan.stages],
        "think_seconds": plan.think,
        "turns": plan.turns,
        "leaves": plan.leaves,
        "stops": plan.stops,
        "verifies": plan.verifies,
        "patience_seconds": plan.patience,
    }


def table(told: dict[str, Any]) -> str:
    head = (
        f"\n{'':6}{'started':>8}{'finished':>9}{'refused':>8}{'failed':>7}{'broken':>7}{'cut':>6}"
        f"{'first token, ms':>34}{'between, ms':>18}{'whole, ms':>34}\n"
        f"{'':51}{'p50 / p90 / p95 / p99':>34}{'p50 / p99':>18}{'p50 / p90 / p95 / p99':>34}"
    )
    return "\n".join([head, *(_row(name, door) for name, door in told["doors"].items()), "", *remarks(told)])


def _counts(door: dict[str, Any]) -> list[int]:
    by_code = [sum(door[kind].values()) for kind in ("refused", "failed", "broken")]
    return [door["started"], door["finished"], *by_code, door["cut"]]


def _row(name: str, door: dict[str, Any]) -> str:
    columns = "".join(f"{count:{width}}" for count, width in zip(_counts(door), (8, 9, 8, 7, 7, 6), strict=True))
    return (
        f"{name:6}{columns}{_spread(door['first_ms'], _ALL):>34}{_spread(door['gap_ms'], ('p50', 'p99')):>18}"
        f"{_spread(door['whole_ms'], _ALL):>34}"
    )


def _spread(times: dict[str, float] | None, names: Sequence[str]) -> str:
    return " / ".join(f"{times[name]:.0f}" for name in names) if times else "–"


def remarks(told: dict[str, Any]) -> list[str]:
    """What a reader of the figures has to know, each in a sentence."""
    whole = told["all"]
    counts = (
        f"{whole['started_a_second']:.1f} asked and {whole['finished_a_second']:.1f} finished a second over"
        f" {told['seconds']:.0f} s; {whole['tokens']:,} tokens; {whole['stopped']} stopped on purpose; came back"
        f" {whole['came_back']} times; {whole['compared']} answers compared with what is stored,"
        f" {len(whole['differing'])} differ."
    )
    said = [OPEN if told["loop"] == "open" else CLOSED, counts]
    said += [
        f"{kind.capitalize()}: {', '.join(f'{count} {code}' for code, count in sorted(whole[kind].items()))}."
        for kind in ("refused", "failed", "broken")
        if whole[kind]
    ]
    if whole["differing"]:
        said.append(f"Stored otherwise than they were told: {', '.join(whole['differing'][:5])}.")
    return said + _of_the_generator(told)


def _of_the_generator(told: dict[str, Any]) -> list[str]:
    said = []
    if told["interrupted"]:
        said.append("Interrupted: these are the figures until then.")
    late = (told["generator"]["late_ms"] or {}).get("p99", 0.0)
    if late > _LATE_MS or told["generator_cpu"] > _BUSY:
        said.append(
            f"The load generator itself was {late:.0f} ms late (p99) and took {told['generator_cpu']:.0%} of a core:"
            " the times are its own as well. Spread the load over several of them."
        )
    if told["generator"]["unbegun"]:
        said.append(
            f"{told['generator']['unbegun']} conversations did not begin, since as many as there may be were going on."
        )
    return said


def html(told: dict[str, Any]) -> str:
    style = _STYLE.read_text(encoding="utf-8")
    # Whoever serves the page may allow nothing: its own policy lets in its own style, and nothing else.
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return render_to_string(
        "loadtest/report.html",
        {
            "told": told,
            "began": datetime.fromtimestamp(told["started"], UTC),
            "policy": f"default-src 'none'; style-src 'sha256-{digest}'",
            "style": mark_safe(style),  # noqa: S308 - a file of ours
            "tiles": _tiles(told),
            "charts": _charts(told),
            "doors": [_cells(name, door) for name, door in told["doors"].items()],
            "remarks": remarks(told),
        },
    )


def _tiles(told: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value, and how it is to be taken."""
    whole = told["all"]
    wrong = sum(whole["broken"].values()) + len(whole["differing"])
    firsts = [door["first_ms"]["p95"] for door in told["doors"].values() if door["first_ms"]]
    return [
        ("asked", f"{whole['started']:,}", ""),
        ("finished", f"{whole['finished'] / whole['started']:.1%}" if whole["started"] else "–", ""),
        ("refused", f"{sum(whole['refused'].values()):,}", ""),
        ("failed", f"{sum(whole['failed'].values()):,}", ""),
        ("broken", f"{wrong:,}", "bad" if wrong else "good"),
        ("first token, p95", f"{max(firsts):,.0f} ms" if firsts else "–", ""),
    ]


def _charts(told: dict[str, Any]) -> list[dict[str, Any]]:
    columns = told["series"]
    first = [column["first_ms"] or {} for column in columns]

    def line(name: str, mark: str, of: str) -> Line:
        return Line(name, mark, [column[of] for column in columns])

    drawn = {
        "Users at the same time": [line("users", "a", "users")],
        "Questions a second": [line("asked", "a", "asked"), line("finished", "b", "finished")],
        "First token, ms": [
            Line("p50", "a", [times.get("p50") for times in first]),
            Line("p95", "b", [times.get("p95") for times in first]),
        ],
        "Not answered, a second": [line("refused", "b", "refused"), line("failed or broken", "c", "wrong")],
    }
    at = [column["at"] for column in columns]
    return [chart(title, at, lines) for title, lines in drawn.items()]


def _cells(name: str, door: dict[str, Any]) -> dict[str, Any]:
    times = [_spread(door[kind], _ALL) for kind in ("first_ms", "gap_ms", "whole_ms")]
    return {"name": name, "counts": _counts(door), "times": times}
