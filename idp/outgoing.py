"""The one guarded HTTP client: nothing else opens a connection to an address that came from outside.

A name is resolved once, every address is checked, and the connection goes to a checked address. Redirects are not
followed. `YIMEN_OUTBOUND_ALLOW` widens what is permitted; the certificate check is never off.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpcore2
import httpx2

from idp.errors import ConfigError, YimenError

CONNECT_SECONDS = 3.0
TOTAL_SECONDS = 10.0
PER_HOST = 4
ANSWER_LIMIT = 65_536

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[list[str]]]


class OutgoingRefused(YimenError):
    """The guard does not permit this address; the message says why in words for an operator."""

    code = "outgoing_refused"


class OutgoingFailed(YimenError):
    """The other side did not answer as it should: silence, a broken connection, too much."""

    code = "outgoing_failed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, at most the limit of the call."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Allowed:
    """One entry of the allow list: a network or a host name, with a port or for every port."""

    network: IPv4Network | IPv6Network | None
    host: str
    port: int | None

    def covers(self, host: str, port: int, address: Address | None) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is None:
            return self.host == host
        return address is not None and address.version == self.network.version and address in self.network


def parse_allow(entries: Iterable[str]) -> tuple[Allowed, ...]:
    """`10.0.0.0/8`, `127.0.0.1:8101`, `[::1]:8101`, `host.name`, `host.name:8443`. Raises ConfigError."""
    return tuple(_parse_entry(entry) for entry in entries)


def _parse_entry(entry: str) -> Allowed:
    try:
        return Allowed(ip_network(entry.strip("[]"), strict=False), "", None)
    except ValueError:
        pass  # not a bare network: a host name, or something with a port
    try:
        parts = urlsplit(f"//{entry}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or parts.path or parts.username is not None:
        raise ConfigError(f"YIMEN_OUTBOUND_ALLOW: {entry} is neither a network nor a host, with or without a port")
    address = _literal(host)
    return Allowed(ip_network(address), "", port) if address else Allowed(None, host.lower(), port)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_public(address: Address) -> bool:
    """Whether an address lies in the public Internet: not private, shared, mapped, metadata, multicast or reserved."""
    if isinstance(address, IPv6Address) and (address.ipv4_mapped or address.sixtofour or address.teredo):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, by the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Guard(httpcore2.AsyncNetworkBackend):
    """Connects only where the rules allow, to the very address that was checked."""

    def __init__(self, allowed: Sequence[Allowed], resolver: Resolver) -> None:
        self._allowed, self._resolver = allowed, resolver
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            addresses = [ip_address(text.partition("%")[0]) for text in await self._resolver(host, port)]
        except OSError:
            raise OutgoingFailed(f"the name {host} cannot be resolved") from None
        for address in addresses:
            self.permit(host, port, address)
        if not addresses:
            raise OutgoingFailed(f"the name {host} has no address")
        return await self._inner.connect_tcp(str(addresses[0]), port, timeout, local_address, socket_options)

    def permit(self, host: str, port: int, address: Address) -> None:
        """Raise OutgoingRefused unless this address may be called."""
        if any(entry.covers(host, port, address) for entry in self._allowed):
            return
        if not _is_public(address):
            raise OutgoingRefused(f"{address} is not on the allow list")
        if port != 443:
            raise OutgoingRefused(f"port {port} of {host} is not on the allow list")


class Outgoing:
    """The client of one process."""

    def __init__(
        self,
        allow: Sequence[str],
        ca: Path | None,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
        resolver: Resolver = resolve,
    ) -> None:
        self._allowed = parse_allow(allow)
        self._guard = Guard(self._allowed, resolver)
        self._ca, self._total, self._connect = ca, total_seconds, connect_seconds
        self._client: httpx2.AsyncClient | None = None
        self._slots: dict[str, asyncio.Semaphore] = {}

    def check(self, url: str) -> None:
        """Raise OutgoingRefused for an address that could never be called: at registration, not months later."""
        parts = self._parse(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        address = _literal(host)
        listed = any(entry.covers(host, port, address) for entry in self._allowed)
        if parts.scheme == "http" and not listed:
            raise OutgoingRefused(f"plain http to {host} port {port} is not on the allow list")
        if address is not None:
            self._guard.permit(host, port, address)
        elif port != 443 and not listed:
            raise OutgoingRefused(f"port {port} of {host} is not on the allow list")

    @staticmethod
    def _parse(url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise OutgoingRefused("the address is malformed") from None
        if parts.scheme not in ("https", "http") or not host or not url.isascii() or not url.isprintable():
            raise OutgoingRefused("the address must be an absolute https address")
        if "@" in parts.netloc or "\\" in url or " " in url:
            raise OutgoingRefused("the address must not hold user information, blanks or backslashes")
        if (_literal(host) is None and host.rpartition(".")[2].isdigit()) or host.startswith("0x"):
            raise OutgoingRefused("the host is a disguised address")
        return parts

    async def request(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        limit: int = ANSWER_LIMIT,
    ) -> Answer:
        """One call. Raises OutgoingRefused, or OutgoingFailed for a slow, broken or overlong answer."""
        self.check(url)
        host = urlsplit(url).netloc
        slot = self._slots.setdefault(host, asyncio.Semaphore(PER_HOST))
        try:
            async with slot, asyncio.timeout(self._total):
                return await self._call(method, url, content, headers or {}, limit)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpcore2.ConnectError, OSError) as error:
            raise OutgoingFailed(f"no proper answer: {type(error).__name__}") from None
        finally:
            if len(self._slots) > 1_000:
                self._slots.clear()

    async def _call(self, method: str, url: str, content: bytes, headers: Mapping[str, str], limit: int) -> Answer:
        async with self._connected().stream(method, url, content=content, headers=dict(headers)) as response:
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > limit:
                    raise OutgoingFailed("the answer is too long")
            return Answer(response.status_code, dict(response.headers), body)

    def _connected(self) -> httpx2.AsyncClient:
        if self._client is None:
            trust = ssl.create_default_context()
            if self._ca is not None:
                trust.load_verify_locations(self._ca)
            transport = httpx2.AsyncHTTPTransport(verify=trust, trust_env=False)
            transport._pool = httpcore2.AsyncConnectionPool(ssl_context=trust, network_backend=self._guard)
            self._client = httpx2.AsyncClient(
                transport=transport,
                trust_env=False,
                follow_redirects=False,
                timeout=httpx2.Timeout(self._total, connect=self._connect),
                headers={"User-Agent": "Yimen", "Accept-Encoding": "identity"},
            )
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None
