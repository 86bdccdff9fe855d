"""Tells clients where they stand, in the words of draft-ietf-httpapi-ratelimit-headers-11 and of OpenAI.

Whoever holds limits calls `add(response, limits)`; several may, one after the other, since the fields are lists. The
rate of an address and of a credential are added to each answer of the API by apps/access/limiting.py; the doors where
questions are asked add what their limits leave:

    add(response, [Limit("tenant.tokens.day", quota=10_000, window=86_400, remaining=880, reset=3_600, unit="tokens")])

A refusal names the one that was reached: `RateLimited(retry_after=…, limit=limit.told())`; what its `standing` tells is
in its headers, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from django.http.response import HttpResponseBase

REQUESTS = "requests"  # the draft's unit where none is told
_OPENAI_UNITS = (REQUESTS, "tokens")  # what OpenAI's own headers exist for
_OPENAI_PATHS = "/v1/"


@dataclass(frozen=True, slots=True)
class Limit:
    """One named limit and where the caller stands.

    name: letters, digits, dots and dashes; a client sees it, so it holds no key, id or hash. quota: units in a window.
    window: its seconds. remaining: units left. reset: seconds until all of the quota is there again. Of what counts at
    the same time there is neither. unit: what is counted; "requests", "content-bytes" and "concurrent-requests" are the
    draft's own words. scale: so many units are one of what people count: the draft knows whole numbers only.
    """

    name: str
    quota: int
    window: float | None
    remaining: int
    reset: float | None
    unit: str = REQUESTS
    scale: int = 1

    def told(self) -> dict[str, str | float]:
        """For the body of a 429, and for frames."""
        left = max(0, self.remaining)
        if self.scale != 1:
            said: dict[str, str | float] = {"limit": self.quota / self.scale, "remaining": left / self.scale}
        else:
            said = {"limit": self.quota, "remaining": left}
        return {"name": self.name, **said} | ({} if self.reset is None else {"reset": math.ceil(self.reset)})


def render(limits: Iterable[Limit]) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` for these limits: structured fields, an item for each. Empty without any."""
    told = list(limits)
    if not told:
        return {}
    return {
        "RateLimit-Policy": ", ".join(_policy(limit) for limit in told),
        "RateLimit": ", ".join(_standing(limit) for limit in told),
    }


def render_openai(limits: Iterable[Limit]) -> dict[str, str]:
    """`x-ratelimit-limit-requests` and so on: of each unit that OpenAI tells of, the limit with the least left."""
    told: dict[str, str] = {}
    for unit in _OPENAI_UNITS:
        if tightest := min((one for one in limits if one.unit == unit), key=lambda one: one.remaining, default=None):
            told[f"x-ratelimit-limit-{unit}"] = str(tightest.quota)
            told[f"x-ratelimit-remaining-{unit}"] = str(max(0, tightest.remaining))
            told[f"x-ratelimit-reset-{unit}"] = _duration(math.ceil(tightest.reset or 0))
    return told


def _duration(seconds: int) -> str:
    """As OpenAI writes it: 45s, 6m0s, 17h24m0s."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def add(response: HttpResponseBase, limits: Iterable[Limit], *, path: str = "") -> None:
    """Tell of these limits in a response, after those that it tells of already.

    path: the request's; below /v1/ OpenAI's headers are set, too, unless somebody with less left has set them.
    """
    limits = list(limits)
    for name, value in render(limits).items():
        response[name] = f"{response[name]}, {value}" if name in response else value
    if path.startswith(_OPENAI_PATHS):
        _add_openai(response, render_openai(limits))


def _add_openai(response: HttpResponseBase, told: dict[str, str]) -> None:
    for unit in _OPENAI_UNITS:
        left = f"x-ratelimit-remaining-{unit}"
        if left in told and (left not in response or int(told[left]) < int(response[left])):
            for name in (f"x-ratelimit-{what}-{unit}" for what in ("limit", "remaining", "reset")):
                response[name] = told[name]


def _policy(limit: Limit) -> str:
    unit = f';qu="{limit.unit}"' if limit.unit != REQUESTS else ""
    window = "" if limit.window is None else f";w={max(1, math.ceil(limit.window))}"
    return f'"{limit.name}";q={limit.quota}{unit}{window}'


def _standing(limit: Limit) -> str:
    reset = "" if limit.reset is None else f";t={math.ceil(limit.reset)}"
    return f'"{limit.name}";r={max(0, limit.remaining)}{reset}'
