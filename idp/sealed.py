"""Every sealed column in one table of data, and what is done with all of them alike: count, read on, swap.

A new sealed column is one line in SEALED; `tests/idp/test_sealed.py` compares it with the models. The blob of a
column is bound to table, column and the row's `id`.
"""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import LargeBinary, case, func, select
from sqlalchemy.orm import Session

from idp.models import Base
from idp.statements import Change

SEALED: tuple[tuple[str, str], ...] = (
    ("data_keys", "sealed_key"),
    ("signing_keys", "sealed_private"),
    ("organizations", "sealed_uscc"),
    ("organizations", "sealed_name"),
    ("accounts", "sealed_name"),
    ("accounts", "sealed_claims"),
    ("identifiers", "sealed_number"),
    ("mentions", "sealed_number"),
    ("contacts", "sealed_value"),
)


class SealedRow(NamedTuple):
    """A row on the way; `blob` is None where there is nothing to do."""

    id: UUID
    blob: bytes | None


class SwappedRow(NamedTuple):
    id: UUID


class Column:
    """One sealed column: what is read of it, and the one way it changes."""

    def __init__(self, table: str, name: str) -> None:
        self.table, self.name, self.place = table, name, f"{table}.{name}"
        source = Base.metadata.tables[table]
        self._id, self._blob = source.c.id, source.c[name]
        self.swap = Change(
            f"{self.place} sealed anew",
            wanted={"id": "uuid", "old": "bytea", "new": "bytea"},
            row=SwappedRow,
            sql=f"""
            update {table} set {name} = wanted.new from wanted
             where {table}.id = wanted.id and {table}.{name} = wanted.old
            returning {{ordinal}}, {table}.id""",
        )

    def read_on(self, session: Session, after: UUID, version: int, most: int) -> list[SealedRow]:
        """The next rows by id, each with its blob when that is sealed under another version."""
        other = (func.length(self._blob) > 2) & (func.substr(self._blob, 1, 2) != version.to_bytes(2, "big"))
        found = select(self._id, case((other, self._blob))).where(self._id > after).order_by(self._id).limit(most)
        return [SealedRow(*row) for row in session.execute(found)]

    def count(self, session: Session) -> int:
        """Rows of the table."""
        return session.scalar(select(func.count()).select_from(self._id.table)) or 0

    def count_versions(self, session: Session) -> dict[int, int]:
        """How many values are sealed under each version. Reads the whole table."""
        version = func.substr(self._blob, 1, 2, type_=LargeBinary)
        found = select(version, func.count()).where(func.length(self._blob) > 2).group_by(version)
        return {int.from_bytes(prefix, "big"): number for prefix, number in session.execute(found)}


COLUMNS = tuple(Column(table, name) for table, name in SEALED)


def count_versions(session: Session) -> dict[int, int]:
    """How many values in all columns are sealed under each version. Reads every table."""
    counts: dict[int, int] = {}
    for column in COLUMNS:
        for version, number in column.count_versions(session).items():
            counts[version] = counts.get(version, 0) + number
    return dict(sorted(counts.items()))
