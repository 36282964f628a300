"""P-14: any input ends in a quiet refusal or in correct work (security.md section 7)."""

import asyncio
import base64
import socket
from collections.abc import Iterator

import pytest

from tests.malformed.drive import Report, drive
from tests.malformed.generator import Generator
from tests.malformed.hostile import MARK
from tests.races.stage import AFTER_LOGOUT, CHALLENGE, SCOPE, VERIFIER, Stage
from tests.support.context import opened
from tests.support.proc import MIB, memory_of, serving
from tests.support.servers import YimenServer
from tests.support.visitor import REDIRECT_URI
from tests.support.wire import Barrier, request

SHORT, LONG = 5_000, 100_000  # requests on each kind of stores
PORTION = 1_000  # then everything that a request may name is made anew
WARM = 1_500  # requests after which a process has its templates, statements and pools
GROWTH_LIMIT = 50 * MIB


@pytest.fixture
def canary() -> Iterator[socket.socket]:
    """A listener that nobody may call."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def generator(stage: Stage, seed: str, canary: socket.socket) -> Generator:
    """With a living session, paused requests, codes and tokens."""
    stage.renew()
    tokens, asked = stage.tokens(), stage.pause(prompt="consent")
    address = f"http://127.0.0.1:{canary.getsockname()[1]}/"
    known = {
        "client_id": stage.client_id,
        "client_secret": stage.secret,
        "redirect_uri": REDIRECT_URI,
        "response_type": "code",
        "scope": SCOPE,
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "code_verifier": VERIFIER,
        "grant_type": "authorization_code",
        "code": stage.code(),
        "access_token": tokens["access_token"],
        "token": tokens["access_token"],
        "refresh_token": tokens["refresh_token"],
        "id_token_hint": tokens["id_token"],
        "post_logout_redirect_uri": AFTER_LOGOUT,
        "interaction": asked,
        "csrf": stage.form_value(asked),
        "decision": "approve",
        "identifier": stage.number,
        "password": "x" * 7,  # too short to be a password, so that no run waits for hashing
        "session": str(stage.session),
        "kind": "org",
        "organization": "91449901MA00000000",
        "acting_for": "self",
        "lang": "en",
        "back": "/login",
        "request_uri": address,
        "jwks_uri": address,
    }
    basic = base64.b64encode(f"{stage.client_id}:{stage.secret}".encode()).decode()
    return Generator(seed, stage.server.url.partition("://")[2], known, stage.cookies, basic)


def run(server: YimenServer, canary: socket.socket, requests: int, seed: str) -> None:
    allowed = (f"{server.url}/", REDIRECT_URI, AFTER_LOGOUT)
    processes, whole, start = serving(server), Report(), 0
    with opened(server.environment) as context, Barrier(server.url, 1, processes) as barrier:
        for begin in range(0, requests, PORTION):
            made = generator(Stage(server, context, barrier), seed, canary)
            portion = range(begin, min(begin + PORTION, requests))
            report = asyncio.run(drive(server.url, made.make, portion, allowed))
            whole.seconds += report.seconds
            whole.statuses += report.statuses
            whole.faults += report.faults
            if portion.stop >= WARM and not start:
                start = memory_of(processes)
    growth = memory_of(processes) - start
    print(f"{whole}, memory {growth / MIB:+.1f} MiB")
    assert not whole.faults, f"{len(whole.faults)} faults, seed {seed!r}\n" + "\n".join(whole.faults[:20])
    assert growth < GROWTH_LIMIT
    with Barrier(server.url, 1, processes) as barrier:
        assert barrier.lines[0].ask(request("GET", f"{server.url}/healthz")).status == 200
    logged = [line for line in server.log.read_text(errors="replace").splitlines() if MARK.decode() in line]
    assert not logged, logged[:5]
    with pytest.raises(BlockingIOError):
        canary.accept()


def test_malformed_requests_are_refused_quietly(unlimited: YimenServer, canary: socket.socket) -> None:
    run(unlimited, canary, SHORT, "short")


@pytest.mark.long
def test_malformed_requests_in_hundreds_of_thousands_are_refused_quietly(
    unlimited: YimenServer, canary: socket.socket
) -> None:
    run(unlimited, canary, LONG, "long")
