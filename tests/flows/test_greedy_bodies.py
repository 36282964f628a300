"""R01, R02, R04, T25: bodies too large, fields too many, bytes that are no text, and more people than fit at once."""

import concurrent.futures
import json
from pathlib import Path

import httpx2
import pytest

from idp.routes import ROUTES
from tests.support.citizen import Citizen
from tests.support.raw import Raw, exchange, status_of
from tests.support.servers import YimenServer
from tests.support.visitor import Rp, Visitor, sign_in

POSTS = [route.path for route in ROUTES if "POST" in route.methods]
JSON = {route.path for route in ROUTES if route.json_errors}
FORM = {"content-type": "application/x-www-form-urlencoded"}
MEGABYTE = 1_048_576

BODIES = {
    "1,001 fields": b"&".join(b"a%d=1" % number for number in range(1_001)),
    "201 fields": b"&".join(b"a%d=1" % number for number in range(201)),
    "10^6 fields": b"a=1&" * 1_000_000,
    "one field of 20 MB": b"a=" + b"x" * 20_000_000,
}
BYTES = {
    "half an escape": b"a=%",
    "an escape of no digits": b"a=%zz",
    "an escape of one digit": b"a=%2",
    "an escape of another kind": b"a=%u0041",
    "not UTF-8": b"a=%ff",
    "raw bytes of GB 18030": "a=张".encode("gb18030"),
    "overlong UTF-8": b"a=%c0%af",
    "a surrogate": b"a=%ed%a0%80",
    "NUL": b"a=%00",
    "raw NUL": b"a=\0",
    "a line feed": b"a=%0a",
    "a bad name": b"%ff=a",
}


def memory_of(server: YimenServer) -> int:
    """Resident bytes of the server with its workers."""
    assert server._process is not None
    return sum(int(_status(pid, "VmRSS").split()[0]) * 1_024 for pid in _family(server._process.pid))


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in _family(int(child)))]


def _status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2] for line in lines if line.startswith(name + ":"))


def post(server: YimenServer, path: str, length: int, body: bytes) -> bytes:
    """Send as much as the server takes; its answer."""
    with Raw(server.url) as raw:
        head = f"POST {path} HTTP/1.1\r\nHost: {raw.netloc}\r\nContent-Type: {FORM['content-type']}\r\n"
        raw.send(f"{head}Content-Length: {length}\r\n\r\n".encode() + body[:60_000])
        raw.send(body[60_000:])
        return raw.read_one()


def assert_refused(path: str, answer: bytes) -> None:
    assert status_of(answer) in (400, 413), answer[:300]
    if path in JSON:
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "invalid_request"


@pytest.mark.parametrize("path", POSTS)
def test_greedy_body_is_refused_without_memory(server: YimenServer, path: str) -> None:
    before = memory_of(server)
    for body in BODIES.values():
        assert_refused(path, post(server, path, len(body), body))
    for _ in range(5):
        assert_refused(path, post(server, path, 100 * MEGABYTE, b"x" * MEGABYTE))
    assert memory_of(server) - before < 50 * MEGABYTE


@pytest.mark.parametrize("path", ["/token", "/login"])
def test_endless_chunks_are_refused_without_memory(server: YimenServer, path: str) -> None:
    before = memory_of(server)
    with Raw(server.url) as raw:
        head = f"POST {path} HTTP/1.1\r\nHost: {raw.netloc}\r\nContent-Type: {FORM['content-type']}\r\n"
        raw.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        while raw.send(chunk):
            pass  # until the server has had enough
    assert memory_of(server) - before < 50 * MEGABYTE


@pytest.mark.parametrize("path", POSTS)
def test_bytes_that_are_no_text_are_refused(server: YimenServer, path: str) -> None:
    for body in BYTES.values():
        response = httpx2.post(server.url + path, content=body, headers=FORM, trust_env=False)
        assert_refused(path, f"HTTP/1.1 {response.status_code} \r\n\r\n".encode() + response.content)
        assert "\ufffd" not in response.text


def test_bytes_that_are_no_text_are_refused_in_the_address(server: YimenServer) -> None:
    host = server.url.partition("://")[2]
    for query in BYTES.values():
        for path in (b"/authorize", b"/login", b"/jwks", b"/logout"):
            head = b"GET " + path + b"?" + query + b" HTTP/1.1\r\nConnection: close\r\nHost: " + host.encode()
            assert status_of(exchange(server.url, head + b"\r\n\r\n")) == 400


@pytest.mark.parametrize(
    "lines",
    ["X: " + "x" * 40_000, "X: " + "x" * 1_000_000, "X: a\r\n" * 101, "a" * 40_000 + ": b"],
    ids=["one of 40 KB", "one of 1 MB", "101", "a name of 40 KB"],
)
def test_greedy_headers_are_refused(server: YimenServer, lines: str) -> None:
    with Raw(server.url) as raw:
        raw.send(f"GET /healthz HTTP/1.1\r\nHost: {raw.netloc}\r\n{lines}\r\n\r\n".encode())
        assert status_of(raw.read()) == 431


def test_long_address_is_refused(server: YimenServer) -> None:
    host = server.url.partition("://")[2]
    head = f"GET /login?a={'x' * 40_000} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    assert status_of(exchange(server.url, head.encode())) == 431


def test_burst_is_shed_with_a_word_when_to_come_back(server: YimenServer, citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(server.url)
    visitor.walk("/login")
    form = visitor.seen.forms["login-form"].fields
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())

    def attempt(number: int) -> tuple[int, bool]:
        data = {**form, "identifier": f"nobody{number}", "password": "wrong password"}
        body = str(httpx2.QueryParams(data)).encode()
        with Raw(server.url, source=f"127.0.6.{1 + number % 200}") as raw:
            head = f"POST /login HTTP/1.1\r\nHost: {raw.netloc}\r\nCookie: {cookie}\r\n"
            head += f"Content-Type: {FORM['content-type']}\r\nContent-Length: {len(body)}\r\n\r\n"
            raw.send(head.encode() + body)
            answer = raw.read_one()
        return status_of(answer), b"\r\nretry-after: " in answer

    with concurrent.futures.ThreadPoolExecutor(300) as pool:
        answers = list(pool.map(attempt, range(300)))
    assert {status for status, _ in answers} <= {400, 429, 503}
    assert all(told for status, told in answers if status in (429, 503))
    assert any(status == 503 for status, _ in answers), "nothing was shed: more than the limit must arrive at once"
    assert "code" in sign_in(Visitor(server.url), rp.authorize_url(), citizen.number, citizen.password)
