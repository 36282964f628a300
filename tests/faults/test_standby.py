"""T04: the primary is fenced, a synchronous standby is promoted, and the workers find it by themselves.

The server's address of the database names both hosts and asks for the one that takes writes
(`target_session_attrs=read-write`), as libpq reads it.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Loaded, under_load
from tests.support.citizen import add_citizen, add_client
from tests.support.cluster import Cluster, cluster, wait_for
from tests.support.load import Load
from tests.support.servers import YimenServer
from tests.support.stores import upgrade

FAILOVER_SECONDS = 120  # a hang guard; the promise is 60


@contextmanager
def pair(folder: Path) -> Iterator[tuple[Cluster, Cluster]]:
    """A primary whose commits wait for its standby, and the standby."""
    with cluster(folder / "primary") as primary:
        primary.execute("create database yimen")
        upgrade(primary.url("yimen"))
        standby = primary.standby(folder / "standby")
        try:
            primary.execute("alter system set synchronous_standby_names = 'standby'")
            primary.execute("select pg_reload_conf()")
            wait_for(lambda: is_synchronous(primary), 20, "synchronous replication")
            yield primary, standby
        finally:
            standby.stop("immediate")


def is_synchronous(primary: Cluster) -> bool:
    with primary.connect() as connection:
        row = connection.execute("select sync_state from pg_stat_replication").fetchone()
    return row is not None and row[0] == "sync"


def address(primary: Cluster, standby: Cluster) -> str:
    return (
        f"postgresql+psycopg://yimen:{primary.password}@/yimen?host=127.0.0.1,127.0.0.1"
        f"&port={primary.port},{standby.port}&target_session_attrs=read-write"
    )


async def failover(primary: Cluster, standby: Cluster, load: Load, seconds: float) -> None:
    await load.progress()
    await asyncio.sleep(seconds)
    begin = time.monotonic()
    await asyncio.to_thread(primary.stop, "immediate")
    await asyncio.to_thread(standby.promote)
    await load.progress(12)
    outage = load.ledger.recovered(begin)
    print(load.ledger.statuses(), f"failover took {outage:.1f} s")
    assert outage < FAILOVER_SECONDS


def promoted(folder: Path, redis_url: str, *, seconds: float, rate: float) -> None:
    for above in (folder, folder.parent):
        above.chmod(0o711)
    with pair(folder) as (primary, standby):
        environment = {
            "YIMEN_DATA_DIR": str(folder / "data"),
            "YIMEN_DATABASE_URL": address(primary, standby),
            "YIMEN_REDIS_URL": redis_url,
            "YIMEN_RATE_LIMITS": "off",
        }
        with YimenServer(environment, workers=2) as server:
            loaded = Loaded(server, [add_citizen(server)], add_client(server, "公积金"))
            under_load(loaded, lambda load: failover(primary, standby, load, seconds), rate=rate)


def test_standby_promoted_under_load_loses_nothing(own_redis: str, tmp_path: Path) -> None:
    promoted(tmp_path, f"{own_redis}/1", seconds=0, rate=60)


@pytest.mark.long
def test_standby_promoted_under_long_load_loses_nothing(own_redis: str, tmp_path: Path) -> None:
    for turn in range(5):
        promoted(tmp_path / str(turn), f"{own_redis}/{2 + turn}", seconds=30, rate=100)
