"""Sends malformed requests over a few connections that stay open, and judges the answers (security.md P-14)."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.malformed.generator import Made
from tests.malformed.hostile import MARK
from tests.support.wire import Answer

CONNECTIONS = 8
HANG_SECONDS = 30  # a hang guard, not a measure of speed
REFUSAL_LIMIT = 2_048
UNPARSED = b"Invalid HTTP request received."  # said before there is a request
CACHEABLE = ("/static/", "/jwks", "/.well-known/")


@dataclass
class Report:
    """What came of a run. `faults` name each failing request by its number and show its bytes."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ordered = sorted(self.seconds)
        share = {name: ordered[int(len(ordered) * part)] * 1_000 for name, part in (("p50", 0.5), ("p99", 0.99))}
        times = ", ".join(f"{name} {value:.0f} ms" for name, value in share.items())
        return f"{len(ordered)} requests, {times}, longest {ordered[-1] * 1_000:.0f} ms, answers {dict(self.statuses)}"


class Connection:
    def __init__(self, server_url: str) -> None:
        self._parts = urlsplit(server_url)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, made: Made) -> Answer | None:
        """The answer, None when the server hung up instead.

        A kept connection may end just before a request arrives on it; that is asked once more on a fresh one
        (RFC 9112 section 9.3.1).
        """
        kept = self._writer is not None
        answer = await self._ask_once(made)
        return await self._ask_once(made) if answer is None and made.whole and kept else answer

    async def _ask_once(self, made: Made) -> Answer | None:
        if self._writer is None or self._writer.is_closing() or (self._reader and self._reader.at_eof()):
            await self.close()
            host, port = self._parts.hostname or "", self._parts.port or 0
            self._reader, self._writer = await asyncio.open_connection(host, port, limit=1 << 20)
        reader, writer = self._reader, self._writer
        assert reader is not None
        answer = None
        try:
            writer.write(made.raw)
            if not made.whole:
                writer.write_eof()
            answer = await read(reader, head=made.head)
        except OSError:  # it was refused before all of it was sent
            answer = await last_words(reader, made.head)
        if answer is None or not made.whole or answer.headers.get("connection", "").lower() == "close":
            await self.close()
        return answer

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        self._reader = self._writer = None


async def last_words(reader: asyncio.StreamReader, head: bool) -> Answer | None:
    try:
        return await read(reader, head=head)
    except OSError:
        return None


async def read(reader: asyncio.StreamReader, *, head: bool) -> Answer | None:
    while True:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            return None
        status, headers = int(line.split()[1]), dict[str, str]()
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if status >= 200:
            break
    size = 0 if head or status in (204, 304) else int(headers.get("content-length", 0))
    try:
        return Answer(status, headers, {}, await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        return None


async def drive(server_url: str, make: Callable[[int], Made], numbers: range, allowed: tuple[str, ...]) -> Report:
    """Send the requests of these numbers. `allowed` begins every address that a redirect may name."""
    report, waiting = Report(), iter(numbers)

    async def work() -> None:
        connection = Connection(server_url)
        for number in waiting:
            made = make(number)
            started = time.perf_counter()
            try:
                answer = await asyncio.wait_for(connection.ask(made), HANG_SECONDS)
                problems = judge(made, answer, allowed)
            except TimeoutError:
                answer, problems = None, [f"no answer within {HANG_SECONDS} s"]
                await connection.close()
            report.seconds.append(time.perf_counter() - started)
            report.statuses[str(answer.status) if answer else "-"] += 1
            if problems:
                shown = answer.body[:300] if answer else b""
                status = answer.status if answer else "nothing"
                report.faults.append(
                    f"request {number}: {', '.join(problems)}\n  {made.raw[:3_000]!r}\n  -> {status} {shown!r}"
                )
        await connection.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return report


def judge(made: Made, answer: Answer | None, allowed: tuple[str, ...]) -> list[str]:
    """What is wrong with an answer, in words."""
    if answer is None:
        return ["no answer"] if made.whole else []
    problems = []
    if answer.status >= 500:
        problems.append(f"status {answer.status}")
    location = answer.headers.get("location", "")
    if location and not location.startswith(allowed):
        problems.append(f"leads to {location[:200]}")
    if answer.status == 400 and answer.body in (UNPARSED, b"") and "x-request-id" not in answer.headers:
        return problems
    if answer.headers.get("x-content-type-options") != "nosniff":
        problems.append("without nosniff")
    path = urlsplit([*made.raw.split(b" "), b"", b""][1].decode("latin-1").partition("?")[0]).path
    cacheable = answer.status < 400 and path.startswith(CACHEABLE)
    if not cacheable and "no-store" not in answer.headers.get("cache-control", ""):
        problems.append("may be stored")
    if b'"><script' in answer.body or b"'><img" in answer.body:
        problems.append("markup of the request is in the answer")
    return problems + judge_refusal(answer)


def judge_refusal(answer: Answer) -> list[str]:
    """A page that shows a form again with what was typed is work and no refusal."""
    refusal = answer.status >= 400 and (
        b'id="error-page"' in answer.body or "json" in answer.headers.get("content-type", "")
    )
    if not refusal:
        return []
    problems = []
    if len(answer.body) > REFUSAL_LIMIT:
        problems.append(f"a refusal of {len(answer.body)} bytes")
    if MARK in answer.body:
        problems.append("the refusal repeats the request")
    if b"Traceback" in answer.body:
        problems.append("a stack trace")
    return problems
