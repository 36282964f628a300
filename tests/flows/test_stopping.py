"""A graceful stop: what is in flight finishes, and then the server is gone."""

import os
import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import KINDS
from tests.support.proc import serving
from tests.support.servers import YimenServer
from tests.support.stores import Stores


@pytest.mark.parametrize("kind", KINDS)
def test_stop_lets_a_request_in_flight_finish(  # the fixture makes its stores by hand, as it stops the server
    _all_stores: Stores,  # noqa: PT019
    tmp_path: Path,
    kind: str,
) -> None:
    workers = 1 if kind == "sqlite" else 2
    with (
        _all_stores.environment(kind, tmp_path / "data") as environment,
        YimenServer(environment, workers=workers) as server,
    ):
        host = urlsplit(server.url)
        body = b"token=x&client_id=x"
        with socket.create_connection((host.hostname or "", host.port or 0), timeout=20) as connection:
            connection.sendall(
                b"POST /revoke HTTP/1.1\r\nHost: " + host.netloc.encode() + b"\r\nConnection: close\r\n"
                b"Content-Type: application/x-www-form-urlencoded\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body[:5]
            )
            time.sleep(0.3)
            assert server._process is not None
            server._process.terminate()
            time.sleep(0.5)
            connection.sendall(body[5:])
            assert connection.recv(65_536).startswith(b"HTTP/1.1 401")
        assert server._process.wait(15) in (0, -15)


@pytest.mark.long
def test_worker_that_is_held_up_for_a_while_is_not_replaced(
    _all_stores: Stores,  # noqa: PT019
    tmp_path: Path,
) -> None:
    """A busy machine may hold a worker up for longer than the five seconds that uvicorn waits by itself."""
    with (
        _all_stores.environment(KINDS[-1], tmp_path / "data") as environment,
        YimenServer(environment, workers=2 if len(KINDS) > 1 else 1) as server,
    ):
        before = serving(server)
        os.kill(before[0], signal.SIGSTOP)
        time.sleep(12)
        os.kill(before[0], signal.SIGCONT)
        time.sleep(2)
        assert serving(server) == before
