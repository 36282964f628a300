"""Tracing: W3C Trace Context is continued or begun; spans are bounded; the collector gets OTLP's JSON."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from idp import tracing
from idp.tracing import Span, Spans, Trace
from tests.support.context import opened
from tests.support.gateway import Gateway

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def collector() -> Iterator[Gateway]:
    with Gateway() as running:
        yield running


def span(**changes: object) -> Span:
    trace = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "b7ad6b7169203331", "")
    return Span(trace, "/token", "POST", 200, 1_000, 3_000)._replace(**changes)  # type: ignore[arg-type]


def test_trace_of_a_caller_is_continued() -> None:
    trace = tracing.begin(PARENT)
    assert (trace.trace_id, trace.parent_id) == ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    assert len(trace.span_id) == 16


@pytest.mark.parametrize(
    "header",
    ["", "x", PARENT.upper(), PARENT + "-x", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", PARENT.replace("00-4", "ff-4"),
     "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01", PARENT + "\n", "9" * 10_000],
)  # fmt: skip
def test_malformed_header_begins_a_new_trace(header: str) -> None:
    trace = tracing.begin(header)
    assert trace.parent_id == ""
    assert trace.trace_id not in header
    assert len(trace.trace_id) == 32


def test_spans_are_bounded_and_counted_when_dropped() -> None:
    spans = Spans(limit=2)
    for _ in range(5):
        spans.add(span())
    assert (len(spans), spans.dropped) == (2, 3)
    assert len(spans.take()) == 2
    assert spans.take() == []


def test_collector_gets_the_documented_body(stores: dict[str, str], collector: Gateway) -> None:
    with opened(stores | {"YIMEN_TRACES": collector.url}) as context:
        assert asyncio.run(tracing.send(context, [span(), span(status=503)]))
    [document] = collector.received
    [resource] = document["resourceSpans"]
    sent = resource["scopeSpans"][0]["spans"]
    assert [one["name"] for one in sent] == ["POST /token"] * 2
    assert [one["status"]["code"] for one in sent] == [0, 2]
    assert (sent[0]["startTimeUnixNano"], sent[0]["endTimeUnixNano"]) == ("1000", "3000")
    assert "parentSpanId" not in sent[0]


def test_silent_collector_loses_spans_and_nothing_else(stores: dict[str, str], collector: Gateway) -> None:
    collector.status = 500
    with opened(stores | {"YIMEN_TRACES": collector.url}) as context:
        assert not asyncio.run(tracing.send(context, [span()]))
    with opened(stores | {"YIMEN_TRACES": "http://127.0.0.1:1/v1/traces"}) as context:
        assert not asyncio.run(tracing.send(context, [span()]))


def test_document_holds_route_and_no_address() -> None:
    assert "query" not in json.loads(tracing.document([span()]))["resourceSpans"][0]
