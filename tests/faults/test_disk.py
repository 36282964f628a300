"""The disk is full, under SQLite and under PostgreSQL: refused with 503, nothing half-written, and it recovers."""

import asyncio
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Embedded, Installation, Loaded, under_load
from tests.support.cluster import wait_for
from tests.support.load import Load
from tests.support.servers import YimenServer
from tests.support.small_disk import filled, small_disk

RECOVERY_SECONDS = FULL_SECONDS = 60  # hang guards

Full = Callable[[], AbstractContextManager[None]]


def refusals(load: Load, count: int) -> None:
    """Wait until so many requests were refused with 503."""
    wait_for(lambda: load.ledger.statuses()[503] >= count, FULL_SECONDS, "a refusal")


async def filling(load: Load, full: Full, seconds: float, times: int) -> None:
    """Let the load run into the end of the disk, and give the space back."""
    for _ in range(times):
        await load.progress()
        refused = load.ledger.statuses()[503]
        with full():
            await asyncio.to_thread(refusals, load, refused + 10)
            await asyncio.sleep(seconds)
        back = time.monotonic()
        await load.progress()
        assert load.ledger.recovered(back) < RECOVERY_SECONDS
    print(load.ledger.statuses())


def run_into_the_end(loaded: Loaded, full: Full, *, seconds: float = 0.5, times: int = 1, flows: int = 12) -> None:
    under_load(loaded, lambda load: filling(load, full, seconds, times), flows=flows)


def is_whole(file: Path) -> bool:
    with sqlite3.connect(file) as connection:
        found: str = connection.execute("pragma integrity_check").fetchone()[0]
        broken = connection.execute("pragma foreign_key_check").fetchall()
    connection.close()
    return found == "ok" and not broken


@contextmanager
def no_file_grows(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Every write of the process beyond a few bytes of a file fails, as at the end of a quota."""
    subprocess.run(["prlimit", "--pid", str(process.pid), "--fsize=4096:unlimited"], check=True)
    try:
        yield
    finally:
        subprocess.run(["prlimit", "--pid", str(process.pid), "--fsize=unlimited:unlimited"], check=True)


def sqlite_at_its_limit(embedded: Embedded, folder: Path, **options: float) -> None:
    with YimenServer(embedded.environment(folder)) as server:
        assert server.process is not None
        process = server.process
        run_into_the_end(embedded.loaded(server), lambda: no_file_grows(process), flows=6, **options)  # type: ignore[arg-type]
    assert is_whole(folder / "yimen.db")


def sqlite_on_a_full_disk(embedded: Embedded, folder: Path, **options: float) -> None:
    """The log of the server is on that disk too."""
    with small_disk(folder, 6) as disk:
        with YimenServer(embedded.environment(disk)) as server:
            run_into_the_end(embedded.loaded(server), lambda: filled(disk), flows=6, **options)  # type: ignore[arg-type]
        assert is_whole(disk / "yimen.db")


@contextmanager
def tables_on(installation: Installation, disk: Path) -> Iterator[None]:
    """The database moves to a table space on that disk, and back."""
    postgres, name = installation.postgres, installation.database
    place = disk / "space"
    place.mkdir(mode=0o700)
    shutil.chown(place, (postgres.folder / "data").owner())
    postgres.execute(f"create tablespace small location '{place}'")
    move(installation, "small")
    try:
        yield
    finally:
        move(installation, "pg_default")
        postgres.execute("drop tablespace small")
    assert name


def move(installation: Installation, space: str) -> None:
    """Nobody may be connected meanwhile; the workers connect again by themselves."""
    postgres, name = installation.postgres, installation.database
    installation.sql.set("refuse")
    postgres.execute(f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{name}'")
    postgres.execute(f"alter database {name} set tablespace {space}")
    installation.sql.set("pass")
    time.sleep(0.2)


def postgresql_on_a_full_disk(spoiled: Installation, folder: Path, **options: float) -> None:
    with small_disk(folder, 40) as disk, tables_on(spoiled, disk):
        run_into_the_end(spoiled, lambda: filled(disk), **options)  # type: ignore[arg-type]


def test_sqlite_file_at_its_limit_refuses_and_recovers(embedded: Embedded, tmp_path: Path) -> None:
    sqlite_at_its_limit(embedded, tmp_path)


def test_sqlite_on_a_full_disk_refuses_and_recovers(embedded: Embedded, mounts: None, tmp_path: Path) -> None:
    sqlite_on_a_full_disk(embedded, tmp_path / "disk")


def test_postgresql_on_a_full_disk_refuses_and_recovers(spoiled: Installation, mounts: None, tmp_path: Path) -> None:
    for above in (tmp_path, tmp_path.parent):
        above.chmod(0o711)
    postgresql_on_a_full_disk(spoiled, tmp_path / "disk")


@pytest.mark.long
def test_full_disks_again_and_again(spoiled: Installation, embedded: Embedded, mounts: None, tmp_path: Path) -> None:
    for above in (tmp_path, tmp_path.parent):
        above.chmod(0o711)
    (tmp_path / "limit").mkdir()
    sqlite_at_its_limit(embedded, tmp_path / "limit", seconds=3, times=10)
    sqlite_on_a_full_disk(embedded, tmp_path / "disk", seconds=3, times=10)
    postgresql_on_a_full_disk(spoiled, tmp_path / "space", seconds=5, times=10)
