"""Tells clients where they stand, in the words of draft-ietf-httpapi-ratelimit-headers-11 and of OpenAI.

Whoever holds limits calls `add(response, limits)`; several may, one after the other, since the fields are lists. The
rate of an address and of a credential are added to each answer of the API by apps/access/limiting.py; quotas add theirs
in the same way:

    add(response, [Limit("tokens-a-day", quota=100_000, window=86_400, remaining=88_000, reset=3_600, unit="tokens")])

A refusal names the one that was reached: `RateLimited(retry_after=…, limit=limit.told())`.
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

    name: letters, digits and dashes; a client sees it, so it holds no key, id or hash. quota: units in a window.
    window: its seconds. remaining: units left. reset: seconds until all of the quota is there again. unit: what is
    counted; "requests", "content-bytes" and "concurrent-requests" are the draft's own words.
    """

    name: str
    quota: int
    window: float
    remaining: int
    reset: float
    unit: str = REQUESTS

    def told(self) -> dict[str, str | int]:
        """For the body of a 429."""
        left = max(0, self.remaining)
        return {"name": self.name, "limit": self.quota, "remaining": left, "reset": math.ceil(self.reset)}


def render(limits: Iterable[Limit]) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` for these limits: structured fields, an item for each. Empty without any."""
    told = list(limits)
    if not told:
        return {}
    return {
        "RateLimit-Policy": ", ".join(_policy(limit) for limit in told),
        "RateLimit": ", ".join(
            f'"{limit.name}";r={max(0, limit.remaining)};t={math.ceil(limit.reset)}' for limit in told
        ),
    }


def render_openai(limits: Iterable[Limit]) -> dict[str, str]:
    """`x-ratelimit-limit-requests` and so on: of each unit that OpenAI tells of, the limit with the least left."""
    told: dict[str, str] = {}
    for unit in _OPENAI_UNITS:
        if tightest := min((one for one in limits if one.unit == unit), key=lambda one: one.remaining, default=None):
            told[f"x-ratelimit-limit-{unit}"] = str(tightest.quota)
            told[f"x-ratelimit-remaining-{unit}"] = str(max(0, tightest.remaining))
            told[f"x-ratelimit-reset-{unit}"] = f"{math.ceil(tightest.reset)}s"
    return told


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
    return f'"{limit.name}";q={limit.quota}{unit};w={max(1, math.ceil(limit.window))}'
