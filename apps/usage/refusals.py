"""What somebody is told who may use no more: which limit, what is left of it, and when asking again may help."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from typing import Final

from chatbot.errors import ParleyError, QuotaExceeded, RateLimited
from chatbot.quota import COST_UNITS, KEPT, Amounts, Limit

# Seconds after which one of somebody's own questions may have ended. Spread, so that a crowd which was refused together
# does not come back together: others would wait behind it.
SOON: Final = (1.0, 4.0)
LONG: Final = 86_400.0  # seconds, where waiting alone does not help

_WHOSE = {
    "tenant": "This workspace",
    "assistant": "This assistant",
    "key": "This API key",
    "client": "This program",
    "scope": "What these credentials permit",
    "user": "This user",
    "visitor": "This visitor",
    "collection": "This collection",
}
_WHAT = {
    "requests": ("question", "questions"),
    "tokens": ("token", "tokens"),
    "cost": ("worth of answers", "worth of answers"),
    "turns": ("question at the same time", "questions at the same time"),
    "documents": ("document", "documents"),
    "bytes": ("of documents", "of documents"),
    "pages": ("page of documents", "pages of documents"),
    "ingestion": ("token of documents", "tokens of documents"),
}
WHEN = {"minute": " a minute", "hour": " an hour", "day": " a day", "month": " a month", "once": ""}


def refusal(limit: Limit, asked: Amounts, *, left: int, wait: float, named: bool = True) -> ParleyError:
    """wait: seconds until enough is free; 0 where nobody knows, below where it never is. named: whether the asker may
    know which limit it was, and how much it allows."""
    if wait < 0 or asked.of(limit.metric) > limit.most:
        advice, retry_after = "This question alone asks for more.", LONG
    elif limit.window == "once":
        advice, retry_after = "Please wait until another one has ended.", _soon()
    else:
        advice, retry_after = "Please try again later.", max(1.0, round(wait, 1))
    kind = RateLimited if limit.window in ("minute", "once") else QuotaExceeded
    if not named:
        return kind(f"No more questions can be answered here just now. {advice}", retry_after=retry_after)
    return kind(
        f"{words(limit)} {advice}",
        retry_after=retry_after,
        limit={
            "name": limit.name,
            "limit": in_its_unit(limit, limit.amount),
            "remaining": in_its_unit(limit, left),
            "reset": math.ceil(retry_after),
        },
    )


def _soon() -> float:
    return round(random.uniform(*SOON), 1)  # noqa: S311


def words(limit: Limit) -> str:
    """The limit as a sentence."""
    verb = "keep" if limit.metric in KEPT else "use"
    amount = shown(limit.metric, in_its_unit(limit, limit.amount))
    return f"{whose(limit.account.level)} may {verb} {amount} {what(limit.metric, limit.amount)}{WHEN[limit.window]}."


def whose(level: str) -> str:
    return _WHOSE[level]


def what(metric: str, amount: float | Decimal) -> str:
    """What there is so much of."""
    one, several = _WHAT[metric]
    return one if amount == 1 else several


def shown(metric: str, amount: float | Decimal) -> str:
    """An amount as people read it: 3 documents, 1.50 worth of answers, 20.0 MB of documents."""
    match metric:
        case "cost":
            return f"{amount:,.2f}"
        case "bytes":
            return of_bytes(int(amount))
    return f"{int(amount):,}"


def of_bytes(size: int) -> str:
    """A size in the largest unit of which it is one at least; of 1,000, as makers of disks reckon."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1_000:
            return f"{size:,} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"
        amount /= 1_000
    return f"{amount:,.1f} TB"


def full(limit: Limit, *, left: int) -> QuotaExceeded:
    """Where no more is to be kept. Waiting does not help, so nobody is told to."""
    return QuotaExceeded(
        f"{words(limit)} Delete some to make room.",
        limit={"name": limit.name, "limit": limit.amount, "remaining": max(0, left), "reset": None},
    )


def in_its_unit(limit: Limit, amount: int) -> float:
    """Money as money; everything else is a number of things."""
    return amount / COST_UNITS if limit.metric == "cost" else amount
