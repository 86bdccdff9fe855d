"""What belongs to a source: which hosts, and which folder."""

from __future__ import annotations

from apps.knowledge.models import Source
from chatbot import links
from chatbot.errors import ExtractionFailed


class ElsewhereError(ExtractionFailed):
    code = "elsewhere"
    default_message = "The address is on a host that this source does not name."


def hosts_of(source: Source) -> set[str]:
    """Those of the web that belong to it, with a port where the address has one."""
    return {links.authority(source.location), *source.hosts}


def holds(source: Source, address: str) -> bool:
    return links.authority(address) in hosts_of(source)


def elsewhere(address: str) -> ElsewhereError:
    host = links.authority(address)
    return ElsewhereError(f"This leads to another host, {host}. Name it among the source's hosts to let it in.")
