"""Whether a target can be tested at all: each thing that is wrong with it is said in a sentence before anybody asks."""

from __future__ import annotations

import asyncio
import resource
from urllib.parse import urlsplit

import aiohttp
import orjson

from apps.loadtest.doors import Conversation, Target, TurnedAway
from apps.loadtest.plan import BadPlan

SPARE_FILES = 64
FILES_A_USER = 2  # its socket or stream, and a connection for short requests
SECONDS = 20.0  # for all that is asked first


class BadTarget(Exception):
    """The message is for whoever named it."""


def address(text: str) -> str:
    """Raises BadTarget unless it is http:// or https:// and a host."""
    try:
        parts = urlsplit(text.rstrip("/"))
        named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        named = False
    if not named or f"{parts.scheme}://{parts.netloc}" != text.rstrip("/") or "@" in parts.netloc:
        raise BadTarget(f"{text!r} is no address of a Parley: write it as https://chat.example.com.")
    return text.rstrip("/")


def open_files(users: int) -> int:
    """How many users this process can be, its limit of open files raised as far as that goes. Raises BadPlan for more.

    users: as many as there shall be at the same time; 0 where nobody knows.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    room = (most - SPARE_FILES) // FILES_A_USER
    if users > room:
        raise BadPlan(
            f"{users:,} users need {users * FILES_A_USER + SPARE_FILES:,} open files, and this process may have"
            f" {most:,}: raise the limit (ulimit -Hn), or start the test on several machines."
        )
    return room


async def greet(target: Target) -> None:
    """Raises BadTarget where nobody answers, or not to this key, or not with this assistant."""
    try:
        async with asyncio.timeout(SECONDS):
            known = await _assistants(target)
            if target.assistant not in known:
                seen = ", ".join(known) or "none"
                raise BadTarget(f"There is no assistant {target.assistant!r}; the key sees {seen}.")
            await Conversation(target, "load-greeting").begin()
    except TurnedAway as away:
        raise BadTarget(_meaning(target, away)) from away
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise BadTarget(f"What answers at {target.url} is no Parley.") from error
    except (aiohttp.ClientError, OSError) as error:
        raise BadTarget(f"Nothing answers at {target.url} ({str(error) or type(error).__name__}).") from error


async def _assistants(target: Target) -> list[str]:
    known: list[str] = []
    path = "/assistants?limit=200"
    while path:
        page = await target.told("GET", path)
        known += [one["slug"] for one in page["results"]]
        path = (page["next"] or "").partition("/api/v1")[2]
    return known


def _meaning(target: Target, away: TurnedAway) -> str:
    if away.code == "not_authenticated":
        return f"{target.url} does not know this key."
    if away.code == "not_permitted":
        return "This key may not ask: it needs the scopes chat:read and chat:write."
    if 300 <= away.status < 400 or away.code == "http_404":
        return f"What answers at {target.url} is no Parley, or has another address ({away.status})."
    return f"{target.url} turned the first request away: {away.code} ({away.status})."
