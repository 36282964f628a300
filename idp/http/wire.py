"""The wire: uvicorn's HTTP/1.1 protocol with limits of time and size, strict framing, and an end that loses nothing.

The parser (llhttp) refuses two lengths, length beside chunks, folded headers and bare line feeds. Added here: what it
lets pass, how long anything may take, and how many connections an address may hold.
"""

import asyncio
import contextlib
import math
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from idp.http.limits import (
    ANSWER_SECONDS,
    FRAMING_LIMIT,
    HEAD_LIMIT,
    HEADERS_LIMIT,
    IDLE_SECONDS,
    PIPELINE_LIMIT,
    PROXY_IDLE_SECONDS,
    SLOW_BYTES,
    SLOW_WINDOW,
    SWALLOW_LIMIT,
    Guard,
)

IDLE, HEAD, BODY = "idle", "head", "body"
_REASONS = {  # reason: status, words
    "malformed": (400, "the request is malformed"),
    "slow": (408, "the request came too slowly"),
    "head": (431, "the headers are too large"),
    "address": (429, "too many connections from this address"),
    "connections": (503, "the server is busy"),
}


class Refused(Exception):
    """Thrown through the parser, which stops and raises it again as a HttpParserError."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `phase` says what is read now; `_deadline` when that must have come on (loop time)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.guard: Guard = self.app.state.guard
        self.phase = IDLE
        self._address = self._reason = ""
        self._deadline = self._body_deadline = math.inf
        self._explained = 0  # bytes of this call that are headers or body
        self._unexplained = 0  # bytes of this message that are neither, so far
        self._window = self._swallowed = 0
        self._draining = self._used = False

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = self.client[0] if self.client else ""
        proxy = not peer or self.guard.is_proxy(peer)  # a socket in the file system is a proxy's
        self.timeout_keep_alive = PROXY_IDLE_SECONDS if proxy else int(self._patience(IDLE_SECONDS))
        self._deadline = self.loop.time() + (PROXY_IDLE_SECONDS if proxy else self.guard.limits.header_seconds)
        self._address = "" if proxy else peer
        if reason := self.guard.enter(self, self._address):
            self._refuse(reason)

    def connection_lost(self, exc: Exception | None) -> None:
        self.guard.leave(self, self._address)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The worker ends: what is under way is finished, and an idle connection stays open for one last request.

        Closing an idle connection at once would lose the request that is just on its way.
        """
        self._draining = True
        if self._is_busy():
            self.cycle.keep_alive = False
        elif self.phase == IDLE:
            self._unset_keepalive_if_required()
            self._deadline = self.loop.time() + self.guard.limits.drain_seconds

    def sweep(self, now: float) -> None:
        """End the connection when it is late: silently when nothing was asked, with 408 within a request."""
        if now < self._deadline:
            if self.transport.is_closing() and self._deadline == math.inf:
                self._deadline = now + self._patience(ANSWER_SECONDS)  # the rest of the answer has to leave
            return
        if self.flow.write_paused or self.transport.is_closing():
            self.guard.turn_away("reader")
            self.transport.abort()
        elif self.phase == IDLE:
            self.transport.close()
        else:
            self._refuse("slow")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._deadline = self.loop.time() + self._patience(ANSWER_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._deadline = {BODY: self._body_deadline, HEAD: self.loop.time() + ANSWER_SECONDS}.get(self.phase, math.inf)

    def _patience(self, seconds: float) -> float:
        """So many seconds, or fewer where the operator allows fewer for a whole body."""
        return min(seconds, self.guard.limits.body_seconds)

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # --- what arrives

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._explained = 0
        self._unset_keepalive_if_required()
        try:
            with contextlib.suppress(httptools.HttpParserUpgrade):  # none is offered: answered as if it had not asked
                self.parser.feed_data(data)
        except httptools.HttpParserError:  # the parser's own, or Refused wrapped by it
            self._refuse(self._reason or "malformed")
        self._unexplained += len(data) - self._explained
        if self.transport.is_closing():
            return
        if self._unexplained > (HEAD_LIMIT if self.phase == HEAD else FRAMING_LIMIT):
            self._refuse("head" if self.phase == HEAD else "malformed")
        elif self.phase == IDLE:
            self._unexplained = 0
            if self._deadline == math.inf and not self._is_busy():  # uvicorn's own clock was stopped by these bytes
                self._deadline = self.loop.time() + self.timeout_keep_alive

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.phase = HEAD
        self._explained += 40  # method, version and the empty line
        if self._used or not self._address:
            self._deadline = self.loop.time() + self.guard.limits.header_seconds

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase == HEAD:  # a trailer must not pass for a header (RFC 9110 section 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        self._explained += size
        if size > HEAD_LIMIT or len(self.headers) > HEADERS_LIMIT:
            self._stop("head")
        given = {name: value for name, value in self.headers if name in (b"content-length", b"transfer-encoding")}
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1") or len(given) > 1 or (version == "1.0" and b"transfer-encoding" in given):
            self._stop("malformed")
        if len(self.pipeline) >= PIPELINE_LIMIT:
            self._stop("malformed")
        super().on_headers_complete()
        if self._draining or self.parser.should_upgrade():  # no upgrade is offered: nothing may follow
            self.cycle.keep_alive = False
        self.phase, self._used = BODY, True
        now = self.loop.time()
        self._window = self._swallowed = 0
        self._body_deadline = now + self.guard.limits.body_seconds
        waits = bool(self.pipeline)  # then we stopped reading, and nobody is late
        self._deadline = now + self._patience(SLOW_WINDOW) if given and not waits else math.inf

    def on_chunk_header(self) -> None:
        self._explained += 10

    def on_body(self, body: bytes) -> None:
        self._explained += len(body)
        super().on_body(body)
        self._window += len(body)
        if self._window >= SLOW_BYTES:
            self._window = 0
            self._deadline = min(self.loop.time() + SLOW_WINDOW, self._body_deadline)
        if self.cycle.response_complete:
            self._swallowed += len(body)
            if self._swallowed > SWALLOW_LIMIT:
                self._stop("malformed")

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.phase, self._deadline = IDLE, math.inf

    # --- refusals

    def _stop(self, reason: str) -> None:
        self._reason = reason
        raise Refused(reason)

    def _refuse(self, reason: str) -> None:
        """Answer and close. Where an earlier request still waits for its answer, close without a word."""
        self.guard.turn_away(reason)
        status, words = _REASONS[reason]
        waits = self.pipeline or (self._is_busy() and (self.phase == HEAD or self.cycle.response_started))
        answered = self.phase == BODY and self.cycle.response_complete
        if not waits and not answered:
            code = "temporarily_unavailable" if status in (429, 503) else "invalid_request"
            body = f'{{"error": "{code}", "error_description": "{words}"}}'.encode()
            head = [
                STATUS_LINE[status],
                b"content-type: application/json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n",
                b"retry-after: 1\r\n" if status in (429, 503) else b"",
                b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body),
            ]
            self.transport.write(b"".join(head) + body)
        self.transport.close()
        self._deadline = self.loop.time() + self._patience(ANSWER_SECONDS)
