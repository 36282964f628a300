"""What a worker takes on: counts that come back to nothing, and shedding with 503 or 429 and Retry-After."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response

from idp.context import Context
from idp.errors import Overloaded, TooManyRequests
from idp.http import limits
from idp.http.application import create_application, page, protocol
from idp.http.limits import Guard, Limits, group_of
from idp.http.request import Request
from idp.http.response import json_response
from idp.pages.errors import show_error
from tests.support.context import opened


class Connection:
    def sweep(self, now: float) -> None: ...


def test_connections_of_an_address_are_counted_and_forgotten() -> None:
    guard = Guard(Limits(address_connections=2))
    connections = [Connection() for _ in range(3)]
    assert [guard.enter(each, "192.0.2.1") for each in connections] == ["", "", "address"]
    assert guard.enter(Connection(), "192.0.2.2") == ""
    for each in connections:
        guard.leave(each, "192.0.2.1")
    assert set(guard.addresses) == {"192.0.2.2"}


def test_counts_do_not_grow_with_addresses_that_are_gone() -> None:
    guard = Guard(Limits())
    for number in range(10_000):
        connection = Connection()
        guard.enter(connection, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        guard.leave(connection, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        with guard.request(f"2001:db8:{number >> 16:x}:{number & 65535:x}::1", page=False):
            pass
    assert (len(guard.addresses), len(guard.connections), guard.requests) == (0, 0, 0)


def test_limit_of_zero_counts_nothing_out() -> None:
    guard = Guard(Limits(address_connections=0))
    assert {guard.enter(Connection(), "192.0.2.1") for _ in range(10_000)} == {""}


def test_worker_holds_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_LIMIT", 2)
    guard = Guard(Limits())
    assert [guard.enter(Connection(), f"192.0.2.{number}") for number in range(3)] == ["", "", "connections"]


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_household_counts_as_one_address(address: str, group: str) -> None:
    assert group_of(address) == group


def test_proxies_are_known_by_their_networks() -> None:
    guard = Guard(Limits(trusted_proxies=(ip_network("10.0.0.0/8"),)))
    assert [guard.is_proxy(each) for each in ("10.1.2.3", "192.0.2.1", "", "x")] == [True, False, False, False]


def test_request_gives_back_what_it_took_whatever_happens() -> None:
    guard = Guard(Limits(address_connections=1))
    with pytest.raises(ZeroDivisionError), guard.request("192.0.2.1", page=True):
        raise ZeroDivisionError
    with guard.request("192.0.2.1", page=True), pytest.raises(TooManyRequests), guard.request("192.0.2.1", page=False):
        pass
    assert (guard.requests, guard.pages, len(guard.addresses)) == (0, 0, 0)


def test_pages_are_shed_while_protocol_requests_still_find_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGES_LIMIT", 1)
    guard = Guard(Limits())
    with guard.request("", page=True), pytest.raises(Overloaded), guard.request("", page=True):
        pass
    with guard.request("", page=True), guard.request("", page=False):
        assert guard.requests == 2


# --- over the application

Call = Callable[[str, str], Awaitable[list[Any]]]


@pytest.fixture
def gate() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def application(stores: dict[str, str], gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch) -> Iterator[Starlette]:
    """Waits at /slow until the gate opens; one address may have two requests, the worker three."""
    monkeypatch.setattr(limits, "REQUESTS_LIMIT", 3)
    settings = {"YIMEN_RATE_LIMITS": "on", "YIMEN_TRUSTED_PROXIES": "10.0.0.0/8", "YIMEN_ADDRESS_CONNECTIONS": "2"}

    async def slow(context: Context, request: Request) -> Response:
        await gate.wait()
        return json_response({})

    async def health(context: Context, request: Request) -> Response:
        return json_response({})

    def slow_page(context: Context, request: Request, db: object) -> Response:
        return Response("")

    with opened({**stores, **settings}) as context:
        routes = [protocol("/slow", GET=slow), protocol("/healthz", GET=health), page("/page", GET=slow_page)]
        yield create_application(context, routes, [], show_error)


async def call(application: Starlette, path: str, forwarded: str, peer: str = "10.0.0.1") -> tuple[int, dict[str, str]]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1:8000"), (b"x-forwarded-for", forwarded.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
    await application({**scope, "client": (peer, 1), "state": {}}, receive, send)
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def test_requests_beyond_the_limit_are_shed_at_once(application: Starlette, gate: asyncio.Event) -> None:
    async def run() -> None:
        waiting = [asyncio.ensure_future(call(application, "/slow", f"192.0.2.{number}")) for number in range(3)]
        await asyncio.sleep(0.1)
        for path in ("/slow", "/page", "/nowhere"):
            status, headers = await call(application, path, "192.0.2.9")
            assert (status, headers["retry-after"]) == (503, "1")
        assert (await call(application, "/healthz", "192.0.2.9"))[0] == 200
        gate.set()
        assert [status for status, _ in await asyncio.gather(*waiting)] == [200] * 3
        assert (await call(application, "/slow", "192.0.2.9"))[0] == 200
        assert application.state.guard.requests == 0

    asyncio.run(run())


def test_one_caller_behind_a_proxy_leaves_room_for_others(application: Starlette, gate: asyncio.Event) -> None:
    async def run() -> None:
        waiting = [asyncio.ensure_future(call(application, "/slow", "192.0.2.1")) for _ in range(2)]
        await asyncio.sleep(0.1)
        status, headers = await call(application, "/slow", "6.6.6.6, 192.0.2.1")
        assert (status, headers["retry-after"]) == (429, "1")
        other = asyncio.ensure_future(call(application, "/slow", "192.0.2.2"))
        await asyncio.sleep(0.1)
        assert not other.done()
        gate.set()
        assert {status for status, _ in await asyncio.gather(*waiting, other)} == {200}

    asyncio.run(run())


def test_header_of_a_stranger_is_not_counted(application: Starlette, gate: asyncio.Event) -> None:
    async def run() -> None:
        waiting = [asyncio.ensure_future(call(application, "/slow", "192.0.2.1", "203.0.113.1")) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert not application.state.guard.addresses
        gate.set()
        assert {status for status, _ in await asyncio.gather(*waiting)} == {200}

    asyncio.run(run())
