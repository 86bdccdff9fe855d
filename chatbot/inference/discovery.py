"""Finds out what stands at an address: which model server, with which models, or what else it is."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from chatbot.inference.endpoint import Endpoint
from chatbot.inference.protocols import protocol_of, recognisable
from chatbot.inference.protocols.base import Served
from chatbot.inference.transport import Exchange, Page


@dataclass(frozen=True, slots=True)
class Seen:
    """`served` is None where no model server was recognised; then `what` says in a few words what answered.

    key_refused: an address asked for another key than ours.
    """

    served: Served | None
    what: str = ""
    key_refused: bool = False


async def look(exchange: Exchange, endpoint: Endpoint) -> Seen:
    """Ask for what each kind of server tells of itself. Raises a ModelError where nothing answers at all."""
    pages: dict[str, Page] = {}

    async def browse(path: str) -> dict[str, Any]:
        url = path if "://" in path else endpoint.url(path)
        if url not in pages:
            pages[url] = await exchange.page(url)
        page = pages[url]
        return page.body if page.status == HTTPStatus.OK and isinstance(page.body, dict) else {}

    served = None
    if not endpoint.base_url:
        served = await protocol_of(endpoint).look_up(browse, endpoint.model)
    else:
        for protocol in recognisable():
            served = await protocol.recognise(browse)
            if served:
                break
    refused = any(page.status in (401, 403) for page in pages.values())
    return Seen(served, "" if served else _describe(list(pages.values())), refused)


def _describe(pages: list[Page]) -> str:
    if any(page.content_type == "text/html" for page in pages):
        return "a web page"
    if any(isinstance(page.body, dict | list) and page.status == HTTPStatus.OK for page in pages):
        return "JSON of something else"
    statuses = sorted({page.status for page in pages})
    return "status " + ", ".join(map(str, statuses)) if statuses else "nothing"
