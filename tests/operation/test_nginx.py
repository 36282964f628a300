"""The nginx configuration of docs/operation in front of a real server: TLS, forwarding, limits, framing, names."""

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterator

import httpx2
import pytest

from tests.conftest import KINDS
from tests.flows.test_framing import BAD
from tests.support.citizen import add_citizen, add_client
from tests.support.fleet import Fleet
from tests.support.front import Front
from tests.support.raw import count_answers, status_of
from tests.support.stores import Stores
from tests.support.visitor import Rp, Visitor, sign_in

KIND = KINDS[-1]
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with Front(tmp_path_factory.mktemp("front")) as running:
        yield running


@pytest.fixture(scope="module")
def behind(front: Front, _all_stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The server behind nginx, on the socket of its unit."""
    with (
        _all_stores.environment(KIND, tmp_path_factory.mktemp("behind")) as environment,
        Fleet({**environment, **front.environment}, port=front.server_port, workers=1) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def rp(front: Front, behind: Fleet) -> Rp:
    made = add_client(behind, "公积金")
    return Rp(front.url, made.client_id, made.client_secret)


@pytest.fixture
def http(front: Front, behind: Fleet) -> Iterator[httpx2.Client]:
    with front.client() as client:
        yield client


def over_tls(front: Front, data: bytes) -> bytes:
    """All that comes until nginx closes."""
    context = ssl.create_default_context(cafile=str(front.folder / "certificate.pem"))
    found = b""
    with (
        socket.create_connection(("127.0.0.1", front.port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
        contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLEOFError),
    ):
        tls.sendall(data)
        while more := tls.recv(65_536):
            found += more
    return found


def last_line(behind: Fleet) -> dict[str, object]:
    """The last line that the server logged about a request."""
    lines = [json.loads(line) for line in behind.log.read_text().splitlines() if '"message":"request"' in line]
    found: dict[str, object] = lines[-1]
    return found


def test_login_through_tls_gives_tokens(front: Front, behind: Fleet, rp: Rp, http: httpx2.Client) -> None:
    citizen = add_citizen(behind)
    answer = sign_in(Visitor(front.url, http), rp.authorize_url(), citizen.number, citizen.password)
    data = {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": rp.redirect_uri}
    auth = (rp.client_id, rp.client_secret)
    tokens = http.post(f"{front.url}/token", data={**data, "code_verifier": rp.verifier}, auth=auth).json()
    known = http.get(f"{front.url}/userinfo", headers={"authorization": f"Bearer {tokens['access_token']}"})
    assert known.json()["sub"]
    assert "max-age=63072000" in known.headers["strict-transport-security"]
    assert answer["code"] not in front.access_log.read_text()
    assert answer["code"] not in front.log.read_text()


def test_plain_http_is_sent_to_the_issuer_and_nowhere_else(front: Front) -> None:
    for host, status in (("localhost", 308), ("evil.test", 421), ("localhost.evil.test", 421)):
        response = httpx2.get(f"http://127.0.0.1:{front.plain_port}/login?a=1", headers={"host": host}, trust_env=False)
        assert response.status_code == status
        assert "evil" not in response.text
        assert response.headers.get("location", "") in ("", f"{front.url}/login?a=1")


@pytest.mark.parametrize(
    "host", ["evil.test", "localhost.evil.test", "127.0.0.1", "localhost:1", "localhost@evil.test"]
)
def test_foreign_host_never_gets_an_answer_of_ours(front: Front, behind: Fleet, host: str) -> None:
    for path in ("/.well-known/openid-configuration", "/login", "/login/"):
        answer = over_tls(front, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert status_of(answer) in (400, 421)
        assert b"evil" not in answer
        assert b"issuer" not in answer


def test_two_hosts_are_refused(front: Front, behind: Fleet) -> None:
    lines = f"Host: localhost:{front.port}\r\nHost: evil.test\r\n"
    assert status_of(over_tls(front, f"GET /login HTTP/1.1\r\n{lines}\r\n".encode())) == 400


@pytest.mark.parametrize("target", ["http://evil.test/login", "https://evil.test/.well-known/openid-configuration"])
def test_absolute_target_of_another_host_is_refused(front: Front, behind: Fleet, target: str) -> None:
    lines = f"Host: localhost:{front.port}\r\nConnection: close\r\n"
    answer = over_tls(front, f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode())
    assert status_of(answer) in (400, 421)
    assert b"evil" not in answer


def test_forwarding_headers_of_the_caller_end_at_nginx(front: Front, behind: Fleet, http: httpx2.Client) -> None:
    forged = {
        "x-forwarded-for": "203.0.113.7",
        "x-forwarded-host": "evil.test",
        "x-forwarded-proto": "http",
        "forwarded": "for=203.0.113.7;host=evil.test",
        "x-real-ip": "203.0.113.7",
    }
    response = http.get(f"{front.url}/.well-known/openid-configuration", headers=forged)
    assert response.json()["issuer"] == front.url
    assert "evil" not in response.text
    assert last_line(behind)["address"] == "127.0.0.1"
    http.get(f"{front.url}/jwks", headers={"x_forwarded_for": "203.0.113.7"})
    assert "203.0.113.7" not in behind.log.read_text()


def test_server_believes_nginx_about_the_caller(front: Front, behind: Fleet) -> None:
    """The caller's own address, of which loopback has many, is what the server logs."""
    transport = httpx2.HTTPTransport(
        local_address="127.0.9.9", verify=ssl.create_default_context(cafile=str(front.folder / "certificate.pem"))
    )
    with httpx2.Client(transport=transport, trust_env=False) as client:
        assert client.get(f"{front.url}/jwks").status_code == 200
    assert last_line(behind)["address"] == "127.0.9.9"


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
def test_inner_addresses_are_not_public(front: Front, http: httpx2.Client, path: str) -> None:
    assert http.get(front.url + path).status_code == 404


# Line feeds alone are allowed to recipients by RFC 9112 section 2.2; nginx reads them, and hands on proper lines. It
# also reads the body whole and hands it on with one Content-Length, so extensions and trailers end at it.
TIDIED = {
    "lines that end with LF",
    "one line that ends with LF",
    "chunks that end with LF",
    "chunk extensions of 30 KB",
    "trailers of 30 KB",
}


@pytest.mark.parametrize("name", BAD)
def test_ambiguous_message_never_becomes_two(front: Front, behind: Fleet, name: str) -> None:
    host = f"localhost:{front.port}"
    smuggled = f"GET /account HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    seen = behind.log.read_bytes().count(b'"route":"/account"')
    end = "\r\n\r\n" if name in TIDIED else ""  # so that nginx need not wait for the rest
    answer = over_tls(front, (BAD[name].format(host=host) + end + smuggled).encode("latin-1"))
    if name in TIDIED:
        assert 200 <= status_of(answer) < 500
        return
    assert status_of(answer) in (0, 400, 405, 501, 505), answer[:200]
    assert count_answers(answer) <= 1
    assert behind.log.read_bytes().count(b'"route":"/account"') == seen, "a smuggled request arrived"


def test_large_body_is_refused_at_the_door(front: Front, behind: Fleet, http: httpx2.Client) -> None:
    response = http.post(f"{front.url}/login", content=b"a" * 1_100_000, headers=FORM)
    assert response.status_code == 413


@pytest.mark.long
def test_slow_headers_are_closed_at_the_door(front: Front, behind: Fleet) -> None:
    with socket.create_connection(("127.0.0.1", front.port), timeout=60) as connection:
        began = time.monotonic()
        assert connection.recv(100) == b""  # not even TLS is begun
        assert time.monotonic() - began < 40


def test_many_requests_of_one_address_are_told_to_wait(front: Front, behind: Fleet) -> None:
    request = f"GET /healthz HTTP/1.1\r\nHost: localhost:{front.port}\r\n\r\n".encode()
    answer = over_tls(front, request * 900 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert answer.count(b"HTTP/1.1 200 ") >= 400
    assert (refused := answer.count(b"HTTP/1.1 429 ")) > 0
    assert (answer.count(b"\r\nRetry-After: 1\r\n"), answer.count(b"temporarily_unavailable")) == (refused, refused)
    time.sleep(1)
    assert status_of(over_tls(front, request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))) == 200


def test_no_worker_at_all_is_503_with_retry_after(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Front(tmp_path_factory.mktemp("alone")) as alone, alone.client() as client:
        response = client.get(f"{alone.url}/login")
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert response.json()["error"] == "temporarily_unavailable"


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_of_the_front_is_modern(front: Front, behind: Fleet, version: ssl.TLSVersion, taken: bool) -> None:
    """U01."""
    context = ssl.create_default_context(cafile=str(front.folder / "certificate.pem"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", front.port), timeout=60) as plain:
        if not taken:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(plain, server_hostname="localhost")
            return
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            assert tls.version() == {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
