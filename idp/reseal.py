"""Re-sealing: every sealed value moves to the newest version of the master key while the servers go on.

One column after the other is read on by id in batches. Each batch is one short transaction: values under another
version are opened, sealed anew and swapped by compare-and-set on the old blob, and the position in `reseals` moves
in the same commit. So a kill at any point loses nothing and repeats nothing, and a value that somebody changed
meanwhile stays as they left it.

A row may be written behind the reader by a process that had not yet heard of the change (`encryption.LEASE_SECONDS`)
or in a transaction that was open. Therefore rounds follow until one that began after all of those are over has found
nothing; only then the old versions are retired.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from idp import master_keys
from idp.context import Context
from idp.database import insert_into
from idp.encryption import SealBroken
from idp.errors import Conflict, Unavailable
from idp.models import MasterKey, Reseal
from idp.sealed import COLUMNS, Column, SealedRow

R = TypeVar("R")

BATCH = 1_000
SETTLE_SECONDS = 30  # lease of the version that seals, and the longest transaction of a page
RETRIES = 60  # pauses of a second while the database does not answer
START = UUID(int=0)


class ValuesBroken(Conflict):
    """Some values open under no version; the old versions stay in use."""

    code = "values_broken"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a round has come. `left` is in seconds, None while nothing can be said."""

    round: int
    place: str
    seen: int
    total: int
    left: int | None


def run(
    context: Context,
    version: int,
    *,
    show: Callable[[Progress], None] = lambda _: None,
    batch: int = BATCH,
    rest: float = 1.0,
    settle: float = SETTLE_SECONDS,
) -> dict[str, Any]:
    """Bring every value to `version` and retire the versions before it. How many values were found, in how many rounds.

    After each batch it rests `rest` times as long as the batch took, so that the servers' commits go in between.
    Raises ValuesBroken, Conflict when a higher version came meanwhile, Unavailable when the database is away for
    longer than RETRIES seconds.
    """
    found = 0
    while True:
        number, began = _patiently(lambda: _begin_or_resume(context, version))
        for column in COLUMNS:
            _work_through(context, column, version, batch, rest, show)
        rows = _patiently(lambda: _rows(context))
        found += sum(row.found for row in rows)
        quiet_from = _patiently(lambda: _sealing_since(context, version)) + settle
        if not any(row.found for row in rows) and began >= quiet_from:
            return {"rounds": number, "values": found, "retired": _finish(context, version, rows)}
        show(
            Progress(number, "what was under way", sum(row.seen for row in rows), sum(row.total for row in rows), None)
        )
        _wait_for(context, quiet_from)


def _finish(context: Context, version: int, rows: Sequence[Reseal]) -> list[int]:
    broken = {row.place: row.broken for row in rows if row.broken}
    if broken:
        told = ", ".join(f"{place} {number}" for place, number in broken.items())
        raise ValuesBroken(f"some values open under no version of the master key, so none is retired: {told}")
    return _patiently(lambda: master_keys.retire(context, version))


# --- rounds


def _begin_or_resume(context: Context, version: int) -> tuple[int, int]:
    """The round that is under way, or the next one; its number and when it began."""
    rows = _rows(context)
    places = {row.place for row in rows if row.version == version}
    if places >= {column.place for column in COLUMNS} and any(row.finished_at is None for row in rows):
        return rows[0].round, min(row.started_at for row in rows)
    number = 1 + max((row.round for row in rows if row.version == version), default=0)
    now = context.now()
    with context.database.session(write=False) as session:
        totals = {column.place: column.count(session) for column in COLUMNS}
    with context.database.session() as session:
        for column in COLUMNS:
            values = {
                **{"version": version, "round": number, "position": START, "total": totals[column.place]},
                **{"seen": 0, "found": 0, "broken": 0, "started_at": now, "updated_at": now, "finished_at": None},
            }
            insert = insert_into(session, Reseal.__table__).values(place=column.place, **values)
            session.execute(insert.on_conflict_do_update(index_elements=["place"], set_=values))
    return number, now


