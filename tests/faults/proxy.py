"""A TCP proxy between the product and one of its servers, which delays, cuts and swallows what passes."""

from __future__ import annotations

import asyncio
from typing import Self


class Link:
    """Leads to `target` on 127.0.0.1; `port` is where to connect to. It lives in the event loop of its test.

    delay: seconds that each piece takes on its way.
    """

    def __init__(self, target: int, *, delay: float = 0.0) -> None:
        self.target = target
        self.delay = delay
        self.port = 0
        self._passes = asyncio.Event()
        self._passes.set()
        self._carrying: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry_both, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def blackhole(self) -> None:
        """Take what is sent, and connections too, and pass nothing on: nobody is told anything."""
        self._passes.clear()

    def restore(self) -> None:
        """Pass on what was held back and what comes."""
        self._passes.set()

    def cut(self) -> None:
        """Break the connections that there are. New ones are served as before."""
        for task in self._carrying:
            task.cancel()

    async def _carry_both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        writers = [writer]
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            writers.append(back)
            ways = [asyncio.create_task(self._carry(reader, back)), asyncio.create_task(self._carry(there, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # refused, or cut: the client sees its connection end
        finally:
            self._carrying.discard(task)
            for open_writer in writers:
                open_writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._passes.wait()
            writer.write(piece)
            await writer.drain()
