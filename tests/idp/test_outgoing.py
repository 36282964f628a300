"""The guarded client calls nobody whom the rules do not allow, and lets nobody hold it up."""

import asyncio
import datetime
import gzip
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpcore2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from idp.errors import ConfigError
from idp.outgoing import Answer, Outgoing, OutgoingFailed, OutgoingRefused, parse_allow

Addresses = list[str]
SILENT = "/silent"
HEAD = b"HTTP/1.1 200 OK\r\nSet-Cookie: seen=yes\r\n"
ANSWERS = {
    "/redirect": b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    "/big": HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000,
    "/endless": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b"x" * 0x8000 + b"\r\n",
    "/half": HEAD + b"Content-Length: 9\r\n\r\nhal",
    "/bomb": HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(bytes(1_000_000)),
    "/nonsense": b"what?\r\n\r\n",
}


class Canary:
    """A server on loopback that notes what it is asked."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.heads: list[bytes] = []
        self.busy = self.busiest = 0
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Canary":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                self.busy += 1
                self.busiest = max(self.busy, self.busiest)
                try:
                    await self._answer(head.split()[1].decode(), reader, writer)
                finally:
                    self.busy -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller went away
        finally:
            writer.close()

    async def _answer(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if path == SILENT:
            await reader.read()
        writer.write(ANSWERS.get(path, HEAD + b"Content-Length: 2\r\n\r\nok"))
        if path == "/endless":
            await reader.read()
        if path in ("/half", "/bomb", "/nonsense"):
            writer.close()
        await writer.drain()


def names(*addresses: str) -> Callable[[str, int], Awaitable[Addresses]]:
    """A resolver by which every name leads to these addresses, and a literal address to itself."""

    async def resolver(host: str, port: int) -> Addresses:
        return list(addresses) or [host]

    return resolver


def story(tell: Callable[[Canary], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        async with Canary() as canary:
            return await tell(canary)

    return asyncio.run(whole())


async def call(url: str, *allow: str, leads_to: Sequence[str] = (), ca: Path | None = None, total: float = 5) -> Answer:
    outgoing = Outgoing(allow, ca, total_seconds=total, resolver=names(*leads_to))
    try:
        return await outgoing.request("GET", url)
    finally:
        await outgoing.close()


# --- what is refused

FORBIDDEN = """http://127.0.0.1:PORT/ https://127.0.0.1:PORT/ http://[::1]:PORT/ http://[::ffff:127.0.0.1]:PORT/
http://2130706433:PORT/ http://0x7f.1:PORT/ http://0177.1:PORT/ http://127.1:PORT/ http://0x7f000001:PORT/
http://127.0.0.0x1:PORT/ https://127.0.0.1./ https://127.0.0.1%2f.example.test/ http://169.254.169.254/
https://10.1.2.3/ https://172.16.0.1/ https://192.168.0.1/ https://100.64.0.1/ https://0.0.0.0/ https://224.0.0.1/
https://240.0.0.1/ https://168.63.129.16/ https://192.0.0.192/ https://[fd00::1]/ https://[fe80::1]/
https://[fec0::1]/ https://[ff0e::1]/ https://[::]/ https://[::127.0.0.1]/ https://[64:ff9b::7f00:1]/
https://[2002:7f00:1::1]/ https://[2001::1]/ https://[2606:4700::1%25eth0]/ file:///etc/passwd gopher://127.0.0.1:PORT/
ftp://example.test/ https://user@example.test/ https://@example.test/ https://example.test:22/
https://example.test:0/ https://example.test:99999/ //example.test/ https:///x https://[::1
https://example.test\\@127.0.0.1/ http://example.test/ http://example.test:443/ https://a..b/ https://-a.test/""".split()


