"""The servers behind the endpoints: one for each address of an endpoint's name, with what is known of it. No I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from chatbot.inference.admission import Lane
from chatbot.inference.balancer import choose
from chatbot.inference.breaker import Breaker
from chatbot.inference.bulkhead import Bulkhead, part_of
from chatbot.inference.endpoint import Endpoint
from chatbot.inference.state import ServerLoad, ServerState
from chatbot.inference.traffic import Traffic, percentile

REMEMBERED: Final = 300.0  # seconds that a server which is gone is known: one that comes back is no better than it was


class Server:
    """One address of one endpoint. `address` is "" where the connection finds it: for protocols that know their servers
    themselves, and before a name was looked up."""

    def __init__(self, endpoint: Endpoint, address: str, ceiling: int, random: Callable[[], float]) -> None:
        self.endpoint = endpoint
        self.address = address
        self.gone = False
        self.breaker = Breaker(random)
        self.bulkhead = Bulkhead(ceiling)
        self.traffic = Traffic()
        self.load: ServerLoad | None = None
        self.load_due = float("-inf")
        self.asleep = False  # when it was last asked
        self.last_failure = ""
        self.last_failure_at = 0.0

    @property
    def group(self) -> str:
        return self.endpoint.id

    @property
    def tier(self) -> int:
        return self.endpoint.tier

    @property
    def capacity(self) -> float:
        """Questions at once, by the endpoint's weight."""
        return self.bulkhead.limit * max(self.endpoint.weight, 1e-6)

    @property
    def busyness(self) -> float:
        """The part of its capacity in use. The server's own figures count what others ask and what waits there, too."""
        busy = float(self.bulkhead.in_flight)
        if self.load:
            busy = max(busy, self.load.running or 0.0) + (self.load.waiting or 0.0)
        return busy / self.capacity

    @property
    def usable(self) -> bool:
        """Takes questions, as soon as it has room."""
        return self.breaker.state == "closed" and not self.endpoint.draining and not self.gone

    def enter(self) -> None:
        self.bulkhead.enter()

    def leave(self) -> None:
        self.bulkhead.leave()

    def state(self, now: float, waiting: int) -> ServerState:
        breaker, traffic = self.breaker, self.traffic
        return ServerState(
            endpoint=self.endpoint.id,
            address=self.address,
            state=breaker.state,
            reopens_in=max(0.0, breaker.reopens_at - now) if breaker.state == "open" else None,
            in_flight=self.bulkhead.in_flight,
            limit=self.bulkhead.limit,
            waiting=waiting,
            tokens_per_second=traffic.tokens_per_second(now),
            first_token_p50=percentile(traffic.first, 50),
            first_token_p95=percentile(traffic.first, 95),
            between_p50=percentile(traffic.between, 50),
            between_p95=percentile(traffic.between, 95),
            error_rate=breaker.error_rate(now),
            last_failure=self.last_failure,
            last_failure_ago=now - self.last_failure_at if self.last_failure else None,
            load=self.load,
        )


@dataclass(slots=True)
class Site:
    """Where an endpoint is. host: the name to look up, "" where there is none."""

    endpoint: Endpoint
    host: str
    port: int
    servers: dict[str, Server] = field(default_factory=dict)
    gone: dict[str, tuple[Server, float]] = field(default_factory=dict)  # and when they went
    looked_up: bool = False
    due: float = float("-inf")  # the next look-up


class Fleet:
    """Every server of every endpoint: what admission asks of places (admission.Places)."""

    def __init__(self, random: Callable[[], float]) -> None:
        self.sites: dict[str, Site] = {}
        self._random = random
        self._processes = 1

    def replace(self, endpoints: Iterable[Endpoint]) -> None:
        """From now on there are these. Servers of those that stay at their place keep what is known of them."""
        before, self.sites = self.sites, {}
        for endpoint in endpoints:
            old = before.get(endpoint.id)
            if old is None or _place(old.endpoint) != _place(endpoint):
                self.sites[endpoint.id] = self._site(endpoint)
                continue
            old.endpoint = endpoint
            for server in (*old.servers.values(), *(server for server, _ in old.gone.values())):
                server.endpoint = endpoint
            self.sites[endpoint.id] = old
        kept = {id(server) for server in self}
        for site in before.values():
            for server in site.servers.values():
                server.gone = id(server) not in kept
        self._resize()

    def divide(self, processes: int) -> None:
        self._processes = processes
        self._resize()

    def found(self, endpoint_id: str, addresses: Iterable[str], now: float) -> tuple[list[Server], list[Server]]:
        """The name has these addresses now. Returns the servers that are new, and those that are gone: they finish what
        they do and get nothing new."""
        site = self.sites[endpoint_id]
        site.looked_up = True
        before, site.servers = site.servers, {}
        site.gone = {key: (server, at) for key, (server, at) in site.gone.items() if now - at < REMEMBERED}
        for address in addresses:
            server = before.get(address) or site.gone.pop(address, (None, 0.0))[0]
            site.servers[address] = server or self._server(site.endpoint, address)
            site.servers[address].gone = False
        gone = [server for address, server in before.items() if address not in site.servers]
        for server in gone:
            server.gone = True
            site.gone[server.address] = (server, now)
        self._resize()
        return [server for address, server in site.servers.items() if address not in before], gone

    def __iter__(self) -> Iterator[Server]:
        for site in self.sites.values():
            yield from site.servers.values()

    def of(self, lane: Lane) -> list[Server]:
        """The servers of a lane, usable or not."""
        sites = self.sites
        return [
            server
            for key in lane.endpoints
            if key in sites
            for server in sites[key].servers.values()
            if server is not lane.tried
        ]

    def free(self, lane: Lane) -> Server | None:
        # Every question comes by here, and every slot that becomes free while some wait.
        return choose(
            [
                server
                for site in map(self.sites.get, lane.endpoints)
                if site is not None and not site.endpoint.draining
                for server in site.servers.values()
                if server.bulkhead.room and server.breaker.state == "closed" and server is not lane.tried
            ],
            self._random,
        )

    def usable(self, lane: Lane) -> bool:
        return any(server.usable for server in self.of(lane))

    def rate(self, lane: Lane) -> float | None:
        """By Little's law: slots over the time that each is held."""
        rates = [
            int(server.bulkhead.limit) / max(server.traffic.hold, 1e-3)
            for server in self.of(lane)
            if server.usable and server.traffic.hold is not None
        ]
        return sum(rates) if rates else None

    def _site(self, endpoint: Endpoint) -> Site:
        host, port = named_host(endpoint)
        address = "" if host or endpoint.protocol == "hf" else urlsplit(endpoint.base_url).hostname or ""
        return Site(endpoint, host, port, {address: self._server(endpoint, address)})

    def _server(self, endpoint: Endpoint, address: str) -> Server:
        return Server(endpoint, address, part_of(endpoint.limit, self._processes), self._random)

    def _resize(self) -> None:
        for server in self:
            server.bulkhead.resize(part_of(server.endpoint.limit, self._processes))


def named_host(endpoint: Endpoint) -> tuple[str, int]:
    """The name that may have many addresses, and the port; "" where there is an address already, or only its protocol
    knows where it is. Endpoints of Hugging Face's are behind its own balancer."""
    try:
        parts = urlsplit(endpoint.base_url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        if endpoint.protocol == "hf" or not host:
            return "", port
    except ValueError:
        return "", 0  # asking it tells what is wrong with it
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host, port
    return "", port


def _place(endpoint: Endpoint) -> tuple[str, str, str, str]:
    return endpoint.kind, endpoint.base_url, endpoint.protocol, endpoint.model
