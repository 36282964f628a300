"""Malformed requests to every address of the table of routes, the same ones for the same seed.

A request begins as one that would do, as far as a stranger can know, and then loses one to three of its virtues.
New routes and the names of their parameters are found by themselves.
"""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from idp.routes import ROUTES
from tests.malformed import hostile

ROOT = Path(__file__).parents[2]
FORM = b"application/x-www-form-urlencoded"
WELL_KNOWN = """client_id client_secret client_assertion client_assertion_type redirect_uri response_type response_mode
scope state nonce code_challenge code_challenge_method prompt max_age id_token_hint login_hint ui_locales acr_values
claims display request request_uri resource grant_type code code_verifier refresh_token token token_type_hint
access_token post_logout_redirect_uri logout_hint user_code device_code""".split()
TABLE: dict[str, str] = {  # what a good request to an address holds; others draw from all names
    "/authorize": "client_id redirect_uri response_type scope state nonce code_challenge code_challenge_method",
    "/authorize/continue": "interaction",
    "/token": "grant_type code redirect_uri code_verifier refresh_token client_id client_secret scope",
    "/revoke": "token token_type_hint client_id client_secret",
    "/introspect": "token token_type_hint client_id client_secret",
    "/userinfo": "access_token",
    "/logout": "id_token_hint post_logout_redirect_uri client_id state csrf decision",
    "/login": "interaction csrf identifier password organization kind",
    "/acting": "interaction csrf acting_for",
    "/consent": "interaction csrf decision",
    "/account/sessions": "csrf session",
    "/logged-out": "session",
    "/prefs": "lang care theme back",
}


def names_in_the_source() -> list[str]:
    """Every parameter that a handler asks for by name."""
    asked = re.compile(
        r"""(?:value|values|request_value)\(\s*["']([a-z_]+)["']|parameters(?:\.get\(|\[)["']([a-z_]+)["']"""
    )
    found = {name for path in (ROOT / "idp").rglob("*.py") for pair in asked.findall(path.read_text()) for name in pair}
    return sorted(found - {""})


class Action(NamedTuple):
    path: str
    method: str


ACTIONS = [Action(route.path.replace("*", "base.css"), method) for route in ROUTES for method in route.methods]
NAMES = sorted({*WELL_KNOWN, *names_in_the_source(), *" ".join(TABLE.values()).split()})


@dataclass
class Request:
    """A request before it is put on the wire, and what may come of it."""

    method: bytes
    path: bytes
    pairs: list[tuple[bytes, bytes]] = field(default_factory=list)
    in_body: bool = False
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    kind: bytes = FORM
    body: bytes | None = None  # in place of the form
    framing: bytes = b"Content-Length: %d"
    version: bytes = b"HTTP/1.1"
    cut: float = 1.0  # how much of it is sent

    def wire(self) -> bytes:
        form = b"&".join(name + b"=" + value for name, value in self.pairs)
        body = self.body if self.body is not None else form if self.in_body else b""
        target = self.path if self.in_body or not form else self.path + b"?" + _visible(form)
        lines = [
            b" ".join([self.method, target, self.version]),
            *(name + b": " + value for name, value in self.headers),
        ]
        if self.in_body or body:
            lines.append(b"Content-Type: " + self.kind)
            lines.append(self.framing % len(body) if b"%d" in self.framing else self.framing)
        raw = b"\r\n".join([*lines, b"", b""]) + body
        return raw[: int(len(raw) * self.cut)]


def _visible(query: bytes) -> bytes:
    """A target ends at the first blank, so blanks and what ends a line are escaped in it."""
    return re.sub(rb"[\x00-\x20\x7f]", lambda match: b"%%%02X" % match[0][0], query)


class Made(NamedTuple):
    """One request as bytes. `whole` is false when it ends too early or two ways of reading it are possible: then no
    answer is an answer, and the connection is not used again."""

    raw: bytes
    whole: bool
    head: bool


Change = Callable[["Generator", random.Random, Request], None]


class Generator:
    """Request number `i` for a seed and for live values of cookies and parameters."""

    def __init__(self, seed: str, host: str, known: Mapping[str, str], cookies: Mapping[str, str], basic: str) -> None:
        self._seed, self._host, self.known, self._cookies, self._basic = seed, host.encode(), known, cookies, basic

    def make(self, i: int) -> Made:
        chance = random.Random(f"{self._seed} {i}")
        asked = self._good(chance, ACTIONS[i % len(ACTIONS)])
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            chance.choice(CHANGES)(self, chance, asked)
        whole = asked.cut == 1.0 and asked.framing == b"Content-Length: %d" and asked.version == b"HTTP/1.1"
        return Made(asked.wire(), whole, asked.method == b"HEAD")

    def _good(self, chance: random.Random, action: Action) -> Request:
        names = TABLE.get(action.path, "").split() or chance.sample(NAMES, chance.randrange(5))
        if action.path == "/token":  # one grant at a time
            leave = chance.choice(["code", "refresh_token"])
            names = [name for name in names if name != leave]
        pairs = [(name.encode(), hostile.escape(self._value(name, chance))) for name in names]
        asked = Request(action.method.encode(), action.path.encode(), pairs, in_body=action.method == "POST")
        asked.headers.append((b"Host", self._host))
        if chance.random() < 0.7:
            cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
            asked.headers.append((b"Cookie", cookies.encode()))
        if action.path in ("/token", "/revoke", "/introspect") and chance.random() < 0.7:
            asked.headers.append((b"Authorization", b"Basic " + self._basic.encode()))
            asked.pairs = [pair for pair in pairs if not pair[0].startswith(b"client_")]
        return asked

    def _value(self, name: str, chance: random.Random) -> bytes:
        return self.known.get(name, chance.choice(["x", "1", "login", "on"])).encode()


