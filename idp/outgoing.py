"""The one guarded HTTP client: nothing else opens a connection to an address that came from outside.

A name is resolved once, every address is checked, and the connection goes to a checked address. Redirects are not
followed. `YIMEN_OUTBOUND_ALLOW` widens what is permitted; the certificate check is never off.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import httpcore2
import httpx2

from idp.errors import ConfigError, YimenError

CONNECT_SECONDS = 3.0
TOTAL_SECONDS = 10.0
PER_HOST = 4  # calls at once
CONNECTIONS = 200  # of all hosts: a few silent ones must not hold up the others
ANSWER_LIMIT = 65_536
ADDRESSES_TRIED = 4  # of one name; each must be permitted

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[list[str]]]

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_DISGUISE = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")  # a last label that resolvers take for an IPv4 address
_ENTRY = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?")

UNICAST_V6 = ip_network("2000::/3")
INSIDE = tuple(
    ip_network(text)
    for text in (
        "168.63.129.16",  # the platform address of Azure
        "192.0.0.0/24",  # RFC 6890; the metadata of Oracle Cloud among them
        "192.88.99.0/24",  # relays of 6to4, RFC 7526
        "3fff::/20",  # documentation, RFC 9637
    )
)  # what `is_global` of some Python versions takes for public


class OutgoingRefused(YimenError):
    """The guard does not permit this address; the message says why in words for an operator."""

    code = "outgoing_refused"


class OutgoingFailed(YimenError):
    """The other side did not answer as it should: silence, a broken connection, too much."""

    code = "outgoing_failed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, at most the limit of the call. Names of headers are in lower case."""

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

    def may_cover(self, port: int) -> bool:
        """Whether some name could lead to a network that this entry permits on the port."""
        return self.network is not None and self.port in (None, port)


def parse_allow(entries: Iterable[str]) -> tuple[Allowed, ...]:
    """`10.0.0.0/8`, `127.0.0.1:8101`, `[::1]:8101`, `host.name`, `host.name:8443`: no port, every port.

    Raises ConfigError with one line.
    """
    return tuple(_parse_entry(entry) for entry in entries)


def _parse_entry(entry: str) -> Allowed:
    with contextlib.suppress(ValueError):
        return Allowed(ip_network(entry), "", None)  # before all else: the colons of a bare IPv6 address part no port
    found = _ENTRY.fullmatch(entry.lower())
    inside, outside, digits = found.groups() if found else ("", "", None)
    port = int(digits) if digits else None
    if port is None or 0 < port < 65_536:
        with contextlib.suppress(ValueError):
            return Allowed(ip_network(inside or outside), "", port)
        if outside and _is_name(outside):
            return Allowed(None, outside, port)
    raise ConfigError(f"YIMEN_OUTBOUND_ALLOW: {entry} is neither a network nor a host, with or without a port")


def _is_name(host: str) -> bool:
    return bool(_NAME.fullmatch(host)) and not _DISGUISE.fullmatch(host)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host) if "%" not in host else None  # a zone has no place in a URL of the outside
    except ValueError:
        return None


