"""Where questions get a server, and bring back how it went: state that outlives event loops, under one lock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final

from chatbot.errors import ModelBusy, ModelError, ModelTimeout, ModelUnavailable, ParleyError
from chatbot.inference.admission import Admission, Lane, Ticket
from chatbot.inference.asker import Asker, Waiting
from chatbot.inference.retries import RetryBudget
from chatbot.inference.servers import Fleet, Server
from chatbot.inference.state import Change

TELL_EVERY: Final = 1.0  # seconds after which one who waits hears of a place that has changed
RETRY_UNKNOWN: Final = 5.0  # seconds, where nothing tells when a slot comes


class Desk:
    """Of one process. Sync callers ask on loops and threads of their own, so all that changes the state holds `lock`,
    never over an await.

    on_change is called with the lock held, on whichever thread: it must neither block nor raise.
    """

    def __init__(self, clock: Callable[[], float], random: Callable[[], float]) -> None:
        self.clock = clock
        self.fleet = Fleet(random)
        self.admission: Admission[Server] = Admission(self.fleet)
        self.retries = RetryBudget()
        self.lock = threading.RLock()
        self.on_change: Callable[[Change], None] | None = None

    async def place(self, asker: Asker, lane: Lane, until: float) -> tuple[Ticket[Server], Server]:
        """A slot, waited for until then in the loop's time. It goes back by settle().

        Raises ModelBusy where none comes, ModelUnavailable where no server is left.
        """
        loop = asyncio.get_running_loop()
        with self.lock:
            ticket = self.admission.join(asker.tenant, asker.share, asker.rank, lane)
            if ticket.server is not None:
                return ticket, ticket.server
            event = asyncio.Event()
            ticket.wake = lambda: self._wake(ticket, loop, event)
        try:
            if ticket.refusal is None:
                await self._wait(ticket, asker, event, until)
        except BaseException:
            self._leave(ticket)
            raise
        with self.lock:
            if ticket.server is not None:
                return ticket, ticket.server
            error = self._refusal(ticket)
            self._leave(ticket)
        raise error

    def settle(
        self, ticket: Ticket[Server], server: Server, began: float, error: ParleyError | None, *, answered: bool
    ) -> None:
        """Give a slot back. answered: whether the server began to answer; without it and an error it tells nothing."""
        now = self.clock()
        with self.lock:
            if isinstance(error, ModelError):
                self._note_failure(server, began, error, now)
            elif answered:
                server.asleep = False
                server.breaker.succeeded(now)
                server.bulkhead.answered()
            if answered:
                server.traffic.held(now - began)
            self.admission.leave(ticket)

    def begin_probe(self, server: Server) -> bool:
        """Whether a probe is due; then it has begun."""
        with self.lock:
            if server.gone or not server.breaker.probe_due(self.clock()):
                return False
            server.breaker.begin_probe()
            if server.breaker.state == "half-open":
                self.tell(server, "breaker.half_open", "A probe decides whether it is asked again.")
            return True

    def end_probe(self, server: Server, well: bool | None, why: str) -> None:
        """why: a sentence, where it is not well."""
        now = self.clock()
        with self.lock:
            before = server.breaker.state
            server.breaker.end_probe(well, now)
            server.asleep = server.asleep and not well
            if well is False:
                server.last_failure, server.last_failure_at = why, now
            if server.breaker.state == "open" != before and well is not None:
                self.tell(server, "breaker.opened", f"A probe failed: {why}")
            if before == "half-open" and server.breaker.state == "closed":
                self.tell(server, "breaker.closed", "A probe was answered.")
            self.admission.reconsider()

    def reset(self, endpoint_id: str, address: str, why: str) -> None:
        """Close the breakers of an endpoint's servers, or of the one at an address. why: a sentence."""
        with self.lock:
            for server in self.fleet.of(Lane((endpoint_id,))):
                if address in ("", server.address) and server.breaker.state != "closed":
                    server.breaker.reset(self.clock())
                    self.tell(server, "breaker.closed", why)
            self.admission.reconsider()

    def tell(self, server: Server, what: str, why: str) -> None:
        if self.on_change:
            self.on_change(Change(server.endpoint.id, server.endpoint.name, server.address, what, why))

    def _note_failure(self, server: Server, began: float, error: ModelError, now: float) -> None:
        server.last_failure, server.last_failure_at = error.message, now
        server.asleep = isinstance(error, ModelUnavailable) and error.asleep
        if isinstance(error, ModelBusy):
            if server.bulkhead.overloaded(began, now):
                self.tell(server, "limit.shrunk", f"{error.message} It gets {int(server.bulkhead.limit)} at once now.")
        elif error.at_fault and server.breaker.failed(now, stuck=isinstance(error, ModelTimeout)):
            self.tell(server, "breaker.opened", error.message)

    async def _wait(self, ticket: Ticket[Server], asker: Asker, event: asyncio.Event, until: float) -> None:
        clock = asyncio.get_running_loop().time
        told: Waiting | None = None
        while not event.is_set() and (left := until - clock()) > 0:
            if asker.on_wait:
                with self.lock:
                    now = self.admission.outlook(ticket)
                if now != told:
                    told = now
                    asker.on_wait(now)
            try:
                async with asyncio.timeout(min(left, TELL_EVERY)):
                    await event.wait()
            except TimeoutError:
                continue

    def _wake(self, ticket: Ticket[Server], loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
        try:
            loop.call_soon_threadsafe(event.set)
        except RuntimeError:  # the loop was closed, and with it whoever waited
            self._leave(ticket)

    def _leave(self, ticket: Ticket[Server]) -> None:
        with self.lock:
            self.admission.leave(ticket)

    def _refusal(self, ticket: Ticket[Server]) -> ModelError:
        if ticket.refusal == "unavailable":
            now = self.clock()
            reopening = [
                max(1.0, server.breaker.reopens_at - now)
                for server in self.fleet.of(ticket.lane)
                if server.breaker.state == "open"
            ]
            return ModelUnavailable(retry_after=min(reopening, default=RETRY_UNKNOWN))
        rate = self.fleet.rate(ticket.lane)
        waiting = sum(self.admission.waiting_for(endpoint) for endpoint in ticket.lane.endpoints)
        return ModelBusy(retry_after=max(1.0, waiting / rate) if rate else RETRY_UNKNOWN)