# --- what can be wrong


def _one(change: Callable[[random.Random, list[tuple[bytes, bytes]], int], None]) -> Change:
    """A change of one parameter; of a request without any, a parameter that nobody asked for."""

    def apply(generator: Generator, chance: random.Random, asked: Request) -> None:
        if not asked.pairs:
            asked.pairs.append((chance.choice(NAMES).encode(), b"x"))
        change(chance, asked.pairs, chance.randrange(len(asked.pairs)))

    return apply


def _value(chance: random.Random, pairs: list[tuple[bytes, bytes]], at: int) -> None:
    pairs[at] = (pairs[at][0], hostile.value(chance, pairs[at][1]))


def _name(chance: random.Random, pairs: list[tuple[bytes, bytes]], at: int) -> None:
    pairs[at] = (hostile.value(chance, pairs[at][0]), pairs[at][1])


def _repeat(chance: random.Random, pairs: list[tuple[bytes, bytes]], at: int) -> None:
    again = (pairs[at][0], chance.choice([pairs[at][1], hostile.value(chance, b"")]))
    pairs[at:at] = [again] * chance.choice([1, 1, 2, 150])


def _drop(chance: random.Random, pairs: list[tuple[bytes, bytes]], at: int) -> None:
    del pairs[at]


def _empty(chance: random.Random, pairs: list[tuple[bytes, bytes]], at: int) -> None:
    pairs[at] = (pairs[at][0], b"")


def _add(chance: random.Random, pairs: list[tuple[bytes, bytes]], at: int) -> None:
    pairs.append((chance.choice(NAMES).encode(), hostile.value(chance, b"x")))


def _many(chance: random.Random, pairs: list[tuple[bytes, bytes]], at: int) -> None:
    pairs += [(b"f%d" % i, b"") for i in range(chance.choice([190, 199, 200, 201, 999, 1_001]))]


def _move(generator: Generator, chance: random.Random, asked: Request) -> None:
    """Parameters in the address of a POST, or a body for a GET."""
    asked.in_body = not asked.in_body


def _method(generator: Generator, chance: random.Random, asked: Request) -> None:
    asked.method = chance.choice([b"HEAD", b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE",
    b"CONNECT",
                                  b"get", b"PROPFIND", b"X" * 100, b"G\xc3\x89T", b""])  # fmt: skip


def _path(generator: Generator, chance: random.Random, asked: Request) -> None:
    path = asked.path
    asked.path = chance.choice([path + b"/", b"/" + path, path + b"/../login", path + b";x=1", path + b"%00",
    path + b"%2f",
                                path.upper(), path.replace(b"/", b"//"), b"/./" + path, b"*",
                                b"http://evil.test" + path,
                                b"http://" + generator._host + path, path[1:], path + b"#f", path + b"\xff\xe4",
                                path + hostile.mark(chance) + b"a" * chance.choice([1, 100, 2_000, 9_000, 70_000]),
                                b"/static/../../etc/passwd", b"/static/%2e%2e/x",
                                b"/." + hostile.mark(chance)])  # fmt: skip


def _kind(generator: Generator, chance: random.Random, asked: Request) -> None:
    asked.kind = chance.choice([b"application/json", b"text/plain", b"", FORM + b"; charset=gb18030", FORM.upper(),
                                FORM + b";" * 500, b"\xff", b"multipart/form-data", b"application/xml",
                                FORM + b", " + FORM])  # fmt: skip


def _json(generator: Generator, chance: random.Random, asked: Request) -> None:
    asked.in_body, asked.body = True, hostile.document(chance)
    asked.kind = chance.choice([b"application/json", FORM])


def _multipart(generator: Generator, chance: random.Random, asked: Request) -> None:
    asked.in_body = True
    asked.kind, asked.body = hostile.multipart(chance, asked.pairs)


