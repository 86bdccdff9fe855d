"""Says of each server why it was chosen or not, for explain_turn. The rules themselves are in servers and balancer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chatbot.inference.admission import Lane
from chatbot.inference.endpoint import Kind
from chatbot.inference.servers import Fleet, Server
from chatbot.inference.story import Considered


def verdicts(
    fleet: Fleet, ids: Iterable[str], kind: Kind, lane: Lane, chosen: Server | None = None
) -> Iterator[Considered]:
    """chosen: has its slot already; None where none was."""
    for key in dict.fromkeys(ids):
        site = fleet.sites.get(key)
        if site is None:
            yield Considered(key, "", "", "unknown")
        elif key not in lane.endpoints:
            reason = "cannot continue" if site.endpoint.kind == kind else "not for this"
            yield Considered(key, site.endpoint.name, "", reason)
        else:
            for server in site.servers.values():
                yield Considered(key, site.endpoint.name, server.address, _verdict(server, lane, chosen))


def _verdict(server: Server, lane: Lane, chosen: Server | None) -> str:
    if server is chosen:
        return "chosen"
    if server is lane.tried:
        return "already failed"
    if not server.usable:
        return "draining" if server.endpoint.draining else f"breaker {server.breaker.state}"
    if chosen is None or not server.bulkhead.room:
        return "full"
    if server.tier > chosen.tier:
        return "higher tier"
    return "busier" if server.busyness >= chosen.busyness else "not drawn"