@pytest.mark.parametrize("url", FORBIDDEN)
def test_request_forbidden_address_is_refused(url: str) -> None:
    with pytest.raises(OutgoingRefused):
        Outgoing((), None).check(url.replace("PORT", "443"))

    async def tell(canary: Canary) -> None:
        with pytest.raises(OutgoingRefused) as refusal:
            await call(url.replace("PORT", str(canary.port)), leads_to=["127.0.0.1"])
        assert refusal.value.message.isascii()
        assert canary.heads == []

    story(tell)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "::ffff:10.0.0.1", "169.254.169.254", "fe80::1%2"])
def test_request_name_with_an_address_inside_is_refused(address: str) -> None:
    for leads_to in ([address], ["1.1.1.1", address], [address, "1.1.1.1"]):
        with pytest.raises(OutgoingRefused, match="not on the allow list"):
            asyncio.run(call("https://public.example.test/", leads_to=leads_to))


def test_request_name_is_resolved_once_and_the_checked_address_called(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, called = [["127.0.0.1"], ["1.1.1.1"]], []  # public at first, ours when asked again

    async def rebinding(host: str, port: int) -> Addresses:
        return answers.pop()

    async def connect(self: Any, host: str, *_: Any) -> None:
        called.append(host)
        raise httpcore2.ConnectError("nobody there")

    async def tell() -> None:
        outgoing = Outgoing((), None, resolver=rebinding)
        with pytest.raises(OutgoingFailed):
            await outgoing.request("GET", "https://rebinding.example.test/")
        await outgoing.close()

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)
    asyncio.run(tell())
    assert called == ["1.1.1.1"]
    assert answers == [["127.0.0.1"]]


def test_request_public_address_on_an_unusual_port_is_refused() -> None:
    for url in ("https://rp.example.test:8443/", "http://rp.example.test/"):
        with pytest.raises(OutgoingRefused, match=r"port \d+ of rp\.example\.test is not on"):
            asyncio.run(call(url, "10.0.0.0/8", leads_to=["1.1.1.1"]))


# --- what is allowed


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("127.0.0.1:PORT", "http://127.0.0.1:PORT/"),
        ("127.0.0.1", "http://127.0.0.1:PORT/"),
        ("127.0.0.0/8", "http://127.0.0.1:PORT/"),
        ("127.0.0.0/8:PORT", "http://rp.test:PORT/"),
        ("rp.test", "http://rp.test:PORT/"),
        ("RP.test:PORT", "http://rp.TEST:PORT/"),
    ],
)
def test_request_listed_address_is_called(entry: str, url: str) -> None:
    async def tell(canary: Canary) -> None:
        allow, address = (text.replace("PORT", str(canary.port)) for text in (entry, url))
        answer = await call(address, allow, leads_to=["127.0.0.1"])
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"ok", "2")

    story(tell)


@pytest.mark.parametrize("entry", ["127.0.0.1:1", "127.0.0.2", "10.0.0.0/8", "other.test", "rp.test:1", "::/0"])
def test_request_address_beside_the_list_is_refused(entry: str) -> None:
    async def tell(canary: Canary) -> None:
        for host in ("127.0.0.1", "rp.test"):
            with pytest.raises(OutgoingRefused):
                await call(f"http://{host}:{canary.port}/", entry, leads_to=["127.0.0.1"])
        assert canary.heads == []

    story(tell)


def test_request_next_address_is_tried_when_one_is_dead() -> None:
    async def tell(canary: Canary) -> None:
        answer = await call(
            f"http://rp.test:{canary.port}/", "rp.test", leads_to=["127.0.0.9", "127.0.0.1", "127.0.0.8"]
        )
        assert answer.status == 200

    story(tell)


# --- manners of the client


def test_request_redirect_is_not_followed() -> None:
    async def tell(canary: Canary) -> None:
        assert (await call(f"http://127.0.0.1:{canary.port}/redirect", "127.0.0.1")).status == 302
        assert len(canary.heads) == 1

    story(tell)


