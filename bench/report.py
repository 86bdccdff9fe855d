"""What a run showed, as numbers for the JSON file and as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.client import Profile, Tally
from bench.machine import Meter


@dataclass(frozen=True)
class Row:
    """One profile through one door. First tokens and lateness in milliseconds, both as the client saw them."""

    profile: str
    door: str
    streams: int
    tokens: int
    errors: int
    first_p50: float
    first_p99: float
    late_p50: float
    late_p99: float
    cpu_us_a_token: float  # everything included, authentication, search and storing too
    cpu_ms_an_answer: float
    tokens_a_read: float  # how many arrived together; the more, the cheaper each
    tokens_a_cpu_second: float  # while all streams flow, where they do so at once; else over the whole run
    error: str  # the first one


def row(profile: Profile, door: str, tally: Tally, meter: Meter) -> Row:
    cpu = meter.seconds[-1] - meter.seconds[0]
    return Row(
        profile=profile.name,
        door=door,
        streams=profile.streams,
        tokens=tally.tokens,
        errors=len(tally.errors),
        first_p50=percentile(tally.first_us, 50) / 1000,
        first_p99=percentile(tally.first_us, 99) / 1000,
        late_p50=percentile(tally.late_us, 50) / 1000,
        late_p99=percentile(tally.late_us, 99) / 1000,
        cpu_us_a_token=cpu / max(tally.tokens, 1) * 1e6,
        cpu_ms_an_answer=cpu / profile.questions * 1000,
        tokens_a_read=tally.tokens / max(len(tally.arrivals), 1),
        tokens_a_cpu_second=_steady(profile, tally, meter) or tally.tokens / max(cpu, 1e-9),
        error=tally.errors[0] if tally.errors else "",
    )


def _steady(profile: Profile, tally: Tally, meter: Meter) -> float:
    """Tokens for a second of CPU while all answers flow, from one common moment to the first one's end."""
    start, end = tally.flows_at, min((last for _, last in tally.spans), default=0)
    if not profile.hold or max((first for first, _ in tally.spans), default=end) > start:
        return 0.0  # nothing waited, or somebody still did when the rest began
    cpu = meter.between(start, end)
    return sum(count for at, count in tally.arrivals if start < at <= end) / cpu if cpu else 0.0


def percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] if ordered else float("nan")


_HEAD = (
    f"{'profile':8} {'door':11} {'errors':>6} {'first token, ms':>17} {'late, ms':>15} "
    f"{'µs CPU':>8} {'ms CPU':>9} {'tokens':>7} {'tokens a':>8} {'to bare':>8}\n"
    f"{'':8} {'':11} {'':>6} {'p50 / p99':>17} {'p50 / p99':>15} "
    f"{'a token':>8} {'an answer':>9} {'a read':>7} {'CPU-s':>8} {'':>8}"
)


def table(rows: Sequence[Row]) -> str:
    """Times are as the client saw them; the rows `direct` show what of them is the mock's, the client's and the
    machine's own."""
    lines = [_HEAD]
    for one in rows:
        bare = _same(rows, one, one.door.replace("parley", "bare"))
        ratio = f"{one.tokens_a_cpu_second / bare.tokens_a_cpu_second:8.0%}" if bare and bare is not one else ""
        lines.append(
            f"{one.profile:8} {one.door:11} {one.errors:6} {one.first_p50:8.1f} / {one.first_p99:6.1f} "
            f"{one.late_p50:6.2f} / {one.late_p99:6.2f} {one.cpu_us_a_token:8.0f} {one.cpu_ms_an_answer:9.1f} "
            f"{one.tokens_a_read:7.1f} {one.tokens_a_cpu_second:8.0f} {ratio}"
            + (f"  first error: {one.error}" if one.error else "")
        )
    return "\n".join(lines)


def _same(rows: Sequence[Row], row: Row, door: str) -> Row | None:
    return next((other for other in rows if other.profile == row.profile and other.door == door), None)


def plain(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [asdict(one) for one in rows]
