"""Raw HTTP/1.1: requests as bytes, answers as they came, and volleys of requests that arrive at one moment."""

import base64
import json
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlencode, urlsplit

TIMEOUT_SECONDS = 60  # a hang guard
SILENCE_SECONDS = 2  # the server hangs up after 5


@dataclass(frozen=True)
class Answer:
    """`headers` has names in lower case and the last value of each; `cookies` what was set."""

    status: int
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    body: bytes

    @cached_property
    def json(self) -> dict[str, Any]:
        """The JSON object of the body, {} for anything else."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def error(self) -> str:
        """The code of an OAuth error, in the body or in the redirect; "" when there is none."""
        return str(self.json.get("error", "")) or self.query.get("error", "")

    @cached_property
    def query(self) -> dict[str, str]:
        """The parameters of a redirect."""
        location = self.headers.get("location", "")
        return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


def request(
    method: str,
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    cookies: Mapping[str, str] | None = None,
    basic: tuple[str, str] | None = None,
    bearer: str = "",
) -> bytes:
    """One request on a connection that stays open."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    if cookies:
        lines.append("Cookie: " + "; ".join(f"{name}={value}" for name, value in cookies.items()))
    if basic:
        lines.append("Authorization: Basic " + base64.b64encode(":".join(basic).encode()).decode())
    if bearer:
        lines.append(f"Authorization: Bearer {bearer}")
    body = b""
    if form is not None:
        body = urlencode(form).encode()
        lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_answer(stream: BinaryIO, *, head: bool = False) -> Answer | None:
    """The next answer, None when the connection was closed instead."""
    line = stream.readline(65_536)
    if not line.endswith(b"\n"):
        return None
    status, headers, cookies = int(line.split()[1]), dict[str, str](), dict[str, str]()
    while (line := stream.readline(65_536)) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
        if name.lower() == "set-cookie":
            key, _, rest = value.strip().partition("=")
            cookies[key] = rest.partition(";")[0]
    size = 0 if head else int(headers.get("content-length", 0))
    body = stream.read(size) if "transfer-encoding" not in headers else _chunks(stream)
    return Answer(status, headers, cookies, body)


def _chunks(stream: BinaryIO) -> bytes:
    body = b""
    while size := int(stream.readline(100).split(b";")[0], 16):
        body += stream.read(size)
        stream.readline(10)
    stream.readline(10)
    return body


class Line:
    """One connection that stays open; `is_silent` tells when the server is about to hang up."""

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 0), TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb")
        self._used = time.monotonic()

    @property
    def is_silent(self) -> bool:
        return time.monotonic() - self._used > SILENCE_SECONDS

    def send(self, raw: bytes) -> None:
        self._socket.sendall(raw)

    def receive(self) -> Answer:
        answer = read_answer(self._stream)
        assert answer is not None, "the server closed the connection"
        self._used = time.monotonic()
        return answer

    def ask(self, raw: bytes) -> Answer:
        self.send(raw)
        return self.receive()

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


class Barrier:
    """As many open connections as clients, shared out among the processes of a server. A context manager.

    Each request is sent but for its last byte; then the last bytes leave together, within a millisecond.
    """

    def __init__(self, server_url: str, clients: int, processes: Sequence[int]) -> None:
        self._url, self._processes = server_url, processes
        self._lines: list[Line | None] = [None] * clients
        self._open()

    def _open(self) -> None:
        """Open what is not open: each process gets its share, since all others are halted while it accepts."""
        for turn, process in enumerate(self._processes):
            others = [other for other in self._processes if other != process]
            for other in others:
                os.kill(other, signal.SIGSTOP)
            try:
                for place in range(turn, len(self._lines), len(self._processes)):
                    if self._lines[place] is None:
                        line = self._lines[place] = Line(self._url)
                        line.ask(request("GET", f"{self._url}/healthz"))
            finally:
                for other in others:
                    os.kill(other, signal.SIGCONT)

    @property
    def lines(self) -> list[Line]:
        """The connections, all of them alive; neighbours belong to different processes."""
        for place, line in enumerate(self._lines):
            if line is not None and line.is_silent:
                line.close()
                self._lines[place] = None
        if None in self._lines:
            self._open()
        return [line for line in self._lines if line is not None]

    def release(self, requests: Sequence[bytes]) -> list[Answer]:
        """The answers to requests that arrived together, in the order given."""
        return [line.receive() for line in self.send(requests)]

    def send(self, requests: Sequence[bytes]) -> list[Line]:
        """The connections on which the answers will come."""
        lines = self.lines[: len(requests)]
        assert len(lines) == len(requests)
        for line, raw in zip(lines, requests, strict=True):
            line.send(raw[:-1])
        for line, raw in zip(lines, requests, strict=True):
            line.send(raw[-1:])
        return lines

    def __enter__(self) -> "Barrier":
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._lines:
            if line is not None:
                line.close()
