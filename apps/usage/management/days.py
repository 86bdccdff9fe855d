"""Days on a command line."""

from __future__ import annotations

import datetime as dt
from argparse import ArgumentTypeError


def day(text: str) -> dt.date:
    """An argument's type."""
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no day like 2026-03-01.") from error