def test_request_keeps_no_cookie_and_asks_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def tell(canary: Canary) -> None:
        outgoing = Outgoing(("rp.test",), None, resolver=names("127.0.0.1"))
        for _ in range(2):
            answer = await outgoing.request("POST", f"http://rp.test:{canary.port}/", content=b"", headers={"X": "y"})
            assert "seen=yes" in answer.headers["set-cookie"]
        await outgoing.close()
        assert len(canary.heads) == 2
        assert all(b"cookie" not in head.lower() and b"\r\nX: y" in head for head in canary.heads)

    story(tell)


@pytest.mark.parametrize("path", ["/big", "/endless", "/half", "/bomb", "/nonsense"])
def test_request_overlong_or_broken_answer_fails(path: str) -> None:
    async def tell(canary: Canary) -> None:
        outgoing = Outgoing(("127.0.0.1",), None, total_seconds=2)
        with pytest.raises(OutgoingFailed):
            await outgoing.request("GET", f"http://127.0.0.1:{canary.port}{path}", limit=0x7FFF)
        assert (await outgoing.request("GET", f"http://127.0.0.1:{canary.port}/", limit=2)).body == b"ok"
        await outgoing.close()

    story(tell)


def test_request_silent_host_takes_its_time_and_no_more() -> None:
    async def tell(canary: Canary) -> None:
        outgoing = Outgoing(("rp.test", "other.test"), None, total_seconds=0.4, resolver=names("127.0.0.1"))

        async def wait_in_vain(host: str) -> float:
            started = time.monotonic()
            with pytest.raises(OutgoingFailed, match="TimeoutError"):
                await outgoing.request("GET", f"http://{host}:{canary.port}{SILENT}")
            return time.monotonic() - started

        waiting = asyncio.gather(*(wait_in_vain(host) for host in ("rp.test", "RP.test") for _ in range(5)))
        await asyncio.sleep(0.1)
        assert (await outgoing.request("GET", f"http://other.test:{canary.port}/")).status == 200
        assert max(await waiting) < 0.8
        assert canary.busiest == 5  # four to the silent host, however it is spelled, and the other one
        assert len(outgoing._slots) == 0
        await outgoing.close()

    story(tell)


def test_request_nobody_there_fails() -> None:
    with pytest.raises(OutgoingFailed):
        asyncio.run(call("http://127.0.0.1:9/", "127.0.0.1"))


def test_request_unknown_name_fails() -> None:
    async def unknown(host: str, port: int) -> Addresses:
        raise OSError("unknown")

    async def tell() -> None:
        outgoing = Outgoing((), None, resolver=unknown)
        with pytest.raises(OutgoingFailed, match=r"the name nowhere\.test cannot be resolved"):
            await outgoing.request("GET", "https://nowhere.test/")
        await outgoing.close()

    asyncio.run(tell())


# --- certificates


class Authority:
    """A certificate authority of a government network, and certificates by it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test CA")])
        own = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )

    def server(self, host: str, greeted: list[str | None]) -> ssl.SSLContext:
        """A server's context with a certificate for `host`; the names by which it is greeted go to `greeted`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        alternative = x509.SubjectAlternativeName([x509.DNSName(host)])
        certificate = self._builder(name, key).add_extension(alternative, critical=False)
        pem = self._folder / f"{host}.pem"
        pem.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pem)
        context.sni_callback = lambda _socket, name, _context: greeted.append(name)
        return context


def test_request_checks_the_certificate_for_the_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    greeted: list[str | None] = []

    async def tell() -> None:
        async with Canary(authority.server("rp.test", greeted)) as canary:
            right, wrong = f"https://rp.test:{canary.port}/", f"https://other.test:{canary.port}/"
            assert (await call(right, "rp.test", leads_to=["127.0.0.1"], ca=authority.ca)).body == b"ok"
            assert greeted == ["rp.test"]
            with pytest.raises(OutgoingFailed):
                await call(right, "rp.test", leads_to=["127.0.0.1"])
            with pytest.raises(OutgoingFailed):
                await call(wrong, "other.test", leads_to=["127.0.0.1"], ca=authority.ca)
            assert len(canary.heads) == 1

    asyncio.run(tell())


