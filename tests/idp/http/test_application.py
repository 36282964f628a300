"""The seam: who calls, and how errors become answers."""

import asyncio
import time
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from idp.context import Context
from idp.errors import Overloaded
from idp.http.application import client_address, create_application, page, protocol
from idp.http.request import Request
from idp.pages.errors import show_error
from tests.support.context import opened


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.9", "1.1.1.1", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "garbage<>", ""),
        ("", "1.1.1.1", ""),
    ],
)
def test_client_address_believes_trusted_proxies_only(peer: str, forwarded: str, found: str) -> None:
    context: Any = SimpleNamespace(config=SimpleNamespace(trusted_proxies=(ip_network("10.0.0.0/8"),)))
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    assert client_address(context, {"client": (peer, 1) if peer else None, "headers": headers}) == found


async def overloaded(context: Context, request: Request) -> Any:
    raise Overloaded()


def overloaded_page(context: Context, request: Request, db: object) -> Any:
    raise Overloaded()


def silent_page(context: Context, request: Request, db: object) -> Any:
    """A page whose database says nothing for a while."""
    time.sleep(1)


@pytest.mark.parametrize("path", ["/protocol", "/page", "/silent"])
def test_overload_and_silence_are_503_with_retry_after(
    stores: dict[str, str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idp.http.application.PAGE_SECONDS", 0.3)
    with opened(stores) as context:
        routes = [
            protocol("/protocol", GET=overloaded),
            page("/page", GET=overloaded_page),
            page("/silent", GET=silent_page),
        ]
        application = create_application(context, routes, [], show_error)
        sent: list[Any] = []

        async def call() -> None:
            host = context.config.issuer.partition("://")[2].encode()
            scope = {
                "type": "http",
                "method": "GET",
                "path": path,
                "query_string": b"",
                "headers": [(b"host", host)],
                "client": ("127.0.0.1", 1),
                "state": {},
                "app": application,
            }

            async def receive() -> Any:
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: Any) -> None:
                sent.append(message)

            await application.router.default(scope, receive, send)

        asyncio.run(call())
        headers = dict(sent[0]["headers"])
        assert sent[0]["status"] == 503
        assert headers[b"retry-after"] == b"1"