def _rows(context: Context) -> Sequence[Reseal]:
    with context.database.session(write=False) as session:
        return session.scalars(select(Reseal).order_by(Reseal.place)).all()


def _sealing_since(context: Context, version: int) -> int:
    with context.database.session(write=False) as session:
        return session.scalar(select(MasterKey.sealing_since).where(MasterKey.version == version)) or 0


def _wait_for(context: Context, quiet_from: float) -> None:
    """Until `quiet_from`, and until every transaction is over that began before (where the database can tell)."""
    while context.now() < quiet_from or _patiently(lambda: _older_transactions(context, quiet_from)):
        time.sleep(0.2)


def _older_transactions(context: Context, before: float) -> int:
    if context.database.engine.dialect.name != "postgresql":
        return 0  # SQLite has one writer: whoever waits for it sees all that was written
    sql = """
    select count(*) from pg_stat_activity
     where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
       and xact_start < to_timestamp(:before)"""
    with context.database.session(write=False) as session:
        return int(session.scalar(text(sql), {"before": before}) or 0)


# --- one column


def _work_through(
    context: Context, column: Column, version: int, batch: int, rest: float, show: Callable[[Progress], None]
) -> None:
    started, before = time.monotonic(), -1
    while True:
        began = time.monotonic()
        row = _patiently(lambda: _one_batch(context, column, version, batch))
        if row.finished_at is not None:
            return
        before = row.seen if before < 0 else before
        speed = (row.seen - before) / (time.monotonic() - started)
        left = int(max(0, row.total - row.seen) / speed) if speed else None
        show(Progress(row.round, column.place, row.seen, row.total, left))
        time.sleep(rest * (time.monotonic() - began))


def _one_batch(context: Context, column: Column, version: int, batch: int) -> Reseal:
    """Read on, seal anew, swap, move the position: the row of progress afterwards."""
    with context.database.session(write=False) as session:
        progress = session.get_one(Reseal, column.place)
        if progress.finished_at is not None:
            return progress
        rows = column.read_on(session, progress.position, version, batch)
    swaps, broken = _seal_anew(context, column, version, rows)
    last, now = rows[-1].id if rows else progress.position, context.now()
    with context.database.session() as session:
        column.swap.run_all(session, swaps)
        moved = session.scalar(
            update(Reseal)
            .where(Reseal.place == column.place, Reseal.position == progress.position, Reseal.finished_at.is_(None))
            .values(
                position=last,
                seen=Reseal.seen + len(rows),
                found=Reseal.found + len(swaps),
                broken=Reseal.broken + broken,
                updated_at=now,
                finished_at=None if rows else now,
            )
            .returning(Reseal)
        )
        # another command works on the same column: what both swapped is the same, and its position counts
        return moved if moved is not None else _read_again(session, column)


def _read_again(session: Session, column: Column) -> Reseal:
    session.expire_all()
    return session.get_one(Reseal, column.place)


def _seal_anew(
    context: Context, column: Column, version: int, rows: Sequence[SealedRow]
) -> tuple[list[dict[str, Any]], int]:
    """The swaps of a batch, and how many values no version opens."""
    swaps, broken, vault = [], 0, context.vault
    for row in rows:
        if row.blob is None:
            continue
        try:
            text = vault.unseal(column.table, column.name, row.id, row.blob)
        except SealBroken:
            broken += 1
            continue
        if vault.sealing != version:
            raise Conflict("another version of the master key seals by now; run the command again")
        swaps.append({"id": row.id, "old": row.blob, "new": vault.seal(column.table, column.name, row.id, text)})
    return swaps, broken


def _patiently(work: Callable[[], R]) -> R:
    """Try again while the database does not answer, or when a batch met a lock. Raises Unavailable at last."""
    for _ in range(RETRIES):
        try:
            return work()
        except Unavailable:
            time.sleep(1)
    return work()
