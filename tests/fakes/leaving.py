"""An application that stops listening when it is asked to: python -m daphne tests.fakes.leaving:application"""

from __future__ import annotations

import signal
from typing import Any

from apps.edge.listening import stop_listening


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] == "/leave":
        stop_listening(signal.getsignal(signal.SIGTERM))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"here"})
