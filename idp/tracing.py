"""Tracing: each request belongs to a trace (W3C Trace Context), and spans go to a collector (OTLP over HTTP, JSON).

    YIMEN_TRACES=http://collector:4318/v1/traces

A span says route, method, status and times; nothing of a person, of an address or of a query is in it. Without the
setting nothing is kept, and the trace id still stands in the log line.
"""

import asyncio
import json
import logging
import re
import secrets
from collections import deque
from typing import Any, NamedTuple

from idp.context import Context
from idp.outgoing import OutgoingFailed, OutgoingRefused

log = logging.getLogger(__name__)

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
QUEUE_LIMIT = 2_048  # spans; more are dropped and counted
BATCH = 256
PAUSE_SECONDS = 2.0
BATCH_LIMIT = 65_536


class Trace(NamedTuple):
    """Where a request stands: its trace, its own span, and the caller's span or ""."""

    trace_id: str
    span_id: str
    parent_id: str


class Span(NamedTuple):
    """One request; times in nanoseconds since the epoch."""

    trace: Trace
    route: str
    method: str
    status: int
    start: int
    end: int


def begin(traceparent: str) -> Trace:
    """The trace that a request header names, or a new one (W3C Trace Context section 3.2)."""
    found = _TRACEPARENT.fullmatch(traceparent)
    trace_id, parent = (found[1], found[2]) if found else (secrets.token_hex(16), "")
    return Trace(trace_id, secrets.token_hex(8), parent)


class Spans:
    """Finished spans of this worker on their way to the collector."""

    def __init__(self, limit: int = QUEUE_LIMIT) -> None:
        self._waiting: deque[Span] = deque()
        self._limit, self.dropped = limit, 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, span: Span) -> None:
        if len(self._waiting) >= self._limit:
            self.dropped += 1
            return
        self._waiting.append(span)

    def take(self) -> list[Span]:
        return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]


def document(spans: list[Span]) -> bytes:
    """The request body of OTLP/HTTP in JSON (opentelemetry.io, OTLP specification 1.3)."""
    resource = {"attributes": [_attribute("service.name", "yimen")]}
    scope = {"scope": {"name": "yimen.http"}, "spans": [_span(span) for span in spans]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}).encode()


def _span(span: Span) -> dict[str, Any]:
    parent = {"parentSpanId": span.trace.parent_id} if span.trace.parent_id else {}
    return {
        "traceId": span.trace.trace_id,
        "spanId": span.trace.span_id,
        **parent,
        "name": f"{span.method} {span.route}",
        "kind": 2,  # SPAN_KIND_SERVER
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": [
            _attribute("http.route", span.route),
            _attribute("http.request.method", span.method),
            _attribute("http.response.status_code", span.status),
        ],
        "status": {"code": 2 if span.status >= 500 else 0},
    }


def _attribute(key: str, value: str | int) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value} if isinstance(value, str) else {"intValue": str(value)}}


async def send(context: Context, spans: list[Span]) -> bool:
    """One attempt. What does not arrive is lost: a trace is a help and never a record."""
    try:
        answer = await context.outgoing.request(
            "POST", context.config.traces, content=document(spans), headers={"Content-Type": "application/json"}
        )
    except (OutgoingFailed, OutgoingRefused) as error:
        log.warning("spans lost", extra={"fields": {"spans": len(spans), "detail": error.message}})
        return False
    return 200 <= answer.status < 300


async def run_forever(context: Context, spans: Spans) -> None:
    """The export loop of one worker."""
    while True:
        await asyncio.sleep(PAUSE_SECONDS)
        while batch := spans.take():
            await send(context, batch)
