"""Group load and group commit: while one trip to the database is under way, the next batch gathers.

Two queues serve a worker, one for loads and one for changes. They know nothing of OAuth. A compare-and-set that
fails is an empty answer and never an error for its neighbours; a batch that the database refuses is run one by one.
"""

import asyncio
import contextlib
import logging
import os
import select
import socket
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg

from idp import metrics
from idp.errors import Overloaded, Unavailable
from idp.statements import Statement

log = logging.getLogger(__name__)

QUEUE_LIMIT = 4_096
BATCH_LIMIT = 512
TRIP_SECONDS = 3.0  # the server gives a statement up after 2.5; this is for a server that says nothing at all
ASK_AGAIN_SECONDS = 0.5  # a read whose connection broke sooner may go out a second time


class Poisoned(Exception):
    """The database refused the batch because of one of its members; nothing was changed."""


@dataclass(slots=True)
class Entry:
    """One request's statement with its values; `answer` gets the rows."""

    statement: Statement[Any]
    values: tuple[Any, ...]
    answer: asyncio.Future[list[Any]] = field(repr=False)


class Executor(Protocol):
    """Runs one batch in one trip: the rows of each entry, in the order given. All of it, or nothing."""

    async def run(self, entries: Sequence[Entry]) -> list[list[Any]]: ...

    async def close(self) -> None: ...


class Queue:
    """Gathers entries for one executor and runs them one batch at a time."""

    def __init__(self, executor: Executor, direction: str = "load") -> None:
        self._executor = executor
        self._waiting: list[Entry] = []
        self._task: asyncio.Task[None] | None = None
        self._sizes = metrics.BATCHES.labels(direction)

    def __len__(self) -> int:
        """Requests that wait for the next trip."""
        return len(self._waiting)

    async def __call__(self, statement: Statement[Any], values: tuple[Any, ...]) -> list[Any]:
        """The rows for this request. Raises Unavailable when the database does not answer, Overloaded when full."""
        if len(self._waiting) >= QUEUE_LIMIT:
            raise Overloaded()
        entry = Entry(statement, values, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return await entry.answer

    async def _drain(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # one tick of gathering makes batches two to three times larger
            batch, self._waiting = self._waiting[:BATCH_LIMIT], self._waiting[BATCH_LIMIT:]
            self._sizes.observe(len(batch))
            await self._answer(batch)
        self._task = None

    async def _answer(self, batch: list[Entry]) -> None:
        try:
            rows = await self._executor.run(batch)
        except Poisoned:
            if len(batch) == 1:
                self._fail(batch, Unavailable(detail="the database refused one value"))
                return
            for entry in batch:  # find the poisoned one alone, spare its neighbours
                await self._answer([entry])
        except Unavailable as error:
            log.warning("the database does not answer", extra={"fields": {"detail": error.detail}})
            self._fail(batch, error)
        except Exception as error:  # every waiting request must get an answer, whatever happened
            log.exception("batch failed")
            self._fail(batch, Unavailable(detail=type(error).__name__))
        else:
            for entry, result in zip(batch, rows, strict=True):
                if not entry.answer.done():
                    entry.answer.set_result(result)

    @staticmethod
    def _fail(batch: list[Entry], error: Exception) -> None:
        for entry in batch:
            if not entry.answer.done():
                entry.answer.set_exception(error)

    async def close(self) -> None:
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self._executor.close()


def _by_statement(entries: Sequence[Entry]) -> dict[Statement[Any], list[int]]:
    kinds: dict[Statement[Any], list[int]] = {}
    for position, entry in enumerate(entries):
        kinds.setdefault(entry.statement, []).append(position)
    return kinds


class PostgresExecutor:
    """One connection of its own; each kind of statement in a batch is one set-based statement.

    A batch of one kind commits by itself. A batch of several kinds is one transaction.
    """

    # psycopg.errors of one bad member: bad data, a broken constraint, a deadlock between two workers' batches
    POISON = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.DeadlockDetected)

    def __init__(self, conninfo: str, *, reads: bool) -> None:
        self._conninfo, self._reads = conninfo, reads
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is not None and _has_ended(self._connection):
            await self.close()
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(
                self._conninfo,
                autocommit=True,
                prepare_threshold=1,
                connect_timeout=2,
                options="-c statement_timeout=2500 -c lock_timeout=2000 -c synchronous_commit=on",
            )
        return self._connection

    async def run(self, entries: Sequence[Entry]) -> list[list[Any]]:
        """A read may be asked again on a fresh connection; a change whose answer was lost may have happened."""
        stale, begin = self._connection is not None, time.monotonic()
        try:
            return await self._run_once(entries)
        except Unavailable:
            if not (self._reads and stale and time.monotonic() - begin < ASK_AGAIN_SECONDS):
                raise
            return await self._run_once(entries)

    async def _run_once(self, entries: Sequence[Entry]) -> list[list[Any]]:
        rows: list[list[Any]] = [[] for _ in entries]
        kinds = _by_statement(entries)
        try:
            connection = await self._connect()
            async with contextlib.AsyncExitStack() as stack:
                stack.enter_context(_given_up_in_time(connection))
                if len(kinds) > 1 and not self._reads:
                    await stack.enter_async_context(connection.transaction())
                for statement, positions in kinds.items():
                    await self._run_kind(connection, statement, positions, entries, rows)
        except self.POISON as error:
            log.warning("batch refused", extra={"fields": {"sqlstate": error.sqlstate}})
            raise Poisoned from None
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError) as error:
            await self.close()  # also when it was refused as read-only: the next connection may find the primary
            raise Unavailable(detail=type(error).__name__) from error
        return rows

    @staticmethod
    async def _run_kind(
        connection: psycopg.AsyncConnection[Any],
        statement: Statement[Any],
        positions: list[int],
        entries: Sequence[Entry],
        rows: list[list[Any]],
    ) -> None:
        columns = zip(*(entries[position].values for position in positions), strict=True)
        parameters = [list(range(len(positions))), *(list(column) for column in columns)]
        cursor = psycopg.AsyncRawCursor(connection)
        await cursor.execute(statement.postgresql.encode(), parameters)
        for raw in await cursor.fetchall():
            rows[positions[raw[0]]].append(statement.row(*raw[1:]))

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


