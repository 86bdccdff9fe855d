"""What a check of `manage.py doctor` finds. The checks stand in each app's doctor.py; apps.ops.doctor lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """advice: what to do about it."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    says: str
    advice: str = ""


def ok(subject: str, says: str) -> Finding:
    return Finding("ok", subject, says)


def warn(subject: str, says: str, advice: str) -> Finding:
    return Finding("warn", subject, says, advice)


def fail(subject: str, says: str, advice: str) -> Finding:
    return Finding("fail", subject, says, advice)
