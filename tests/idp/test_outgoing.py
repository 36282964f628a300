"""The guarded client calls nobody whom the rules do not allow."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from idp.errors import ConfigError
from idp.outgoing import Answer, Outgoing, OutgoingFailed, OutgoingRefused, parse_allow


class Canary(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.calls.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/slow":
            threading.Event().wait(1.5)
        self.send_response(302 if self.path == "/redirect" else 200)
        if self.path == "/redirect":
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client hangs up on what is too long
            self.wfile.write(b"x" * (100_000 if self.path == "/big" else 2))

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def canary() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Canary)
    server.calls = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def call(url: str, *allow: str, addresses: list[str] | None = None, total: float = 5) -> Answer:
    async def resolver(host: str, port: int) -> list[str]:
        return addresses or [host.strip("[]")]

    async def run() -> Answer:
        outgoing = Outgoing(allow, None, total_seconds=total, resolver=resolver)
        try:
            return await outgoing.request("GET", url)
        finally:
            await outgoing.close()

    return asyncio.run(run())


FORBIDDEN = """http://127.0.0.1:PORT/ https://127.0.0.1:PORT/ http://[::1]:PORT/ http://[::ffff:127.0.0.1]:PORT/
http://2130706433:PORT/ http://0x7f.1:PORT/ http://0177.1:PORT/ http://127.1:PORT/ http://169.254.169.254/
https://10.1.2.3/ https://100.64.0.1/ https://0.0.0.0/ https://224.0.0.1/ https://[fd00::1]/ file:///etc/passwd
gopher://127.0.0.1:PORT/ ftp://example.test/ https://user@example.test/ https://example.test:22/ //example.test/
https:///x https://[::1 https://example.test\\@127.0.0.1/ http://example.test/""".split()


@pytest.mark.parametrize("url", FORBIDDEN)
def test_request_forbidden_address_is_refused(canary: ThreadingHTTPServer, url: str) -> None:
    with pytest.raises(OutgoingRefused):
        call(url.replace("PORT", str(canary.server_port)))
    assert canary.calls == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "::ffff:10.0.0.1", "169.254.169.254"])
def test_request_name_that_leads_inside_is_refused(address: str) -> None:
    with pytest.raises(OutgoingRefused, match="not on the allow list"):
        call("https://public.example.test/", addresses=["1.1.1.1", address])


def test_request_allowed_address_is_called(canary: ThreadingHTTPServer) -> None:
    port = canary.server_port
    for entry in (f"127.0.0.1:{port}", "127.0.0.1", "127.0.0.0/8"):
        assert call(f"http://127.0.0.1:{port}/", entry) == Answer(200, call_headers(port, entry), b"xx")
    with pytest.raises(OutgoingRefused):
        call(f"http://127.0.0.1:{port}/", f"127.0.0.1:{port + 1}")


def call_headers(port: int, entry: str) -> dict[str, str]:
    return dict(call(f"http://127.0.0.1:{port}/", entry).headers)


def test_request_allowed_name_is_called(canary: ThreadingHTTPServer) -> None:
    url = f"http://rp.test:{canary.server_port}/"
    assert call(url, "rp.test", addresses=["127.0.0.1"]).status == 200
    with pytest.raises(OutgoingRefused):
        call(url, "other.test", addresses=["127.0.0.1"])


def test_request_redirect_is_not_followed(canary: ThreadingHTTPServer) -> None:
    assert call(f"http://127.0.0.1:{canary.server_port}/redirect", "127.0.0.1").status == 302
    assert canary.calls == ["/redirect"]  # type: ignore[attr-defined]


def test_request_slow_or_overlong_answer_fails(canary: ThreadingHTTPServer) -> None:
    base = f"http://127.0.0.1:{canary.server_port}"
    for path, total in (("/slow", 0.3), ("/big", 5.0)):
        with pytest.raises(OutgoingFailed):
            call(base + path, "127.0.0.1", total=total)


def test_request_nobody_there_fails() -> None:
    with pytest.raises(OutgoingFailed):
        call("http://127.0.0.1:9/", "127.0.0.1")


def test_check_tells_the_reason_at_registration() -> None:
    with pytest.raises(OutgoingRefused, match=r"10\.2\.3\.4 is not on the allow list"):
        Outgoing((), None).check("https://10.2.3.4/out")
    Outgoing(("10.0.0.0/8",), None).check("http://10.2.3.4:8080/out")
    Outgoing((), None).check("https://rp.example.test/out")


@pytest.mark.parametrize("entry", ["http://x", "10.0.0.0/99", "a/b", "x:port", "user@host"])
def test_parse_allow_nonsense_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError):
        parse_allow([entry])
