"""T14: the SQLite file survives kill -9, a second process, and being copied while it is written."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.faults.conftest import Embedded, under_load
from tests.faults.test_disk import is_whole
from tests.support.load import Load
from tests.support.servers import YimenServer


async def kills(server: YimenServer, load: Load, times: int, every: float) -> None:
    """Kill the one process while it writes, look at the file as it was left, and serve it again."""
    for _ in range(times):
        await load.progress(4)
        await asyncio.sleep(every)
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        assert is_whole(server.data_dir / "yimen.db")
        await asyncio.sleep(0.1)
        server.start()
    await load.progress(4)
    print(load.ledger.statuses())


def killed(embedded: Embedded, folder: Path, times: int, every: float) -> None:
    with YimenServer(embedded.environment(folder)) as server:
        under_load(embedded.loaded(server), lambda load: kills(server, load, times, every), flows=6)
    assert is_whole(folder / "yimen.db")


def test_sqlite_killed_while_writing_loses_nothing(embedded: Embedded, tmp_path: Path) -> None:
    killed(embedded, tmp_path, 2, 0.1)


@pytest.mark.long
def test_sqlite_killed_two_hundred_times_loses_nothing(embedded: Embedded, tmp_path: Path) -> None:
    killed(embedded, tmp_path, 200, 1)


def two_processes(embedded: Embedded, folder: Path, seconds: float) -> None:
    async def fault(load: Load) -> None:
        await load.progress(12)
        await asyncio.sleep(seconds)
        print(load.ledger.statuses())

    environment = embedded.environment(folder)
    with (
        YimenServer(environment) as first,
        YimenServer({**environment, "YIMEN_ISSUER": first.url}) as second,
    ):
        under_load(embedded.loaded(first), fault, via=[first.url, second.url], flows=6)
    assert is_whole(folder / "yimen.db")


def test_sqlite_under_two_processes_is_sound(embedded: Embedded, tmp_path: Path) -> None:
    two_processes(embedded, tmp_path, 0)


@pytest.mark.long
def test_sqlite_under_two_processes_for_minutes_is_sound(embedded: Embedded, tmp_path: Path) -> None:
    two_processes(embedded, tmp_path, 120)


@pytest.mark.long
def test_sqlite_copied_while_it_is_written_is_whole(embedded: Embedded, tmp_path: Path) -> None:
    async def fault(load: Load) -> None:
        await load.progress()
        with sqlite3.connect(live / "yimen.db") as source, sqlite3.connect(copy / "yimen.db") as target:
            source.backup(target, pages=16, sleep=0.001)
        source.close()
        target.close()
        shutil.copy(live / "master.key", copy / "master.key")

    live, copy = tmp_path / "live", tmp_path / "copy"
    live.mkdir()
    copy.mkdir()
    with YimenServer(embedded.environment(live)) as server:
        under_load(embedded.loaded(server), fault, flows=6)
    assert is_whole(copy / "yimen.db")
    found = YimenServer({"YIMEN_DATA_DIR": str(copy)}).cli("client", "show", embedded.rp.client_id)
    assert found["client_id"] == embedded.rp.client_id
