"""The model servers of this process: which there are, which one answers, and who steps in when it cannot.

A question is admitted (admission.py) to the less busy of two servers of the lowest tier (balancer.py) that take
questions (breaker.py) and have room (bulkhead.py). If that one fails before its first token, another one gets the
question once, and a tenth of all questions at most (retries.py).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from chatbot import addresses
from chatbot.errors import ModelError, ModelFailed, ModelTimeout, ModelUnavailable
from chatbot.inference.admission import LONGEST_WAIT, Lane, Ticket
from chatbot.inference.answer import Answer
from chatbot.inference.asker import Asker, Rank
from chatbot.inference.attending import Attendant, Resolve
from chatbot.inference.client import Client
from chatbot.inference.considering import verdicts
from chatbot.inference.desk import Desk
from chatbot.inference.endpoint import Endpoint, Kind
from chatbot.inference.protocols import protocol_of
from chatbot.inference.question import Held, Question, milliseconds, ours, told
from chatbot.inference.servers import Server
from chatbot.inference.state import Change, ServerState
from chatbot.inference.story import Story
from chatbot.inference.traffic import Pulse
from chatbot.inference.waking import POLL, RUNNING, Waker
from chatbot.inference.wire import ChatRequest, InputType

RETRY_SECONDS: Final = 5.0  # for queue and second attempt, beyond what the first endpoint may take to its first token
NOBODY: Final = Asker()
T = TypeVar("T")


class Pool:
    """Process-wide; knows endpoints by id, and keeps what it learns of their servers beyond the event loops that ask.

    All attempts of one question share the time to its first token: what the first endpoint may take, and
    `retry_seconds`; waiting for a slot counts. resolve: the addresses of a name, by host and port. random: numbers from
    0 up to 1.
    """

    def __init__(
        self,
        client: Client,
        endpoints: Iterable[Endpoint] = (),
        *,
        retry_seconds: float = RETRY_SECONDS,
        resolve: Resolve = addresses.addresses_of,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._retry_seconds = retry_seconds
        self._desk = Desk(time.monotonic, random)
        self._attendant = Attendant(self._desk, client, resolve)
        self._waker = Waker()
        self.replace(endpoints)

    @property
    def on_change(self) -> Callable[[Change], None] | None:
        """Hears of every transition, on whichever thread it happens; it must neither block nor raise."""
        return self._desk.on_change

    @on_change.setter
    def on_change(self, hear: Callable[[Change], None] | None) -> None:
        self._desk.on_change = hear

    def replace(self, endpoints: Iterable[Endpoint]) -> None:
        """From now on there are these endpoints; streams that run go on with theirs. What is known of the servers of
        those that stay where they are is kept."""
        with self._desk.lock:
            self._desk.fleet.replace(endpoints)
            self._desk.admission.reconsider()

    def divide(self, processes: int) -> None:
        """How many live processes share each server's limit."""
        with self._desk.lock:
            self._desk.fleet.divide(processes)
            self._desk.admission.reconsider()

    def attend(self) -> None:
        """Look names up, probe and read loads on the running loop from now on, as the first question would begin to."""
        self._attendant.attend()

    def states(self) -> list[ServerState]:
        """Each server of each endpoint, as this process sees it now."""
        desk = self._desk
        with desk.lock:
            now = desk.clock()
            return [server.state(now, desk.admission.waiting_for(server.group)) for server in desk.fleet]

    def room(self, endpoint_id: str) -> int:
        """How many questions its servers take at once from this process, as far as they take any now."""
        with self._desk.lock:
            servers = [server for server in self._desk.fleet.of(Lane((endpoint_id,))) if server.usable]
            return sum(int(server.bulkhead.limit) for server in servers)

    def reset(self, endpoint_id: str, address: str = "") -> None:
        """Close the breakers of an endpoint's servers, or of the one at an address."""
        self._desk.reset(endpoint_id, address, "It was reset.")

    def continues(self, ids: Sequence[str]) -> bool:
        """Whether one of these can go on from a prefix. It may still refuse, as llama.cpp may with models that
        think: then chat() raises before the first token, and the answer is to be begun again without one."""
        sites = self._desk.fleet.sites
        return any(protocol_of(sites[key].endpoint).continues for key in ids if key in sites)

    @asynccontextmanager
    async def chat(
        self, ids: Sequence[str], request: ChatRequest, asker: Asker = NOBODY, *, story: Story | None = None
    ) -> AsyncGenerator[Answer]:
        """Ask a server of one of `ids`, and once another one if it fails before its first token; entering waits for
        that token. With a prefix only those are asked that can go on from it. `story` is filled as it happens.

        Where only an endpoint is left that sleeps, it is started and waited for, `wake_seconds` at most and no longer
        than its whole answer may take; then the time to the first token begins anew.

        Leaving closes the stream, and so stops the model. Raises PromptTooLong, which no other endpoint mends,
        ModelBusy where no slot comes within 5 s or would, or the ModelError of the last attempt; inside the block the
        error of the stream, which is not retried.
        """
        lane = self._able(ids, request)
        patience = self._desk.fleet.sites[lane.endpoints[0]].endpoint.deadlines.first_token + self._retry_seconds
        question = self._question(ids, "chat", asker, patience, story)
        held = await self._awake(question, lane, lambda lane: self._start(question, lane, request))
        try:
            yield held.answer
        finally:
            try:
                await held.answer.close()
            finally:
                self._desk.settle(held.ticket, held.server, held.began, held.pulse.error, answered=True)

    async def embed(
        self, endpoint_id: str, texts: list[str], *, input_type: InputType, asker: Asker = NOBODY
    ) -> list[list[float]]:
        """A vector for each text, by this one endpoint: vectors of different models do not mix. Raises as chat() does;
        another server of the endpoint may step in."""
        endpoint = self._known([endpoint_id], "embedding")[0]
        question = self._question([endpoint_id], "embedding", asker, endpoint.deadlines.total, None)

        async def embed(server: Server) -> list[list[float]]:
            return await self._client.embed(server.endpoint, texts, input_type=input_type, address=server.address)

        return await self._whole(question, Lane((endpoint_id,)), embed)

    async def rerank(
        self, ids: Sequence[str], query: str, texts: list[str], asker: Asker = NOBODY, *, story: Story | None = None
    ) -> list[float]:
        """How well each text answers the query, in the order of the texts, by one of `ids`: models score differently,
        so one of them scores all. Raises as chat() does. Whatever the asker's rank, answers go before it."""
        known = self._known(ids, "rerank")
        patience = known[0].deadlines.first_token + self._retry_seconds
        question = self._question(ids, "rerank", replace(asker, rank=Rank.RERANKING), patience, story)

        async def rerank(server: Server) -> list[float]:
            return await self._client.rerank(server.endpoint, query, texts, address=server.address)

        return await self._whole(question, Lane(tuple(endpoint.id for endpoint in known)), rerank)

    async def _whole(self, question: Question, lane: Lane, ask: Callable[[Server], Awaitable[T]]) -> T:
        """An answer that comes in one piece."""

        async def attempt(lane: Lane) -> T:
            ticket, server = await self._place(question, lane)
            with self._attempt(question, ticket, server) as began:
                answer = await ask(server)
            self._desk.settle(ticket, server, began, None, answered=True)
            return answer

        return await self._twice(question, lane, attempt)

    def _question(self, ids: Sequence[str], kind: Kind, asker: Asker, patience: float, story: Story | None) -> Question:
        now = asyncio.get_running_loop().time()
        return Question(ids, kind, asker, now, patience, now + patience, story)

    def _known(self, ids: Sequence[str], kind: Kind) -> list[Endpoint]:
        sites = self._desk.fleet.sites
        known = [sites[key].endpoint for key in dict.fromkeys(ids) if key in sites]
        if usable := [endpoint for endpoint in known if endpoint.kind == kind]:
            return usable
        raise ModelUnavailable(f"No {kind} endpoint is set up for this.")

    def _able(self, ids: Sequence[str], request: ChatRequest) -> Lane:
        known = self._known(ids, "chat")
        if request.begun:
            known = [endpoint for endpoint in known if protocol_of(endpoint).continues]
        if not known:
            raise ModelFailed("No chat endpoint here can continue an answer.")
        return Lane(tuple(endpoint.id for endpoint in known))

    async def _awake(self, question: Question, lane: Lane, attempt: Callable[[Lane], Awaitable[T]]) -> T:
        while True:
            try:
                return await self._twice(question, lane, attempt)
            except ModelUnavailable:
                sleeper = self._sleeper(lane)
                if sleeper is None:
                    raise
            await self._wake(question, lane, sleeper)

    def _sleeper(self, lane: Lane) -> Endpoint | None:
        """One that was asleep when it was last asked, and may be started for a question."""
        with self._desk.lock:
            asleep = [server.endpoint for server in self._desk.fleet.of(lane) if server.asleep]
        startable = [endpoint for endpoint in asleep if endpoint.wake_seconds > 0 and not endpoint.draining]
        return min(startable, key=lambda endpoint: endpoint.tier, default=None)

    def _others(self, lane: Lane) -> bool:
        with self._desk.lock:
            return any(server.usable and not server.asleep for server in self._desk.fleet.of(lane))

    async def _wake(self, question: Question, lane: Lane, endpoint: Endpoint) -> None:
        """Return when the endpoint runs, or when another one takes questions again."""
        clock = asyncio.get_running_loop().time
        began = clock()
        tell = question.asker.on_waking or (lambda _: None)
        try:
            if question.wake_until is None:
                total = question.asked + endpoint.deadlines.total
                question.wake_until = min(began + endpoint.wake_seconds, total)
            else:
                # It runs, they say, and does not answer yet: what stands before it has to notice, too.
                tell(RUNNING)
                await asyncio.sleep(max(0.0, min(POLL, question.wake_until - began)))
            runs = await self._waker.wait(endpoint, question.wake_until, tell, partial(self._others, lane))
        finally:
            if question.story is not None:
                question.story.woken_ms += milliseconds(clock() - began)
        if runs:
            self._desk.reset(endpoint.id, "", "It was woken.")
        question.until = clock() + question.patience

    async def _twice(self, question: Question, lane: Lane, attempt: Callable[[Lane], Awaitable[T]]) -> T:
        self._attendant.attend()
        await self._attendant.ready(lane.endpoints)
        self._desk.retries.asked(self._desk.clock())
        try:
            return await attempt(lane)
        except ModelError as error:
            elsewhere = self._elsewhere(question, lane, error)
            if elsewhere is None:
                raise
        return await attempt(elsewhere)  # nothing was said yet, so another server can say all of it

    def _elsewhere(self, question: Question, lane: Lane, error: ModelError) -> Lane | None:
        """Where a question that failed may be asked again, None where it may not."""
        desk, rest = self._desk, Lane(lane.endpoints, question.tried)
        if question.tried is None or asyncio.get_running_loop().time() >= question.until:
            return None
        with desk.lock:
            if not desk.fleet.usable(rest):
                return None
            # What no server has got is no load for one, so that it goes elsewhere is not what the budget limits.
            unsent = isinstance(error, ModelUnavailable)
            return rest if unsent or desk.retries.take(desk.clock()) else None

    async def _place(self, question: Question, lane: Lane) -> tuple[Ticket[Server], Server]:
        clock, story, server = asyncio.get_running_loop().time, question.story, None
        began = clock()
        try:
            until = min(question.until, began + LONGEST_WAIT - question.queued)
            ticket, server = await self._desk.place(question.asker, lane, until)
            question.tried = server
            return ticket, server
        finally:
            question.queued += clock() - began
            if story is not None:
                story.queued_ms = milliseconds(question.queued)
                with self._desk.lock:
                    story.considered += verdicts(self._desk.fleet, question.ids, question.kind, lane, server)

    async def _start(self, question: Question, lane: Lane, request: ChatRequest) -> Held:
        ticket, server = await self._place(question, lane)
        address = server.address
        with self._attempt(question, ticket, server) as began:
            now = asyncio.get_running_loop().time()
            endpoint, pulse = question.rest_at(server.endpoint, now), Pulse(server.traffic, now)
            deltas = self._client.chat(endpoint, request, address=address, pulse=pulse)
            try:
                async with asyncio.timeout_at(question.until):
                    first = await anext(deltas)
            except TimeoutError as error:
                raise ModelTimeout from error
            answer = Answer(endpoint, first, deltas, address=address)
            return Held(ticket, server, began, answer, pulse)

    @contextmanager
    def _attempt(self, question: Question, ticket: Ticket[Server], server: Server) -> Iterator[float]:
        """Spans an attempt up to its first token; gives its beginning. If it fails, the slot goes back."""
        clock = asyncio.get_running_loop().time
        began, asked_at = self._desk.clock(), clock()
        failure: BaseException | None = None
        try:
            yield began
        except BaseException as error:
            failure = error
            self._desk.settle(ticket, server, began, ours(error), answered=False)
            site = self._desk.fleet.sites.get(server.group)
            if isinstance(error, ModelUnavailable) and site and site.host:
                self._attendant.look_up(site)
            raise
        finally:
            if question.story is not None:
                question.story.attempts.append(told(question, server, asked_at, clock(), failure))
                question.story.deadline_left_ms = milliseconds(question.until - clock())
