"""Somebody with full access to the database, and without the master key."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from idp import audit
from idp.chain import anchors, sealer
from idp.chain.links import mark
from idp.context import Context
from idp.models import AuditHead, AuditRecord

RECORDS = 20


def add_records(context: Context, number: int = RECORDS, *, batch: int = 500, at: int | None = None) -> None:
    """Committed audit records that are not sealed."""
    now = context.now() if at is None else at
    for first in range(0, number, batch):
        numbers = range(first, min(first + batch, number))
        with context.database.session() as session:
            audit.RECORD.run_all(session, [_values(context, f"test:record:{i}", now + i // 10) for i in numbers])


def _values(context: Context, event: str, at: int) -> dict[str, Any]:
    """A record of another time than now, written by the product."""
    given = audit.values(context, event) | {"audit_at": at}
    given["audit_mark"] = mark(context.vault, [value for name, value in given.items() if name != "audit_mark"])
    return given


def sealed_chain(context: Context, number: int = RECORDS) -> None:
    """A chain of records, with an anchor in the database and in the file."""
    add_records(context, number)
    sealer.seal_all(context)
    anchors.make_if_due(context, now_at_latest=True)
    anchors.file_pending(context)


def run(context: Context, statement: str, **values: Any) -> None:
    with context.database.session() as session:
        session.execute(text(statement), values)


def columns(session: Session, number: int) -> dict[str, Any]:
    """Everything in the row of a record."""
    row = session.execute(select(AuditRecord.__table__).where(AuditRecord.sequence == number)).one()
    return dict(row._mapping)


def renumber(session: Session, numbers: Sequence[int], by: int) -> None:
    """Move records to other numbers, in an order in which no two ever have the same."""
    for number in sorted(numbers, reverse=by > 0):
        session.execute(update(AuditRecord).where(AuditRecord.sequence == number).values(sequence=number + by))


def change(context: Context, number: int = 7) -> None:
    run(context, "update audit set event = 'test:record:changed' where sequence = :n", n=number)


def remove(context: Context, number: int = 7) -> None:
    run(context, "delete from audit where sequence = :n", n=number)


def remove_and_renumber(context: Context, number: int = 7) -> None:
    remove(context, number)
    with context.database.session() as session:
        renumber(session, range(number + 1, RECORDS + 1), -1)


def insert(context: Context, number: int = 7) -> None:
    """A record that never was, made with all care: the rest moves up, and the columns look as they should."""
    with context.database.session() as session:
        renumber(session, range(number, RECORDS + 1), +1)
        before = columns(session, number - 1)
        forged = before | {"id": uuid4(), "sequence": number, "previous_hash": before["hash"], "hash": bytes(range(32))}
        session.execute(AuditRecord.__table__.insert().values(**forged))


def swap(context: Context, first: int = 7, second: int = 12) -> None:
    """Two whole records change places."""
    with context.database.session() as session:
        for old, new in ((first, -1), (second, first), (-1, second)):
            session.execute(update(AuditRecord).where(AuditRecord.sequence == old).values(sequence=new))


def cut_off(context: Context, number: int = 15) -> None:
    run(context, "delete from audit where sequence >= :n", n=number)


def move(context: Context, first: int, last: int) -> None:
    """One record goes to a later place, and those between move up."""
    with context.database.session() as session:
        session.execute(update(AuditRecord).where(AuditRecord.sequence == first).values(sequence=-1))
        renumber(session, range(first + 1, last + 1), -1)
        session.execute(update(AuditRecord).where(AuditRecord.sequence == -1).values(sequence=last))


def read_head(context: Context) -> dict[str, Any]:
    with context.database.session(write=False) as session:
        return dict(session.execute(select(AuditHead.__table__)).one()._mapping)


def write_head(context: Context, head: dict[str, Any]) -> None:
    with context.database.session() as session:
        session.execute(update(AuditHead).values(**head))
