"""Times, sizes and durations as the admin says them: for people, with units, exact values in a tooltip."""

from __future__ import annotations

import datetime as dt

from django.contrib.humanize.templatetags.humanize import intcomma, naturaltime
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.html import format_html

SECOND = 1000  # milliseconds
NOTHING = "–"


def ago(when: dt.datetime | None, never: str = NOTHING) -> str:
    """ "3 minutes ago", with the exact time in a tooltip."""
    if when is None:
        return never
    exact = timezone.localtime(when)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        exact.isoformat(),
        f"{exact:%d %B %Y, %H:%M:%S %Z}",
        naturaltime(when),
    )


def number(count: int | None) -> str:
    return NOTHING if count is None else str(intcomma(count))


def duration(milliseconds: float | None) -> str:
    """ "84 ms", "2.3 s"."""
    if milliseconds is None:
        return NOTHING
    return f"{milliseconds:.0f} ms" if milliseconds < SECOND else f"{milliseconds / SECOND:.1f} s"


def size(count: int | None) -> str:
    return NOTHING if count is None else str(filesizeformat(count))
