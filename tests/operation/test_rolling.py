"""P-17, T02, T18, G11: workers replaced, schema changed, keys rotated, all under load, and not one failed request."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest

from tests.support.citizen import add_citizen, add_client
from tests.support.fleet import ROOT, Fleet
from tests.support.front import Front
from tests.support.release import next_release
from tests.support.servers import YimenServer
from tests.support.steady_load import Keys, Load
from tests.support.stores import Stores
from tests.support.visitor import Rp


def plain_client() -> httpx2.Client:
    return httpx2.Client(trust_env=False, timeout=30)


@pytest.fixture
def front(tmp_path: Path, redis_url: object) -> Iterator[Front]:
    """(Several workers need PostgreSQL and Redis.)"""
    with Front(tmp_path / "front", rate=10_000) as running:  # one address for many people
        yield running


@pytest.fixture
def fleet(front: Front, _all_stores: Stores, tmp_path: Path) -> Iterator[Fleet]:
    """Two workers on one socket behind nginx."""
    with (
        _all_stores.environment("postgres", tmp_path / "data") as environment,
        Fleet({**environment, **front.environment}, port=front.server_port) as running,
    ):
        yield running


def load_on(server: YimenServer, url: str, connect: Callable[[], httpx2.Client], threads: int = 4) -> Load:
    citizen, made = add_citizen(server), add_client(server, "公积金")
    return Load(url, citizen, Rp(url, made.client_id, made.client_secret), connect=connect, threads=threads)


def assert_nothing_failed(server: YimenServer, load: Load, at_least: int = 20) -> None:
    """No failure in the ledger, enough done to mean something, and every ID token verifies by today's keys."""
    ledger = load.ledger
    print(ledger)
    assert ledger.failures == [], "\n".join([*ledger.failures, *_warnings_of(server)])
    assert ledger.done["login"] >= at_least // 4
    assert ledger.done["verification"] >= at_least
    with load._connect() as http:
        keys = Keys(load.url, http)
        wrong = [found for token in ledger.id_tokens[-2_000:] if (found := keys.verify(token, load.rp.client_id))]
    assert wrong == []


def finish(command: subprocess.Popen[bytes]) -> dict[str, str]:
    """The document of a finished command."""
    output, _ = command.communicate(timeout=120)
    assert command.returncode == 0, output
    found: dict[str, str] = json.loads(output)
    return found


def roll_out(fleet: Fleet, release: Path) -> None:
    """A whole update: schema, then one worker after the other; the keys are rotated in the middle of each."""
    before = fleet.cli("keys", "list")
    assert finish(fleet.upgrade(release))["to"] == "9999"
    fleet.restart_worker(1, release)  # old and new side by side
    fleet.cli("keys", "rotate")
    fleet.restart_worker(2, release)
    assert fleet.cli("keys", "list") != before


def test_update_of_everything_fails_no_request(fleet: Fleet, front: Front, tmp_path: Path) -> None:
    release = next_release(tmp_path / "next")
    with load_on(fleet, front.url, front.client) as load:
        time.sleep(2)
        roll_out(fleet, release)
        time.sleep(2)
    assert_nothing_failed(fleet, load)
    assert b"Traceback" not in fleet.log.read_bytes()


@pytest.mark.long
def test_reload_of_a_parent_fails_no_request(_all_stores: Stores, tmp_path: Path, redis_url: object) -> None:  # noqa: PT019
    with (
        _all_stores.environment("postgres", tmp_path / "data") as environment,
        YimenServer(environment, workers=2) as server,
    ):
        with load_on(server, server.url, plain_client, threads=3) as load:
            time.sleep(1)
            before = _workers_of(server)
            assert len(before) == 2
            assert server._process is not None
            server._process.send_signal(signal.SIGHUP)
            _wait(lambda: len(_workers_of(server)) == 2 and not before & _workers_of(server))
            time.sleep(1)
        assert_nothing_failed(server, load)


@pytest.mark.long
def test_upgrade_killed_in_the_middle_is_done_by_the_next(fleet: Fleet, front: Front, tmp_path: Path) -> None:
    slow = next_release(tmp_path / "slow", first='op.execute("select pg_sleep(3)")')
    with load_on(fleet, front.url, front.client, threads=2) as load:
        killed = fleet.upgrade(slow)
        _wait(lambda: _seen(fleet, "query like '%pg_sleep(3)%'"))
        killed.kill()
        killed.communicate()
        both = [fleet.upgrade(slow), fleet.upgrade(slow)]  # two operators at once
        assert {finish(each)["to"] for each in both} == {"9999"}
        assert finish(fleet.upgrade(slow)) == {"from": "9999", "to": "9999"}
    assert_nothing_failed(fleet, load, 4)