def _is_public(address: Address) -> bool:
    """Whether an address lies in the public Internet: not private, shared, mapped, metadata, multicast or reserved."""
    if isinstance(address, IPv6Address) and (address not in UNICAST_V6 or address.sixtofour or address.teredo):
        return False  # also IPv4 in disguise: mapped, compatible, NAT64
    if any(address.version == network.version and address in network for network in INSIDE):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _parse(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address whose shape is sound. Raises OutgoingRefused."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        raise OutgoingRefused("the address is malformed") from None
    if scheme not in ("https", "http") or not host or not url.isascii() or not url.isprintable():
        raise OutgoingRefused("the address must be an absolute https address")
    if "@" in parts.netloc or "\\" in url or " " in url:
        raise OutgoingRefused("the address must not hold user information, blanks or backslashes")
    if not _literal(host) and not _is_name(host):
        raise OutgoingRefused("the host is malformed or a disguised address")
    return scheme, host, port if port is not None else 443 if scheme == "https" else 80


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
        addresses = (await self.addresses(host, port))[:ADDRESSES_TRIED]
        for address in addresses[:-1]:
            with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
        return await self._inner.connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Where a name leads, asked once: a single address that is not permitted spoils all of them."""
        try:
            found = [ip_address(text.partition("%")[0]) for text in await self._resolver(host, port)]
        except OSError:
            found = []
        if not found:
            raise OutgoingFailed(f"the name {host} cannot be resolved")
        for address in found:
            self.permit(host, port, address)
        return found

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
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # of hosts being called

    def check(self, url: str) -> None:
        """Raise OutgoingRefused for an address that could never be called: at registration, not months later.

        Nothing is resolved: a name on an unusual port passes when it may lead into a listed network.
        """
        scheme, host, port = _parse(url)
        address = _literal(host)
        if any(entry.covers(host, port, address) for entry in self._allowed):
            return
        if address is None and port != 443 and any(entry.may_cover(port) for entry in self._allowed):
            return  # where it leads is looked at before the call; outside those networks this port is refused
        if address is not None and not _is_public(address):
            raise OutgoingRefused(f"{address} is not on the allow list")
        if scheme == "http":
            raise OutgoingRefused(f"plain http to {host} port {port} is not on the allow list")
        if port != 443:
            raise OutgoingRefused(f"port {port} of {host} is not on the allow list")

    async def check_address(self, url: str) -> None:
        """`check`, and where the name leads now. Raises OutgoingRefused, or OutgoingFailed for an unknown name."""
        self.check(url)
        _, host, port = _parse(url)
        try:
            async with asyncio.timeout(self._total):
                await self._guard.addresses(host, port)
        except TimeoutError:
            raise OutgoingFailed(f"the name {host} cannot be resolved") from None

    async def request(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        limit: int = ANSWER_LIMIT,
    ) -> Answer:
        """One call. Raises OutgoingRefused, or OutgoingFailed for a slow, broken or overlong answer.

        The limit of time counts the wait for a turn, too: one silent host holds nobody for longer.
        """
        self.check(url)
        _, host, _ = _parse(url)
        slot = self._slots.setdefault(host, asyncio.Semaphore(PER_HOST))
        try:
            async with asyncio.timeout(self._total), slot:
                return await self._call(method, url, content, headers or {}, limit)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise OutgoingFailed(f"no proper answer: {type(error).__name__}") from None

    async def _call(self, method: str, url: str, content: bytes, headers: Mapping[str, str], limit: int) -> Answer:
        async with self._connected().stream(method, url, content=content, headers=dict(headers)) as response:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise OutgoingFailed("the answer is compressed")  # nobody asked for it, and a bomb would fit the limit
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limit:
                    raise OutgoingFailed("the answer is too long")
            return Answer(response.status_code, dict(response.headers), bytes(body))

    def _connected(self) -> httpx2.AsyncClient:
        if self._client is None:
            trust = self._trust()
            transport = httpx2.AsyncHTTPTransport(verify=trust, trust_env=False)
            transport._pool = httpcore2.AsyncConnectionPool(
                ssl_context=trust,
                max_connections=CONNECTIONS,
                max_keepalive_connections=20,
                keepalive_expiry=5.0,
                network_backend=self._guard,
            )
            self._client = httpx2.AsyncClient(
                transport=transport,
                trust_env=False,
                follow_redirects=False,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # takes none
                timeout=httpx2.Timeout(self._total, connect=self._connect),
                headers={"User-Agent": "Yimen", "Accept-Encoding": "identity"},
            )
        return self._client

    def _trust(self) -> ssl.SSLContext:
        """The trust anchors of the system and those of the setting; host names are always checked."""
        trust = ssl.create_default_context()
        if self._ca is not None:
            try:
                trust.load_verify_locations(self._ca)
            except OSError:
                raise OutgoingFailed("the file of YIMEN_OUTBOUND_CA cannot be read") from None
        return trust

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None
