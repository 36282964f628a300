"""Connections to PostgreSQL that break in ways of their own: idle through a restart, silent, read-only, too many."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text

from idp.database import Database
from idp.errors import Unavailable
from idp.statements import Change, Done
from tests.support.cluster import Cluster
from tests.support.proxy import Proxy

ADD = Change(
    "row added",
    wanted={"id": "text"},
    row=Done,
    sql="insert into rows (id) select wanted.id from wanted where true returning id",
)


@pytest.fixture
def table(own_postgres: Cluster) -> Iterator[str]:
    """The name of a database with one small table."""
    name = f"rows_{uuid4().hex[:8]}"
    own_postgres.execute(f"create database {name}")
    own_postgres.execute("create table rows (id text primary key)", name)
    yield name
    own_postgres.execute(f"drop database {name} with (force)")


def run(url: str, story: Callable[[Database], Awaitable[None]]) -> None:
    async def whole() -> None:
        database = Database(url)
        try:
            await story(database)
        finally:
            await database.close()

    asyncio.run(whole())


async def add(database: Database) -> bool:
    """Whether a row was added; False when the database was not available."""
    with contextlib.suppress(Unavailable):
        return await database.commit(ADD, id=uuid4().hex) is not None
    return False


def add_on_a_page(database: Database) -> None:
    with database.session() as session:
        session.execute(text(f"insert into rows (id) values ('{uuid4().hex}')"))


def end_backends(postgres: Cluster, database: str) -> None:
    """From a connection to another database; returns when they are gone."""
    postgres.execute(f"select pg_terminate_backend(pid, 2000) from pg_stat_activity where datname = '{database}'")


def test_commit_on_a_connection_that_a_restart_ended_is_made_on_a_new_one(own_postgres: Cluster, table: str) -> None:
    async def story(database: Database) -> None:
        assert await add(database)
        own_postgres.stop("immediate")
        own_postgres.start()
        assert await add(database), "nothing was sent on the dead connection, so nothing was in doubt"

    run(own_postgres.url(table), story)


def test_commit_without_an_answer_is_given_up_and_the_next_is_made(
    own_postgres: Cluster, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idp.batches.TRIP_SECONDS", 0.5)

    async def story(database: Database) -> None:
        assert await add(database)
        proxy.set("silent")
        begin = time.monotonic()
        assert not await add(database)
        assert time.monotonic() - begin < 10, "a hang guard"
        proxy.set("pass")
        assert await add(database)

    with Proxy(own_postgres.port) as proxy:
        run(own_postgres.url(table, proxy.port), story)


def test_read_only_database_is_unavailable_and_connections_move_on(own_postgres: Cluster, table: str) -> None:
    """A primary that was demoted, seen through connections that were made before."""

    async def story(database: Database) -> None:
        add_on_a_page(database)
        assert await add(database)
        own_postgres.execute(f"alter database {table} set default_transaction_read_only = on")
        end_backends(own_postgres, table)
        assert not await add(database)
        with pytest.raises(Unavailable):
            add_on_a_page(database)
        own_postgres.execute(f"alter database {table} reset default_transaction_read_only")
        assert await add(database), "a connection that only reads is kept"
        add_on_a_page(database)

    run(own_postgres.url(table), story)


def test_backends_killed_again_and_again_cost_no_commit_between(own_postgres: Cluster, table: str) -> None:
    async def story(database: Database) -> None:
        for _ in range(5):
            assert await add(database)
            end_backends(own_postgres, table)

    run(own_postgres.url(table), story)


def test_connections_exhausted_is_unavailable_and_recovers(own_postgres: Cluster, table: str) -> None:
    async def story(database: Database) -> None:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    stack.enter_context(own_postgres.connect(table))
            assert not await add(database)
            with pytest.raises(Unavailable):
                add_on_a_page(database)
        assert await add(database)
        add_on_a_page(database)

    run(own_postgres.url(table), story)
