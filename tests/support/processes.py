"""Processes that tests start: free ports, readiness, and an end that is sure to come."""

import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

# Outgoing connections take their ports from 32768 on, so these stay free until somebody listens.
_PORTS = range(20_000, 32_000)


def free_port(count: int = 1) -> int:
    """The first of `count` ports in a row on which nobody listens."""
    while True:
        first = random.choice(_PORTS)
        if all(_is_free(port) for port in range(first, first + count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def bound_to_us(ending: str) -> list[str]:
    """What to put before a command, so that it gets the signal `ending` when the thread that starts it is gone."""
    return ["setpriv", f"--pdeathsig={ending}"]


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    """Return once `ready`; RuntimeError with the end of the log when the process ends before, or time is up."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if ready():
            return
        time.sleep(0.05)
    tail = log.read_text(errors="replace")[-4000:]
    raise RuntimeError(f"{process.args!r} was not ready (exit status {process.poll()}):\n{tail}")


def stop(process: subprocess.Popen[bytes], ending: signal.Signals = signal.SIGTERM, seconds: float = 15) -> None:
    """Ask a process to end, and make it end when it does not listen."""
    if process.poll() is None:
        process.send_signal(ending)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
