"""R05: who sends or reads slowly is closed, whatever he is slow at, and everybody else is served meanwhile.

The servers here have short limits, so that no test waits for the default ones; the long tests keep the defaults.
"""

import contextlib
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.raw import Raw, exchange, status_of
from tests.support.servers import YimenServer
from tests.support.stores import Stores

GUARD = 15  # seconds: what security.md R05 grants a slow client
SHORT = {
    "YIMEN_RATE_LIMITS": "on",
    "YIMEN_HEADER_SECONDS": "2",
    "YIMEN_BODY_SECONDS": "3",
    "YIMEN_ADDRESS_CONNECTIONS": "20",
}
POST = (
    "POST /token HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n"
)


@pytest.fixture(scope="module")
def hasty(_all_stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[YimenServer]:
    """A server with short limits; nobody's proxy but 127.0.7.*."""
    settings = {**SHORT, "YIMEN_TRUSTED_PROXIES": "127.0.7.0/24"}
    with (
        _all_stores.environment("sqlite", tmp_path_factory.mktemp("hasty")) as environment,
        YimenServer({**environment, **settings}) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def patient(_all_stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[YimenServer]:
    """A server with the default limits."""
    with (
        _all_stores.environment("sqlite", tmp_path_factory.mktemp("patient")) as environment,
        YimenServer(environment) as running,
    ):
        yield running


def drip(raw: Raw, data: bytes, every: float = 0.2, size: int = 1) -> bytes:
    """Send `size` bytes at a time until the server has had enough; what it says then."""
    raw.socket.settimeout(every)
    for start in range(0, len(data), size):
        raw.send(data[start : start + size])
        try:
            found = raw.socket.recv(65_536)
        except TimeoutError:
            continue
        except ConnectionResetError:
            return b""
        raw.socket.settimeout(GUARD)
        return found + raw.read()
    raise AssertionError("the server took it all")


def healthy(server: YimenServer) -> bool:
    return httpx2.get(f"{server.url}/healthz", trust_env=False, timeout=20).status_code == 200


def test_silent_connection_is_closed_without_a_word(hasty: YimenServer) -> None:
    with Raw(hasty.url) as raw:
        assert raw.read() == b""
        assert time.monotonic() - raw.opened < GUARD


@pytest.mark.parametrize("before", ["", "GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n"], ids=["first", "second"])
def test_slow_headers_are_closed(hasty: YimenServer, before: str) -> None:
    with Raw(hasty.url) as raw:
        if before:
            raw.send(before.format(raw.netloc).encode())
            assert status_of(raw.read_one()) == 200
        started = time.monotonic()
        answer = drip(raw, f"GET /healthz HTTP/1.1\r\nHost: {raw.netloc}\r\nX: {'x' * 200}".encode())
        assert status_of(answer) == 408
        assert time.monotonic() - started < GUARD


@pytest.mark.parametrize(("every", "size"), [(0.2, 1), (0.2, 1_100)], ids=["drop by drop", "steady but endless"])
def test_slow_body_is_closed(hasty: YimenServer, every: float, size: int) -> None:
    with Raw(hasty.url) as raw:
        raw.send(POST.format(raw.netloc, 60_000).encode())
        assert status_of(drip(raw, b"a" * 60_000, every, size)) == 408
        assert time.monotonic() - raw.opened < GUARD


def test_slow_body_that_nobody_reads_any_more_is_closed(hasty: YimenServer) -> None:
    with Raw(hasty.url) as raw:
        raw.send(POST.format(raw.netloc, 100_000_000).encode())
        assert status_of(raw.read_one()) == 413
        drip(raw, b"a" * 1_000)
        assert time.monotonic() - raw.opened < GUARD


@pytest.mark.parametrize("after", ["\r\n", ""], ids=["an empty line", "nothing"])
def test_idle_connection_is_closed(hasty: YimenServer, after: str) -> None:
    with Raw(hasty.url) as raw:
        raw.send(f"GET /healthz HTTP/1.1\r\nHost: {raw.netloc}\r\n\r\n".encode())
        assert status_of(raw.read_one()) == 200
        raw.send(after.encode())
        assert raw.read() == b""
        assert time.monotonic() - raw.opened < GUARD + 5


def test_slow_reader_is_cut_off(hasty: YimenServer) -> None:
    request = "GET /static/base.css HTTP/1.1\r\nHost: {}\r\n\r\n"
    with Raw(hasty.url, receive_buffer=4_096) as raw:
        raw.socket.settimeout(0.2)
        sent = 0
        while time.monotonic() - raw.opened < GUARD:
            try:
                sent += raw.socket.send(request.format(raw.netloc).encode())
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                break
        else:
            raise AssertionError("a client that reads nothing was kept")
    assert sent
    assert healthy(hasty)


def test_address_holds_so_many_connections_and_others_none_the_less(hasty: YimenServer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(Raw(hasty.url, source="127.0.5.1"))
        answer = exchange(hasty.url, b"", source="127.0.5.1")
        assert status_of(answer) == 429
        assert b"retry-after: 1" in answer
        assert b"connection: close" in answer
        assert status_of(exchange(hasty.url, _last(hasty), source="127.0.5.2")) == 200
    time.sleep(0.5)
    assert status_of(exchange(hasty.url, _last(hasty), source="127.0.5.1")) == 200


def test_proxy_holds_as_many_connections_as_it_likes(hasty: YimenServer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(Raw(hasty.url, source="127.0.7.9"))
        assert status_of(exchange(hasty.url, _last(hasty), source="127.0.7.9")) == 200


def test_stranger_is_not_counted_under_an_address_that_he_invents(hasty: YimenServer) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(20):
            raw = stack.enter_context(Raw(hasty.url, source="127.0.5.3"))
            head = f"GET /healthz HTTP/1.1\r\nHost: {raw.netloc}\r\nX-Forwarded-For: 203.0.113.{number}\r\n\r\n"
            raw.send(head.encode())
            assert status_of(raw.read_one()) == 200
        assert status_of(exchange(hasty.url, b"", source="127.0.5.3")) == 429


def _last(server: YimenServer) -> bytes:
    host = server.url.partition("://")[2]
    return f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


# --- many


class Crowd:
    """Slow clients by the hundred in one thread, from many addresses; half send headers, half a body, a byte a time."""

    def __init__(self, server: YimenServer, count: int) -> None:
        self.server, self.count = server, count
        self.selector = selectors.DefaultSelector()
        self.opened: dict[socket.socket, float] = {}
        self.longest = 0.0
        self.closed = self._number = 0

    def fill(self) -> None:
        while len(self.opened) < self.count:
            self._number += 1
            source = f"127.{10 + self._number // 50_000}.{self._number // 200 % 250}.{1 + self._number % 200}"
            client = socket.socket()
            client.bind((source, 0))
            client.connect(("127.0.0.1", self.server.port))
            if self._number % 2:
                client.send(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
            else:
                client.send(POST.format(self.server.url.partition("://")[2], 60_000).encode())
            client.setblocking(False)
            self.opened[client] = time.monotonic()
            self.selector.register(client, selectors.EVENT_READ)

    def step(self, seconds: float) -> None:
        """Take notice of those who were closed."""
        for key, _ in self.selector.select(seconds):
            client = key.fileobj
            assert isinstance(client, socket.socket)
            with contextlib.suppress(ConnectionResetError, BlockingIOError):
                if client.recv(65_536):
                    continue
            self.drop(client)
            self.closed += 1

    def send(self) -> None:
        for client in list(self.opened):
            with contextlib.suppress(OSError):
                client.send(b"x")

    def drop(self, client: socket.socket) -> None:
        self.longest = max(self.longest, time.monotonic() - self.opened.pop(client))
        self.selector.unregister(client)
        client.close()

    def leave(self) -> None:
        for client in list(self.opened):
            self.drop(client)
        self.selector.close()


def _hold(server: YimenServer, count: int, seconds: float, byte_every: float) -> Crowd:
    """A crowd for so long, which is filled up again; a healthy request after each step must succeed."""
    crowd = Crowd(server, count)
    times = []
    try:
        started = sent = time.monotonic()
        with httpx2.Client(trust_env=False, timeout=20) as client:
            while time.monotonic() - started < seconds:
                crowd.fill()
                crowd.step(0.05)
                if time.monotonic() - sent > byte_every:
                    crowd.send()
                    sent = time.monotonic()
                before = time.monotonic()
                assert client.get(f"{server.url}/.well-known/openid-configuration").status_code == 200
                times.append(time.monotonic() - before)
            while crowd.opened and time.monotonic() - started < seconds + 60:
                crowd.step(0.2)
                assert client.get(f"{server.url}/jwks").status_code == 200
        assert not crowd.opened, "slow clients were kept"
    finally:
        crowd.leave()
    times.sort()
    print(
        f"{count} slow connections, {crowd.closed} closed, the last after {crowd.longest:.1f} s; "
        f"{len(times)} healthy requests, p50 {times[len(times) // 2] * 1000:.1f} ms, "
        f"p99 {times[len(times) * 99 // 100] * 1000:.1f} ms"
    )
    return crowd


def test_crowd_of_slow_clients_is_closed_while_others_are_served(hasty: YimenServer) -> None:
    crowd = _hold(hasty, 300, 4, 0.5)
    assert crowd.closed >= 300
    assert crowd.longest < GUARD


@pytest.mark.long
def test_ten_thousand_slow_clients_are_closed_while_others_are_served(patient: YimenServer) -> None:
    crowd = _hold(patient, 8_000, 60, 10)
    assert crowd.closed >= 8_000
    assert crowd.longest < GUARD + 15, "closed late even for a busy machine"
    assert status_of(exchange(patient.url, _last(patient))) == 200


def test_log_of_the_server_does_not_grow_with_every_slow_client(hasty: YimenServer) -> None:
    before = _lines(hasty.log)
    for _ in range(20):
        assert status_of(exchange(hasty.url, b"nonsense\r\n\r\n")) == 400
    assert _lines(hasty.log) - before < 5


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n")