@pytest.mark.long
def test_upgrade_waits_for_a_busy_table_and_blocks_nobody(fleet: Fleet, front: Front, tmp_path: Path) -> None:
    """A lock that is asked for stands in everybody's way: so it is asked for briefly, and again."""
    release = next_release(tmp_path / "next")
    with load_on(fleet, front.url, front.client, threads=2) as load:
        with psycopg.connect(_conninfo(fleet)) as other:
            other.execute("select count(*) from accounts")  # a report that runs for long
            upgrade = fleet.upgrade(release)
            _wait(lambda: _seen(fleet, "wait_event_type = 'Lock' and query ilike '%alter table accounts%'"))
            time.sleep(5)
            assert upgrade.poll() is None
        assert finish(upgrade)["to"] == "9999"
    assert_nothing_failed(fleet, load, 4)


def test_upgrade_gives_way_to_a_transaction_that_it_locks_out(
    _all_stores: Stores,  # noqa: PT019
    tmp_path: Path,
    redis_url: object,
) -> None:
    """Each holds one table and wants the other's: PostgreSQL would end one of them, and it must not be the worker."""
    release = next_release(tmp_path / "next")
    with _all_stores.environment("postgres", tmp_path / "data") as environment:
        fleet = Fleet(environment)  # not started
        with psycopg.connect(_conninfo(fleet)) as worker:
            worker.execute("lock table grants in row exclusive mode")
            upgrade = fleet.upgrade(release)
            _wait(lambda: _seen(fleet, "wait_event_type = 'Lock' and query ilike '%alter table grants%'"))
            worker.execute("select count(*) from accounts")
        assert finish(upgrade)["to"] == "9999"
        fleet.stop()


def test_worker_that_ends_takes_no_more_and_finishes_what_it_has(fleet: Fleet, front: Front) -> None:
    """An idle connection gets one last answer, with the word that it is the last."""
    with httpx2.Client(base_url=f"http://127.0.0.1:{fleet.port}", trust_env=False, timeout=30) as idle:
        assert "connection" not in idle.get("/healthz").headers
        for worker in fleet.workers.values():
            worker.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert idle.get("/healthz").headers["connection"] == "close"
    for number in (1, 2):
        assert fleet.stop_worker(number) in (0, -signal.SIGTERM)
    fleet.start_worker(3)
    with front.client() as http:
        assert http.get(f"{front.url}/jwks").status_code == 200


@pytest.mark.long
def test_five_minutes_of_updates_fail_no_request(fleet: Fleet, front: Front, tmp_path: Path) -> None:
    release = next_release(tmp_path / "next")
    with load_on(fleet, front.url, front.client) as load:
        ending = time.monotonic() + 300
        roll_out(fleet, release)
        rounds = 0
        while time.monotonic() < ending:
            for number in (1, 2):
                fleet.restart_worker(number, ROOT if rounds % 2 else release)  # there and back: the schema stays
                fleet.cli("keys", "rotate")
                time.sleep(3)  # the workers look for keys every two seconds
            rounds += 1
    assert rounds > 3
    assert_nothing_failed(fleet, load, 500)


def _warnings_of(server: YimenServer) -> list[str]:
    lines = server.log.read_text(errors="replace").splitlines()
    return [line for line in lines if '"level": "info"' not in line][-50:]


def _workers_of(server: YimenServer) -> set[int]:
    """Children that serve (multiprocessing has one more, which keeps books)."""
    assert server._process is not None
    pid = server._process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in children if b"spawn_main" in _command_of(child)}


def _command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def _wait(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def _conninfo(fleet: Fleet) -> str:
    return fleet.environment["YIMEN_DATABASE_URL"].replace("+psycopg", "", 1)


def _seen(fleet: Fleet, condition: str) -> bool:
    """Whether the database does something now."""
    with psycopg.connect(_conninfo(fleet)) as connection:
        found = connection.execute(
            f"select 1 from pg_stat_activity where pid <> pg_backend_pid() and {condition}".encode()
        )
        return found.fetchone() is not None