def _body(generator: Generator, chance: random.Random, asked: Request) -> None:
    """Bytes that are no form, and now and then too many of them."""
    size = (
        chance.choice([0, 1, 3, 100, 1_000, 60_000]) if chance.random() < 0.95 else chance.choice([65_537, 1_048_577])
    )
    asked.in_body = True
    asked.body = chance.choice([chance.randbytes(size), b"&" * size, b"=" * size, b"%" * size, b"a=" + b"b" * size,
                                "姓名=张三&号码=".encode("gb18030") * (size // 20 + 1), b"\x00" * size])  # fmt: skip


def _header(generator: Generator, chance: random.Random, asked: Request) -> None:
    text = hostile.mark(chance)
    odd = re.sub(rb"[\x00-\x08\x0a-\x1f]", b"", hostile.value(chance, b""))
    asked.headers.append(chance.choice([
        (b"Authorization", chance.choice([b"Basic ", b"Bearer ", b"basic", b"Basic \xff\xfe", b"Digest x", b""]) + odd),
        (b"Authorization", b"Bearer " + b"." * chance.choice([1, 3_000])), (b"Cookie", odd), (b"Cookie",
        b"=; ;;=" + text),
        (b"Cookie", b"; ".join(b"c%d=%s" % (i, text) for i in range(chance.choice([50, 500])))),
        (b"Cookie", b"__Host-yimen_session=" + odd), (b"Cookie",
        b"__Host-yimen_browser=" + odd + b"; yimen_lang=" + odd),
        (b"Accept-Language", chance.choice([odd, b"zh," * 2_000, b"\xff,*;q=9", b"../..;q=1e400", b"en;q=-1,zh;q=x"])),
        (b"User-Agent", chance.choice([odd, b"", b"m" * 8_000])),
        (b"X-Forwarded-For", chance.choice([odd, b"1, " * 500])),
        (b"X-Forwarded-Host", b"evil.test"), (b"Forwarded", b"host=evil.test;proto=https"), (b"Host", b"evil.test"),
        (b"Origin", chance.choice([b"https://evil.test", b"null", odd])), (b"Sec-Fetch-Site", odd), (b"Referer", odd),
        (b"Range", b"bytes=" + b"0-," * 1_000), (b"Expect", chance.choice([b"100-continue", odd])), (b"If-None-Match",
        odd),
        (b"Content-Encoding", b"gzip"), (b"Upgrade", chance.choice([b"websocket", b"h2c"])), (b"Accept", odd),
        (b"X-HTTP-Method-Override", b"DELETE"), (b"DPoP", odd), (b"X-Request-Id", odd), (b"traceparent", odd),
        (b"X" * chance.choice([1, 300, 9_000]), b"y"), (b"Content-Type", FORM), (b"X-" + text, b"z" * 20_000),
    ]))  # fmt: skip


def _headers(generator: Generator, chance: random.Random, asked: Request) -> None:
    asked.headers += [(b"X-%d" % i, b"y") for i in range(chance.choice([50, 150, 1_000]))]


def _host(generator: Generator, chance: random.Random, asked: Request) -> None:
    hosts = [
        b"evil.test",
        b"",
        generator._host + b"/x",
        generator._host + b"@evil.test",
        b"\xff",
        b"[::1",
        b"a" * 5_000,
    ]
    rest = [header for header in asked.headers if header[0] != b"Host"]
    asked.headers = chance.choice(
        [rest, [(b"Host", chance.choice(hosts)), *rest], [*asked.headers, *asked.headers[:1]]]
    )


def _strange_framing(generator: Generator, chance: random.Random, asked: Request) -> None:
    asked.in_body = True
    asked.framing = chance.choice([
        b"Content-Length: 0", b"Content-Length: -1", b"Content-Length: 18446744073709551616", b"Content-Length: 5, 5",
        b"Content-Length: x", b"Content-Length: %d\r\nContent-Length: 1",
        b"Content-Length: %d\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"X: y\r\n folded", b"X: a\rb", b"X: a\x00b",
        b"no colon",
    ])  # fmt: skip
    if b"chunked" in asked.framing:
        asked.body = chance.choice([b"5\r\nscope\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\nx",
        b"5;" + b"e" * 30_000 + b"\r\nhello\r\n",
                                    b"-1\r\nx\r\n", b"0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n", b"zz\r\n"])  # fmt: skip


def _version(generator: Generator, chance: random.Random, asked: Request) -> None:
    asked.version = chance.choice([b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"", b"http/1.1", b"HTTP/1.1 x"])


def _cut(generator: Generator, chance: random.Random, asked: Request) -> None:
    """The connection ends somewhere in the middle."""
    asked.cut = chance.random() * 0.999


CHANGES: list[Change] = [
    *[_one(_value)] * 12,
    *[_one(_name)] * 2,
    *[_one(_repeat)] * 3,
    *[_one(_drop)] * 2,
    *[_one(_empty)] * 2,
    *[_one(_add)] * 3,
    _one(_many),
    *[_header] * 6,
    *[_path] * 2,
    _move,
    _method,
    _kind,
    _json,
    _multipart,
    _body,
    _headers,
    _host,
    _strange_framing,
    _version,
    _cut,
]
