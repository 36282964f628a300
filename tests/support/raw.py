"""Bytes over a plain socket: requests that no client library would send."""

import contextlib
import re
import socket
import time
from urllib.parse import urlsplit

SECONDS = 60  # nobody waits longer


class Raw:
    """One connection to a server. `source` is the address that it comes from, any of 127.0.0.0/8."""

    def __init__(self, url: str, *, source: str = "127.0.0.1", receive_buffer: int = 0) -> None:
        parts = urlsplit(url)
        self.netloc = parts.netloc
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(SECONDS)
        self.socket.bind((source, 0))
        self.socket.connect((parts.hostname or "", parts.port or 0))
        self.opened = time.monotonic()

    def send(self, data: bytes) -> bool:
        """False when the server is gone."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def read(self) -> bytes:
        """All that comes until the server closes. TimeoutError when it does not."""
        found = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while data := self.socket.recv(65_536):
                found += data
        return found

    def read_one(self) -> bytes:
        """One whole answer with a Content-Length; less when the server closes before."""
        found = b""
        while not found.endswith(b"\r\n\r\n"):
            if not (data := self.socket.recv(1)):
                return found
            found += data
        length = re.search(rb"\r\ncontent-length: (\d+)", found)
        left = int(length[1]) if length else 0
        while left and (data := self.socket.recv(left)):
            found, left = found + data, left - len(data)
        return found

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def exchange(url: str, request: bytes, *, source: str = "127.0.0.1") -> bytes:
    """Send it; all that comes until the server closes. TimeoutError when it keeps the connection open."""
    with Raw(url, source=source) as raw:
        raw.send(request)
        return raw.read()


def status_of(answer: bytes) -> int:
    """The status of the first answer, 0 when there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def count_answers(answer: bytes) -> int:
    return answer.count(b"HTTP/1.1 ")