def test_extra_authority_is_added_to_those_of_the_system(tmp_path: Path) -> None:
    system = ssl.create_default_context().cert_store_stats()["x509_ca"]
    trust = Outgoing((), Authority(tmp_path).ca)._trust()
    assert trust.cert_store_stats()["x509_ca"] == system + 1
    assert (trust.verify_mode, trust.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_extra_authority_that_cannot_be_read_fails_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "broken.pem").write_text("nothing")
    for ca in (tmp_path / "missing.pem", tmp_path / "broken.pem"):
        with pytest.raises(OutgoingFailed, match="YIMEN_OUTBOUND_CA"):
            asyncio.run(call("https://127.0.0.1/", "127.0.0.1", ca=ca))


# --- the checks without a call


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://10.2.3.4/out", "10.2.3.4 is not on the allow list"),
        ("https://rp.example.test:8443/", "port 8443 of rp.example.test is not on the allow list"),
        ("http://rp.example.test/", "plain http to rp.example.test port 80 is not on the allow list"),
        ("https://1.1.1.1:22/", "port 22 of 1.1.1.1 is not on the allow list"),
        ("http://1.1.1.1:443/", "plain http to 1.1.1.1 port 443 is not on the allow list"),
    ],
)
def test_check_tells_the_reason_at_registration(url: str, reason: str) -> None:
    with pytest.raises(OutgoingRefused) as refusal:
        Outgoing((), None).check(url)
    assert refusal.value.message == reason


def test_check_plain_http_to_the_port_of_https_needs_its_host_on_the_list() -> None:
    with pytest.raises(OutgoingRefused, match="plain http"):
        Outgoing(("10.0.0.0/8",), None).check("http://rp.example.test:443/")
    Outgoing(("rp.example.test",), None).check("http://rp.example.test:443/")


def test_check_passes_what_can_be_called() -> None:
    outgoing = Outgoing(("10.0.0.0/8", "hall.test:8080"), None)
    for url in (
        "https://rp.example.test/out?a=b",
        "https://1.1.1.1/",
        "http://10.2.3.4:8080/out",
        "http://hall.test:8080/",
        "https://rp.internal:8443/",  # may lead into 10.0.0.0/8
    ):
        outgoing.check(url)


def test_check_address_looks_where_the_name_leads() -> None:
    async def tell(address: str) -> None:
        await Outgoing(("10.0.0.0/8",), None, resolver=names(address)).check_address("https://rp.test/")

    asyncio.run(tell("10.1.1.1"))
    asyncio.run(tell("1.1.1.1"))
    with pytest.raises(OutgoingRefused, match=r"192\.168\.0\.1 is not on the allow list"):
        asyncio.run(tell("192.168.0.1"))


def test_parse_allow_reads_every_form() -> None:
    texts = ("10.0.0.0/8", "127.0.0.1:8101", "[::1]:8101", "::1", "[fd00::/8]:443", "Host.name", "host_1.name:8443")
    assert [(str(entry.network or entry.host), entry.port) for entry in parse_allow(texts)] == [
        ("10.0.0.0/8", None),
        ("127.0.0.1/32", 8101),
        ("::1/128", 8101),
        ("::1/128", None),
        ("fd00::/8", 443),
        ("host.name", None),
        ("host_1.name", 8443),
    ]


NONSENSE = """http://x 10.0.0.0/99 10.2.3.4/8 a/b x:port x:0 x:65536 x: user@host * *.gov.cn host?x host#x 2130706433
0x7f.1 [10.0.0.0/8 [::1 ::1]:5 a..b 1.2.3""".split()


@pytest.mark.parametrize("entry", ["", "a b", *NONSENSE])
def test_parse_allow_nonsense_is_refused_in_one_line(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"^YIMEN_OUTBOUND_ALLOW: .* is neither a network nor a host.*$"):
        parse_allow([entry])
