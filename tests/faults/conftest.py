"""A server on stores of its own, each behind a proxy, that fault tests may spoil; it is shared and must recover."""

import asyncio
import dataclasses
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.citizen import Citizen, add_citizen, add_client
from tests.support.cluster import Cluster, cluster
from tests.support.ledger import Ledger, Numbers
from tests.support.load import Load
from tests.support.proxy import Proxy
from tests.support.reckoning import assert_sound, run_checked
from tests.support.servers import YimenServer
from tests.support.services import redis_server
from tests.support.stores import Stores, upgrade
from tests.support.visitor import Rp

WORKERS = 2


@dataclass
class Loaded:
    """A server, and people and a client to load it with."""

    server: YimenServer
    citizens: list[Citizen]
    rp: Rp

    def load(self, *, via: list[str] | None = None, flows: int = 8, rate: float = 60) -> Load:
        return Load(self.citizens, self.rp, Ledger(), via=via or [], flows=flows, rate=rate)


@dataclass
class Installation(Loaded):
    """A running server on PostgreSQL and Redis, with the proxies before them."""

    postgres: Cluster
    database: str
    sql: Proxy
    redis_url: str
    redis: Proxy


@pytest.fixture(scope="session")
def own_redis(tmp_path_factory: pytest.TempPathFactory, redis_url: object) -> Iterator[str]:
    """A Redis without a database number that tests may spoil (where there is a Redis at all)."""
    with redis_server(tmp_path_factory.mktemp("faults-redis")) as url:
        yield url


@pytest.fixture(scope="session")
def own_postgres(tmp_path_factory: pytest.TempPathFactory, postgres_url: object) -> Iterator[Cluster]:
    """A PostgreSQL that tests may stop, fill and copy (where there is a PostgreSQL at all)."""
    folder = tmp_path_factory.mktemp("faults-postgres")
    for above in (folder, folder.parent):
        above.chmod(0o711)  # PostgreSQL may be another user
    with cluster(folder / "primary") as running:
        yield running


@pytest.fixture(scope="session")
def spoiled(own_postgres: Cluster, own_redis: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    own_postgres.execute("create database yimen")
    upgrade(own_postgres.url("yimen"))
    port = int(own_redis.rpartition(":")[2])
    with Proxy(own_postgres.port) as sql, Proxy(port) as redis:
        environment = {
            "YIMEN_DATA_DIR": str(tmp_path_factory.mktemp("faults-data")),
            "YIMEN_DATABASE_URL": own_postgres.url("yimen", sql.port),
            "YIMEN_REDIS_URL": own_redis.replace(f":{port}", f":{redis.port}") + "/0",
            "YIMEN_RATE_LIMITS": "off",
        }
        with YimenServer(environment, workers=WORKERS) as server:
            citizens = [add_citizen(server), add_citizen(server)]
            rp = add_client(server, "公积金")
            yield Installation(server, citizens, rp, own_postgres, "yimen", sql, f"{own_redis}/0", redis)


@pytest.fixture
def mounts() -> None:
    """For tests that mount a small file system (deselected where that is not permitted)."""


@dataclass
class Embedded:
    """A SQLite file with people in it, to be copied and served as often as a test likes."""

    folder: Path
    citizens: list[Citizen]
    rp: Rp

    def environment(self, folder: Path) -> dict[str, str]:
        """A copy of it in `folder`."""
        for name in ("yimen.db", "master.key"):
            shutil.copy(self.folder / name, folder / name)
        return {"YIMEN_DATA_DIR": str(folder), "YIMEN_RATE_LIMITS": "off"}

    def loaded(self, server: YimenServer) -> Loaded:
        return Loaded(server, self.citizens, dataclasses.replace(self.rp, server=server.url))


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory, _all_stores: Stores) -> Iterator[Embedded]:
    folder = tmp_path_factory.mktemp("faults-embedded")
    with _all_stores.environment("sqlite", folder) as environment:
        server = YimenServer({**environment, "YIMEN_RATE_LIMITS": "off"})
        citizens, rp = [add_citizen(server)], add_client(server, "公积金")
        with sqlite3.connect(folder / "yimen.db") as file:
            file.execute("pragma wal_checkpoint(truncate)")
        file.close()
        yield Embedded(folder, citizens, rp)


def under_load(installation: Loaded, fault: Callable[[Load], Awaitable[None]], **options: object) -> Load:
    """Load, the fault beside it, and the reckoning: nothing lost, nothing twice, no dishonest error."""
    load = installation.load(**options)  # type: ignore[arg-type]
    numbers: Numbers = run_checked(load, fault)
    print(numbers)
    assert_sound(load.ledger, numbers)
    return load


async def in_thread(work: Callable[[], object]) -> None:
    """Something that waits, beside the load."""
    await asyncio.to_thread(work)
