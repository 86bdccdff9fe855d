"""Who asks a model server, and what is told to those who wait for a place at one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum


class Rank(IntEnum):
    """What a question is for. Where not all can be served, the lowest goes first."""

    INGESTION = 0
    RERANKING = 1
    VISITOR = 2
    INTERACTIVE = 3


@dataclass(frozen=True, slots=True)
class Waiting:
    """Both are approximate. `position` counts from 1 and may rise, since tenants take turns; `seconds` is None where
    nothing has been measured yet."""

    position: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Asker:
    """tenant: an opaque name. share: its weight among tenants, above zero. on_wait: called on the event loop when the
    question begins to wait and whenever its place changes. on_waking: called with the state of a rented server that is
    started for the question, at once and every few seconds. Neither may raise or block."""

    tenant: str = ""
    share: float = 1.0
    rank: Rank = Rank.INTERACTIVE
    on_wait: Callable[[Waiting], None] | None = None
    on_waking: Callable[[str], None] | None = None
