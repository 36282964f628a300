"""What one process takes on: how many connections and requests, for how long, and how large (security.md R01 to R07).

One `Guard` serves a worker. The wire (`wire.py`) asks it about connections, the application about requests.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Protocol

from idp import metrics
from idp.config import Config, Network
from idp.errors import Overloaded, TooManyRequests

log = logging.getLogger("yimen.limits")

TELL_SECONDS = 60
HEAD_LIMIT = 32_768  # bytes of the request line and all headers
HEADERS_LIMIT = 100
FRAMING_LIMIT = 16_384  # bytes of one body that are not body: chunk sizes, chunk extensions, trailers
SWALLOW_LIMIT = 16_777_216  # bytes of a body that was refused already
SLOW_WINDOW, SLOW_BYTES = 10, 1_024  # seconds of a body, and what has to arrive in them
ANSWER_SECONDS = 15  # how long a reader may leave an answer lying
PIPELINE_LIMIT = 32  # requests of one connection that wait for their turn
CONNECTIONS_LIMIT = 16_384
REQUESTS_LIMIT = 1_024
PAGES_LIMIT = 80  # page requests that run or wait for a thread
IDLE_SECONDS, PROXY_IDLE_SECONDS = 10, 75  # an idle connection; that of a proxy must outlive the proxy's own patience
DRAIN_SECONDS = 6  # how long idle connections stay open for one last request when the worker ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits that operators may set. Seconds; `address_connections` 0 means no limit."""

    header_seconds: int = 10
    body_seconds: int = 30
    address_connections: int = 256
    trusted_proxies: tuple[Network, ...] = ()
    drain_seconds: float = DRAIN_SECONDS

    @staticmethod
    def of(config: Config) -> "Limits":
        return Limits(
            header_seconds=config.header_seconds,
            body_seconds=config.body_seconds,
            address_connections=config.address_connections if config.rate_limits else 0,
            trusted_proxies=config.trusted_proxies,
            drain_seconds=0.5 if config.embedded else DRAIN_SECONDS,
        )


class Watched(Protocol):
    """A connection that the sweeper looks at once a second."""

    def sweep(self, now: float) -> None: ...


class Guard:
    """Counts of one process. `refused` counts by reason what was turned away since the start."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.connections: set[Watched] = set()
        self.addresses: Counter[str] = Counter()  # connections of each address, requests of each behind a proxy
        self.requests = self.pages = 0
        self.refused: Counter[str] = Counter()

    def turn_away(self, reason: str) -> None:
        """Count what was turned away, for the log and for /metrics."""
        self.refused[reason] += 1
        metrics.TURNED_AWAY.labels(reason).inc()

    # --- connections

    def is_proxy(self, address: str) -> bool:
        return _is_in(address, self.limits.trusted_proxies)

    def enter(self, connection: Watched, address: str) -> str:
        """Take a connection on. The reason why not: "connections" (all together), "address", or ""."""
        self.connections.add(connection)
        if len(self.connections) > CONNECTIONS_LIMIT:
            return "connections"
        if address and not self._count(address):
            return "address"
        return ""

    def leave(self, connection: Watched, address: str) -> None:
        """`address` is empty when it was not counted."""
        self.connections.discard(connection)
        self._uncount(address)

    async def sweep_forever(self) -> None:
        """Look at every connection once a second; once a minute say who was turned away, not for each of them."""
        loop, told, said_at = asyncio.get_running_loop(), Counter[str](), 0.0
        while True:
            await asyncio.sleep(1)
            for connection in tuple(self.connections):
                connection.sweep(loop.time())
            if self.refused != told and loop.time() - said_at >= TELL_SECONDS:
                log.warning("turned away", extra={"fields": {"counts": dict(self.refused - told)}})
                told, said_at = self.refused.copy(), loop.time()

    # --- requests

    @contextmanager
    def request(self, address: str, *, page: bool) -> Iterator[None]:
        """Room for one request; `address` is that of the caller behind a proxy, else empty.

        Raises Overloaded when this worker has enough to do, TooManyRequests when this address has.
        """
        if self.requests >= REQUESTS_LIMIT or (page and self.pages >= PAGES_LIMIT):
            self.turn_away("requests")
            raise Overloaded("the server is busy")
        if address and not self._count(address):
            self.turn_away("address")
            self._uncount(address)
            raise TooManyRequests(retry_after=1)
        self.requests += 1
        self.pages += page
        try:
            yield
        finally:
            self.requests -= 1
            self.pages -= page
            self._uncount(address)

    def _count(self, address: str) -> bool:
        name = group_of(address)
        self.addresses[name] += 1
        return not 0 < self.limits.address_connections < self.addresses[name]

    def _uncount(self, address: str) -> None:
        if address:
            name = group_of(address)
            self.addresses[name] -= 1
            if self.addresses[name] <= 0:
                del self.addresses[name]


@lru_cache(4_096)
def group_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 address, which one household holds."""
    if ":" not in address:
        return address
    found = ip_address(address)
    assert isinstance(found, IPv6Address)
    return str(found.ipv4_mapped or ip_network((found, 64), strict=False))


def _is_in(address: str, networks: Iterable[Network]) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in networks)
