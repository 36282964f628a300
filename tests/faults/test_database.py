"""T03: PostgreSQL stops at once and starts again. Honest 503 meanwhile, nothing lost, recovery without a restart."""

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.faults.conftest import WORKERS, Installation, under_load
from tests.faults.test_workers import NEW_WORKER_SECONDS, workers
from tests.support.cluster import wait_for
from tests.support.load import Load
from tests.support.visitor import Visitor, sign_in

PATIENT: dict[str, Any] = {"timeout": 60, "trust_env": False}

ANSWER_SECONDS = 20  # a hang guard; the promise is 2 on a machine that is not shared
RECOVERY_SECONDS = 30  # the same; the promise is 5


async def stop_and_start(installation: Installation, load: Load, *, down: float) -> None:
    """An outage of `down` seconds; afterwards the load goes on without a failure."""
    await asyncio.to_thread(installation.postgres.stop, "immediate")
    await asyncio.sleep(down)
    await asyncio.to_thread(installation.postgres.start)
    back = time.monotonic()
    await load.progress(12)
    recovery = load.ledger.recovered(back)
    print(f"recovered {recovery:.2f} s after PostgreSQL was back")
    assert recovery < RECOVERY_SECONDS


async def outages(installation: Installation, load: Load, times: int) -> None:
    before = workers(installation)
    for _ in range(times):
        await load.progress()
        await stop_and_start(installation, load, down=1)
    assert workers(installation) == before, "a worker was restarted"
    print(load.ledger.statuses(), f"slowest 503: {load.ledger.slowest(503):.2f} s")


def test_postgresql_stopped_at_once_and_started_loses_nothing(spoiled: Installation) -> None:
    load = under_load(spoiled, lambda load: outages(spoiled, load, 1))
    assert load.ledger.slowest(503) < ANSWER_SECONDS
    assert load.ledger.statuses()[503] > 0


@pytest.mark.long
def test_postgresql_silent_is_503_on_pages_and_endpoints_and_comes_back(spoiled: Installation) -> None:
    """It takes connections and says nothing, as behind a firewall that drops packets."""
    rp, citizen, url = spoiled.rp, spoiled.citizens[0], spoiled.server.url
    visitor = Visitor(url)
    tokens = rp.redeem(sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)["code"]).json()
    spoiled.sql.set("silent")
    try:
        with ThreadPoolExecutor(12) as threads:  # as many pages as would hold every thread of a worker
            pages = [threads.submit(httpx2.get, f"{url}/login", headers=cookies(visitor), **PATIENT) for _ in range(8)]
            answers = [rp.refresh(tokens["refresh_token"]), *(page.result() for page in pages)]
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.headers["retry-after"] for answer in answers} == {"1"}
        assert httpx2.get(f"{url}/jwks", **PATIENT).status_code == 200
    finally:
        spoiled.sql.set("pass")
    wait_for(lambda: visitor.walk(rp.authorize_url()).status_code == 303, 60, "recovery without a restart")
    assert httpx2.get(f"{url}/login", headers=cookies(visitor), **PATIENT).status_code == 303


def cookies(visitor: Visitor) -> dict[str, str]:
    return {"cookie": "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())}


def test_lock_that_is_held_refuses_and_goes(spoiled: Installation) -> None:
    async def fault(load: Load) -> None:
        await load.progress()
        with spoiled.postgres.connect(spoiled.database) as holder, holder.transaction():
            holder.execute("lock table grants in access exclusive mode")
            await asyncio.sleep(2.5)
        await load.progress(12)
        print(load.ledger.statuses(), f"slowest 503: {load.ledger.slowest(503):.2f} s")

    load = under_load(spoiled, fault)
    assert load.ledger.statuses()[503] > 0
    assert load.ledger.slowest(503) < ANSWER_SECONDS


def test_worker_that_dies_while_postgresql_is_down_comes_back_with_it(spoiled: Installation) -> None:
    """The supervisor goes on trying: an outage never takes the whole server down."""
    spoiled.postgres.stop("immediate")
    os.kill(workers(spoiled)[0], signal.SIGKILL)
    time.sleep(2)
    spoiled.postgres.start()
    log = spoiled.server.log
    started = log.read_text().count("Application startup complete")
    wait_for(
        lambda: log.read_text().count("Application startup complete") > started, NEW_WORKER_SECONDS, "a new worker"
    )
    wait_for(spoiled.server.is_ready, 60, "readiness")
    assert len(workers(spoiled)) == WORKERS


@pytest.mark.long
def test_postgresql_stopped_at_once_again_and_again_loses_nothing(spoiled: Installation) -> None:
    load = under_load(spoiled, lambda load: outages(spoiled, load, 20), rate=100)
    assert load.ledger.slowest(503) < ANSWER_SECONDS
