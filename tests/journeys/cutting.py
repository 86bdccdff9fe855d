"""A TCP proxy on 127.0.0.1 that cuts connections in the middle of what the server says, as a bad network does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class CuttingProxy:
    """Cuts each of the next `cuts` connections right after the server's `word` has passed."""

    def __init__(self, port: int, *, word: bytes, cuts: int) -> None:
        self.port = port
        self.word = word
        self.cuts = cuts
        self.address = ""
        self._serving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[CuttingProxy]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.port)
        both = [
            asyncio.create_task(self._pass(reader, upstream_writer)),
            asyncio.create_task(self._pass(upstream_reader, writer, listening=True)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            for one in (writer, upstream_writer):
                one.transport.abort()
                with suppress(ConnectionError):
                    await one.wait_closed()

    async def _pass(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, listening: bool = False) -> None:
        heard = b""
        with suppress(ConnectionError):
            while piece := await source.read(65536):
                to.write(piece)
                await to.drain()
                heard = (heard + piece)[-65536 - len(self.word) :]
                if listening and self.cuts and self.word in heard:
                    self.cuts -= 1
                    return
