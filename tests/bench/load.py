"""Load: one workload sent by wrk over a number of connections, every answer checked."""

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("load.lua")


class WrongAnswer(Exception):
    """The server answered something else than the workload asks for: a fast error is no result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What load.lua sends and what it expects; `kind` is cycle, refresh or login.

    `requests` are whole HTTP/1.1 requests. A right answer to a cycle has `status`, and `needle` in its body or
    `location` in its Location header. `head` ends with "Content-Length: " and `form` with "name=".
    """

    kind: str = "cycle"
    requests: Sequence[bytes] = ()
    status: int = 200
    needle: str = ""
    location: str = ""
    tokens: Sequence[str] = ()
    head: bytes = b""
    form: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What wrk saw: answers, seconds, and the latency of single requests in seconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def raw(method: str, path: str, host: str, *, body: bytes = b"", **headers: str) -> bytes:
    """A whole HTTP/1.1 request. Header names are written with underscores; a body is an urlencoded form."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if method == "POST":
        lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def post_head(path: str, host: str, **headers: str) -> bytes:
    """The beginning of a POST whose length load.lua fills in."""
    return raw("POST", path, host, **headers).rpartition(b"0\r\n\r\n")[0]


def start(plan: Plan, port: int, *, connections: int, seconds: float, folder: Path) -> "subprocess.Popen[str]":
    """wrk under way; `finish` waits for it."""
    with tempfile.NamedTemporaryFile("wb", suffix=".lua", dir=folder, delete=False) as file:
        file.write(_lua(plan))
    # wrk takes whole seconds; what is shorter is for smoke tests, which do not measure
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s", "-s", str(SCRIPT)]
    return subprocess.Popen(
        ["wrk", *options, f"http://127.0.0.1:{port}"],
        env=os.environ | {"BENCH_PLAN": file.name},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", *, at_least: int = 1) -> Result:
    """Raises WrongAnswer unless every single answer was right, and there were `at_least` so many."""
    output, _ = process.communicate()
    found = re.search(r"^BENCH (.*)$", output, re.M)
    if process.returncode != 0 or found is None:
        raise WrongAnswer(f"wrk failed ({process.returncode}):\n{output}")
    seen = {name: int(value) for name, value in (pair.split("=") for pair in found[1].split())}
    if seen["wrong"] or seen["lost"] or seen["right"] < at_least:
        body = re.search(r"^BENCH-BODY (.*)$", output, re.M)
        raise WrongAnswer(
            f"{seen['wrong']} wrong, {seen['lost']} lost and {seen['right']} right answers; "
            f"the first wrong one: {seen['wrong_status']} {body[1] if body else ''}"
        )
    return Result(
        requests=seen["requests"],
        seconds=seen["microseconds"] / 1e6,
        p50=seen["p50"] / 1e6,
        p99=seen["p99"] / 1e6,
    )


def run(plan: Plan, port: int, *, connections: int, seconds: float, folder: Path, at_least: int = 1) -> Result:
    """`start` and `finish`."""
    process = start(plan, port, connections=connections, seconds=seconds, folder=folder)
    return finish(process, at_least=at_least)


def _lua(plan: Plan) -> bytes:
    """The plan as a Lua table."""
    requests = b",\n".join(_quoted(request) for request in plan.requests)
    tokens = b", ".join(_quoted(token.encode()) for token in plan.tokens)
    members = [
        b"kind = " + _quoted(plan.kind.encode()),
        b"status = %d" % plan.status,
        b"needle = " + _quoted(plan.needle.encode()),
        b"location = " + (_quoted(plan.location.encode()) if plan.location else b"nil"),
        b"requests = " + (b"{" + requests + b"}" if plan.requests else b"nil"),
        b"tokens = {" + tokens + b"}",
        b"head = " + _quoted(plan.head),
        b"form = " + _quoted(plan.form),
    ]
    return b"return {\n" + b",\n".join(members) + b"\n}\n"


def _quoted(text: bytes) -> bytes:
    """A Lua string; everything but plain signs as a decimal escape."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_.~/:=&%?+,;@!*()'{}[]<>#$|^`"
    return b'"' + b"".join(bytes([sign]) if sign in plain else b"\\%03d" % sign for sign in text) + b'"'