def _has_ended(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether an idle connection is over. The server speaks unasked only to say so: nothing may be sent any more, and
    as nothing was sent, nothing is in doubt."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


@contextlib.contextmanager
def _given_up_in_time(connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """End the connection from this side when the trip inside takes longer than TRIP_SECONDS: it fails as if the
    server had gone. The driver's own way of cancelling would wait for the silent server again."""

    def hang_up() -> None:
        log.warning("the database is silent")
        with contextlib.suppress(OSError, psycopg.Error):
            line = socket.socket(fileno=os.dup(connection.pgconn.socket))
            with line:
                line.shutdown(socket.SHUT_RDWR)

    watch = asyncio.get_running_loop().call_later(TRIP_SECONDS, hang_up)
    try:
        yield
    finally:
        watch.cancel()


class SqliteExecutor:
    """One thread with its own connection; a batch of changes is one transaction with one write to the disk."""

    def __init__(self, path: str, *, writes: bool) -> None:
        self._path, self._writes = path, writes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer" if writes else "sqlite-reader")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def run(self, entries: Sequence[Entry]) -> list[list[Any]]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, entries)
        except (
            sqlite3.IntegrityError,
            sqlite3.DataError,
            sqlite3.InterfaceError,
            UnicodeEncodeError,
        ) as error:
            log.warning("batch refused", extra={"fields": {"error": type(error).__name__}})
            raise Poisoned from None
        except sqlite3.Error as error:
            raise Unavailable(detail=str(error)) from error

    def _run(self, entries: Sequence[Entry]) -> list[list[Any]]:
        if self._connection is None:
            self._connection = connect_sqlite(self._path)
        cursor = self._connection.cursor()
        cursor.execute("begin immediate" if self._writes else "begin")
        try:
            rows = [entry.statement.run_sqlite(cursor, entry.values) for entry in entries]
            self._connection.commit()
        except BaseException:  # a commit that fails (the disk is full) leaves its transaction open
            self._connection.rollback()
            raise
        return rows

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True

        def end() -> None:
            if self._connection is not None:
                self._connection.close()

        await asyncio.get_running_loop().run_in_executor(self._thread, end)
        self._thread.shutdown()


def connect_sqlite(path: str) -> sqlite3.Connection:
    """A connection with the settings every part of the product uses: WAL, durable commits, foreign keys on."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("busy_timeout = 5000", "journal_mode = wal", "synchronous = full", "foreign_keys = on"):
        connection.execute(f"pragma {pragma}")
    return connection
