"""One statement for a whole batch: each load and each state change of the hot path is written once, here compiled.

A statement is SQL over a relation `wanted`, which holds one row for each request of a batch. PostgreSQL gets the
batch as arrays (`unnest`) and answers with the ordinal of each request that succeeded; SQLite runs the same text for
each request. Results are matched by ordinal and never by id: two rivals for one row in one batch must not both win.

    Load("grant", wanted={"id": "uuid"}, row=GrantRow,
         sql="select {ordinal}, grants.id, … from wanted join grants on grants.id = wanted.id")
    Change("spend", wanted={"id": "uuid", "now": "bigint"}, row=Spent, then=(AUDIT,),
           sql="update grants set spent_at = wanted.now from wanted where … returning {ordinal}, grants.account_id")

`{share}` at the end of a sub-select holds the rows it found until the commit. On PostgreSQL a statement judges by
what was committed when it began; with this it waits for a rival that is ending those rows, and then judges anew.
Whoever takes rights away changes the session first and the grants after it, and so does every statement here.

The effects named in `then` happen exactly when the change happened. All of it is one statement on PostgreSQL and
one transaction on SQLite.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints
from uuid import UUID

from sqlalchemy.orm import Session

R = TypeVar("R", bound=tuple[Any, ...])

sqlite3.register_adapter(UUID, lambda value: value.hex)

_TYPES = frozenset({"uuid", "text", "bytea", "bigint"})


class Statement(Generic[R]):
    """SQL text with `{ordinal}` as its first result column, the columns of `wanted`, and the class of its rows."""

    def __init__(self, name: str, *, wanted: Mapping[str, str], row: type[R], sql: str) -> None:
        unknown = set(wanted.values()) - _TYPES
        if unknown:
            raise ValueError(f"{name}: no such column type: {unknown}")
        self.name, self.wanted, self.row, self.sql = name, dict(wanted), row, sql.strip()

    @property
    def columns(self) -> dict[str, str]:
        """Name and PostgreSQL type of each value that a request gives, in order."""
        return self.wanted

    def values(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """The given values in column order. A missing or an unknown name is a programming error: KeyError."""
        columns = self.columns
        if len(given) != len(columns):
            raise KeyError(f"{self.name}: {sorted(set(given) ^ set(columns))}")
        return tuple(given[name] for name in columns)

    # --- PostgreSQL

    @cached_property
    def postgresql(self) -> str:
        """Text for the asynchronous driver, parameters $1 … $n: ordinals, then one array for each column."""
        return self._postgresql([f"${i + 1}" for i in range(len(self.columns) + 1)])

    @cached_property
    def _postgresql_sync(self) -> str:
        return self._postgresql(["%s"] * (len(self.columns) + 1))

    def _postgresql(self, marks: Sequence[str]) -> str:
        arrays = ", ".join(
            f"{mark}::{kind}[]" for mark, kind in zip(marks, ["int", *self.columns.values()], strict=True)
        )
        names = ", ".join(["ordinal", *self.columns])
        wanted = f"with wanted as materialized (select * from unnest({arrays}) as given ({names}))"
        return self._postgresql_body(wanted)

    def _postgresql_body(self, wanted: str) -> str:
        return f"{wanted} {self.sql.format(ordinal='wanted.ordinal', share='for share')}"

    # --- SQLite

    @cached_property
    def sqlite(self) -> str:
        """Text for one request, parameters `?` in the order of `wanted`."""
        return _sqlite_text(self.wanted, self.sql)

    @cached_property
    def _uuid_columns(self) -> tuple[int, ...]:
        hints = get_type_hints(self.row)
        return tuple(i for i, hint in enumerate(hints.values()) if hint in (UUID, UUID | None))

    def from_sqlite(self, raw: Sequence[Any]) -> R:
        """A row of the driver, first column (the ordinal) dropped, UUIDs restored from their 32 digits."""
        values = list(raw[1:])
        for i in self._uuid_columns:
            if values[i] is not None:
                values[i] = UUID(hex=values[i])
        return self.row(*values)

    def run_sqlite(self, cursor: sqlite3.Cursor, values: Sequence[Any]) -> list[R]:
        """All rows for one request on an open transaction."""
        return [self.from_sqlite(raw) for raw in cursor.execute(self.sqlite, values).fetchall()]

    # --- both, on a page's session

    def run(self, session: Session, /, **given: Any) -> list[R]:
        """Run for one request inside the transaction of `session`."""
        values = self.values(given)
        connection = session.connection()
        if connection.dialect.name == "postgresql":
            session.flush()
            arrays = ([0], *([value] for value in values))
            result = connection.exec_driver_sql(self._postgresql_sync, arrays)
            return [self.row(*raw[1:]) for raw in result] if result.returns_rows else []
        session.flush()
        cursor = connection.connection.cursor()
        try:
            return self.run_sqlite(cursor, values)  # type: ignore[arg-type]
        finally:
            cursor.close()

    def run_all(self, session: Session, requests: Sequence[Mapping[str, Any]]) -> list[R]:
        """The rows of many requests inside the transaction of `session`; a refused one has none."""
        rows = [self.values(given) for given in requests]
        connection = session.connection()
        if not rows:
            return []
        session.flush()
        if connection.dialect.name == "postgresql":
            arrays = (list(range(len(rows))), *(list(column) for column in zip(*rows, strict=True)))
            result = connection.exec_driver_sql(self._postgresql_sync, arrays)
            return [self.row(*raw[1:]) for raw in result] if result.returns_rows else []
        cursor = connection.connection.cursor()
        try:
            return [row for values in rows for row in self.run_sqlite(cursor, values)]  # type: ignore[arg-type]
        finally:
            cursor.close()

    def one(self, session: Session, /, **given: Any) -> R | None:
        """The row of one request, or None: not found, or the compare-and-set refused."""
        rows = self.run(session, **given)
        return rows[0] if rows else None


class Load(Statement[R]):
    """A read by key."""


class Change(Statement[R]):
    """A compare-and-set (update or delete) or an insert, with the effects that happen exactly when it does.

    An insert names its own key column `key` (given by the caller, so that it tells rivals apart).
    """

    def __init__(
        self,
        name: str,
        *,
        wanted: Mapping[str, str],
        row: type[R],
        sql: str,
        then: tuple["Change[Any]", ...] = (),
        key: str = "id",
    ) -> None:
        super().__init__(name, wanted=wanted, row=row, sql=sql)
        self.then, self.key = then, key
        self.inserts = self.sql.startswith("insert")
        self._columns = dict(self.wanted)
        for effect in then:
            if set(effect.columns) & set(self._columns):
                raise ValueError(f"{name} and {effect.name} share a column name")
            self._columns |= effect.columns

    @property
    def columns(self) -> dict[str, str]:
        return self._columns

    def _postgresql_body(self, wanted: str) -> str:
        return ", ".join([wanted, *self.postgresql_parts()]) + " select * from done"

    def postgresql_parts(self) -> list[str]:
        """The common table expressions after `wanted`; `done` holds what the change returned."""
        first = self.sql.format(ordinal="wanted.ordinal", when="", share="for share")
        parts = [f"changed as ({first})"]
        if self.inserts:  # `returning` of an insert cannot name the ordinal; the caller's own key can
            parts.append(
                f"done as (select wanted.ordinal from wanted join changed on changed.{self.key} = wanted.{self.key})"
            )
        else:
            parts.append("done as (select * from changed)")
        for i, effect in enumerate(self.then):
            parts.append(
                f"effect{i} as ({effect.sql.format(ordinal='wanted.ordinal', when='join done using (ordinal)')})"
            )
        return parts

    @cached_property
    def sqlite(self) -> str:
        return _sqlite_text(self.wanted, self.sql)

    def run_sqlite(self, cursor: sqlite3.Cursor, values: Sequence[Any]) -> list[R]:
        split = len(self.wanted)
        raw = cursor.execute(self.sqlite, values[:split]).fetchall()
        if not raw:
            return []
        for effect in self.then:
            effect.run_sqlite(cursor, values[split : split + len(effect.columns)])
            split += len(effect.columns)
        return [self.row()] if self.inserts else [self.from_sqlite(row) for row in raw]


class Done(tuple[()]):
    """The row of a change that returns nothing but its success."""

    __slots__ = ()

    def __new__(cls, *_: Any) -> "Done":
        return super().__new__(cls)


class Tried(NamedTuple):
    """The row of a Gated change whose gate opened: 1 when the change itself happened as well, else 0."""

    done: int


class Gated(Change[Tried]):
    """A change that is tried only where an insert before it succeeded, both in one commit.

    No row means that the gate stayed shut and nothing happened. With a row the gate's insert is on disk, whether or
    not the change behind it happened.
    """

    def __init__(self, gate: Change[Any], change: Change[Any]) -> None:
        if not gate.inserts or gate.then or set(gate.columns) & set(change.columns):
            raise ValueError(f"{gate.name} cannot be the gate of {change.name}")
        super().__init__(f"{change.name}, gated", wanted={**gate.columns, **change.columns}, row=Tried, sql=change.sql)
        self._gate, self._change = gate, change

    def _postgresql_body(self, wanted: str) -> str:
        given = wanted.replace("with wanted as", "with everybody as", 1)
        gate = self._gate.sql.format(ordinal="wanted.ordinal", when="", share="")
        key = self._gate.key
        parts = [
            given,
            f"gate as (with wanted as (select * from everybody) {gate})",
            f"wanted as materialized (select everybody.* from everybody join gate on gate.{key} = everybody.{key})",
            *self._change.postgresql_parts(),
        ]
        tried = "select wanted.ordinal, case when done.ordinal is null then 0 else 1 end"
        return f"{', '.join(parts)} {tried} from wanted left join done on done.ordinal = wanted.ordinal"

    def run_sqlite(self, cursor: sqlite3.Cursor, values: Sequence[Any]) -> list[Tried]:
        split = len(self._gate.columns)
        if not self._gate.run_sqlite(cursor, values[:split]):
            return []
        return [Tried(1 if self._change.run_sqlite(cursor, values[split:]) else 0)]


def _sqlite_text(wanted: Mapping[str, str], sql: str) -> str:
    columns = ", ".join(f"? as {name}" for name in wanted)
    return f"with wanted as (select {columns}) {sql.format(ordinal='0', when='', share='')}"
