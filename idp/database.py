"""The database of one process: engines, sessions, clock, group load and group commit.

What differs between SQLite and PostgreSQL ends here, in `statements` and in `batches`.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from idp.batches import Executor, PostgresExecutor, Queue, SqliteExecutor, connect_sqlite
from idp.errors import ConfigError, Overloaded, Unavailable
from idp.statements import Change, Load

R = TypeVar("R", bound=tuple[Any, ...])

KEEPALIVE = {  # a peer that is no longer there is noticed within ten seconds, while sending (milliseconds) and waiting
    "tcp_user_timeout": 3_000,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
POOL_SIZE = 16  # threads that run page handlers, and connections they may hold


class Database:
    """Both speeds of one database: `load` and `commit` in batches, `session` for pages and commands."""

    def __init__(self, url: str, *, schema_head: str = "") -> None:
        """`schema_head` is the Alembic revision that this version of the product needs. Raises ConfigError."""
        self.url, self.schema_head = url, schema_head
        self._clock, self._offset = time.time, 0.0
        if url.startswith("sqlite"):
            path = make_url(url).database or ""
            _make_folder(Path(path).parent)
            self.engine = _sqlite_engine(path, "begin immediate")
            self._reading = _sqlite_engine(path, "begin")
            readers: Executor = SqliteExecutor(path, writes=False)
            writers: Executor = SqliteExecutor(path, writes=True)
        else:
            self.engine = self._reading = _postgres_engine(url)
            self._clock, self._offset = time.monotonic, time.time() - time.monotonic()
            conninfo = url.replace("postgresql+psycopg://", "postgresql://", 1)
            readers = PostgresExecutor(conninfo, reads=True)
            writers = PostgresExecutor(conninfo, reads=False)
        self._loads, self._commits = Queue(readers, "load"), Queue(writers, "commit")

    # --- the fast way

    async def load(self, statement: Load[R], /, **given: Any) -> list[R]:
        """All rows for this request. Raises Unavailable or Overloaded."""
        return await self._loads(statement, statement.values(given))

    async def load_one(self, statement: Load[R], /, **given: Any) -> R | None:
        rows = await self.load(statement, **given)
        return rows[0] if rows else None

    async def commit(self, change: Change[R], /, **given: Any) -> R | None:
        """The row of the change once it is on disk, or None when its compare-and-set refused and nothing happened.

        Raises Unavailable when the database did not answer: then it may or may not have happened.
        """
        rows = await self._commits(change, change.values(given))
        return rows[0] if rows else None

    # --- the plain way

    @contextlib.contextmanager
    def session(self, *, write: bool = True) -> Iterator[Session]:
        """A transaction: leaving commits, an exception rolls back. Raises Unavailable when there is no database."""
        try:
            engine = self.engine if write else self._reading
            with Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        except PoolTimeout as error:
            raise Overloaded(detail="no connection is free") from error
        except (OperationalError, InterfaceError, InternalError) as error:
            raise Unavailable(detail=type(error.orig).__name__) from error
        except sqlite3.OperationalError as error:  # of a `Statement`, which speaks to the driver itself
            raise Unavailable(detail=type(error).__name__) from error
        except DatabaseError as error:
            if type(error) is not DatabaseError:  # its other kinds are faults of a statement
                raise
            raise Unavailable(detail=str(error.orig)) from error  # SQLite: the file is damaged

    @property
    def depths(self) -> dict[str, int]:
        """Requests that wait for a trip, by direction."""
        return {"load": len(self._loads), "commit": len(self._commits)}

    @property
    def connections(self) -> int:
        """Connections that pages hold."""
        return sum(
            engine.pool.checkedout() for engine in {self.engine, self._reading} if isinstance(engine.pool, QueuePool)
        )

    # --- time and health

    def now(self) -> int:
        """Database time in epoch seconds: every worker judges expiry by one clock.

        Between two measurements of `check` a steady clock counts on, so that a jump of this machine's changes nothing.
        """
        return int(self._clock() + self._offset)

    def check(self) -> None:
        """Measure the clock and compare the schema. Raises Unavailable with a plain reason.

        A newer schema is fine: each revision works while the previous version still serves.
        """
        with self.session(write=False) as session:
            if self.engine.dialect.name == "postgresql":
                database_time = session.scalar(text("select extract(epoch from clock_timestamp())"))
                self._offset = float(database_time or time.time()) - time.monotonic()
            found = session.scalar(text("select version_num from alembic_version"))
        if self.schema_head and str(found) < self.schema_head:
            raise Unavailable(f"the schema is at {found}, this version needs {self.schema_head}; run: yimen upgrade")

    async def close(self) -> None:
        await self._loads.close()
        await self._commits.close()
        self.dispose()

    def dispose(self) -> None:
        """Close the connections of the plain way: all there are before the first load or commit."""
        self.engine.dispose()
        self._reading.dispose()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder} of the database: {error.strerror}") from None


def insert_into(session: Session, table: Any) -> Any:
    """An insert that knows `on_conflict_do_update`, which both databases spell alike and SQLAlchemy keeps apart."""
    dialect = session.get_bind().dialect.name
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


def _postgres_engine(url: str) -> Engine:
    engine = create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=2,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": 2,
            **KEEPALIVE,
            "options": "-c statement_timeout=10000 -c lock_timeout=2000 -c synchronous_commit=on",
        },
    )

    @event.listens_for(engine, "handle_error")
    def _leave_standby(error: Any) -> None:  # a primary that was demoted: other connections may find the new one
        if isinstance(error.original_exception, psycopg.errors.ReadOnlySqlTransaction):
            error.is_disconnect = True

    return engine


def _sqlite_engine(path: str, begin: str) -> Engine:
    engine = create_engine(
        "sqlite://",
        creator=lambda: connect_sqlite(path),
        pool_size=POOL_SIZE,
        max_overflow=0,
        poolclass=QueuePool,
        hide_parameters=True,
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:  # the driver's own transaction handling is off
        connection.exec_driver_sql(begin)

    return engine
