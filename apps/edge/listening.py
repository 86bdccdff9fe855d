"""Stops taking new connections, for a process that is about to end: whatever stands in front of it goes elsewhere.

A proxy that sends requests to whom it has the fewest connections with would otherwise send all of them here, and each
reader that was told to come back elsewhere, too. What is connected already goes on.
"""

from __future__ import annotations

import sys
from typing import Any


def stop_listening(terminate: Any) -> None:
    """Close the sockets on which the server accepts. On its event loop; a second call does nothing.

    terminate: the server's own handler of SIGTERM, by which uvicorn's server is found.
    """
    if reactor := sys.modules.get("twisted.internet.reactor"):
        for reader in reactor.getReaders():
            if hasattr(reader, "stopListening"):
                reader.stopListening()
    for server in getattr(getattr(terminate, "__self__", None), "servers", ()):
        server.close()
