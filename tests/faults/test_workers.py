"""T01: a worker is killed under load. The supervisor brings a new one; what was acknowledged is there."""

import asyncio
import os
import signal
import time

import pytest

from tests.faults.conftest import WORKERS, Installation, under_load
from tests.support.cluster import children
from tests.support.load import Load

NEW_WORKER_SECONDS = 40  # a hang guard; the promise is 5 on a machine that is not shared


def workers(installation: Installation) -> list[int]:
    """The processes that serve, oldest first; the resource tracker of multiprocessing is none of them."""
    assert installation.server.process is not None
    found = children(installation.server.process.pid)
    return [pid for pid in sorted(found, key=lambda pid: found[pid]) if _serves(pid)]


def _serves(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            return b"spawn_main" in line.read()
    except OSError:
        return False


async def kill_one(installation: Installation) -> float:
    """Kill the oldest worker; seconds until as many as before answer again."""
    victim = workers(installation)[0]
    begin = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    log = installation.server.log
    started = log.read_text().count("Application startup complete")
    while time.monotonic() - begin < NEW_WORKER_SECONDS:
        await asyncio.sleep(0.05)
        if log.read_text().count("Application startup complete") > started:
            break
    seconds = time.monotonic() - begin
    assert seconds < NEW_WORKER_SECONDS, "no new worker"
    assert victim not in workers(installation)
    assert len(workers(installation)) == WORKERS
    return seconds


async def killing(installation: Installation, load: Load, times: int, every: float) -> None:
    seconds = []
    for _ in range(times):
        await load.progress()
        await asyncio.sleep(every)
        seconds.append(await kill_one(installation))
    await load.progress()
    print(f"new worker ready after {max(seconds):.1f} s at most")
    lost = load.ledger.statuses()[0]
    print(f"{lost} requests without an answer, {load.ledger.statuses()[503]} answered 503")


def test_worker_killed_under_load_loses_nothing(spoiled: Installation) -> None:
    under_load(spoiled, lambda load: killing(spoiled, load, 1, 0))


@pytest.mark.long
def test_workers_killed_for_ten_minutes_lose_nothing(spoiled: Installation) -> None:
    under_load(spoiled, lambda load: killing(spoiled, load, 100, 5), rate=100)
