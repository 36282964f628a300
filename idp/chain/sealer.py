"""The sealer: numbers committed audit records and chains them, in bounded batches, one process at a time.

It looks for records without a number and not for those after some time or number, because transactions commit in
another order than they begin: every committed record is found sooner or later, and sealed once.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from idp import leases
from idp.chain import anchors
from idp.chain.links import START, Place, Record, as_record, canonical, hasher, mac_of, select_records
from idp.context import Context
from idp.database import insert_into
from idp.encryption import ROOT_VERSION
from idp.errors import Conflict, YimenError
from idp.models import AuditHead, AuditRecord
from idp.statements import Change, Done

log = logging.getLogger(__name__)

BATCH = 500
POLL_SECONDS = 1.0
LEASE, LEASE_SECONDS = "audit sealer", 10
UPGRADE_SECONDS = 600  # after the first sealing: for workers of the version before

_SEAL = Change(
    "record sealed",
    wanted={
        "record": "uuid",
        "number": "bigint",
        "previous": "bytea",
        "sealed": "bytea",
        "version": "bigint",
    },
    row=Done,
    sql="""
    update audit
       set sequence = wanted.number, previous_hash = wanted.previous, hash = wanted.sealed,
           key_version = wanted.version
      from wanted where audit.id = wanted.record and audit.sequence is null
    returning {ordinal}""",
)


def find_head(session: Session) -> AuditHead | None:
    return session.get(AuditHead, 1)


def seal(context: Context, *, limit: int = BATCH) -> int:
    """Seal at most `limit` records: how many; 0 when there is nothing to do or a rival was first.

    Reading and hashing hold no lock. The one short transaction that writes moves the head by compare-and-set.
    Raises Conflict when a record vanished or was numbered meanwhile by something else than a sealer.
    """
    with context.database.session(write=False) as session:
        head = find_head(session)
        found = _unsealed(session, limit)
    if not found:
        return 0
    before = Place(head.sequence, head.hash) if head else START
    requests, after = _links(context, before, found)
    unmarked_until = head.unmarked_until if head else _grace(context, found)
    try:
        with context.database.session() as session:
            if not _move_head(context, session, before, after, unmarked_until):
                return 0
            if _write(session, requests) != len(requests):
                raise Conflict("an audit record changed while it was sealed")
    except (IntegrityError, sqlite3.IntegrityError) as error:  # somebody put a record behind the head
        raise Conflict("the audit cannot be sealed; run: yimen audit verify", detail=type(error).__name__) from None
    return len(requests)


def _unsealed(session: Session, limit: int) -> list[Record]:
    """Records without a number, about the oldest first."""
    if session.get_bind().dialect.name == "postgresql":
        # The index of numbers holds the null ones at its end. Outdated statistics must not choose the whole table.
        session.execute(text("set local enable_seqscan = off"))
    rows = session.execute(select_records().where(AuditRecord.sequence.is_(None)).limit(limit))
    return sorted(map(as_record, rows), key=lambda record: (record.at, record.id))


def _links(context: Context, before: Place, found: Sequence[Record]) -> tuple[list[dict[str, object]], Place]:
    version = ROOT_VERSION
    hash_after = hasher(context.vault, version)
    requests: list[dict[str, object]] = []
    sequence, previous = before
    for record in found:
        sequence, sealed = sequence + 1, hash_after(previous, canonical(record))
        requests.append(
            {"record": record.id, "number": sequence, "previous": previous, "sealed": sealed, "version": version}
        )
        previous = sealed
    return requests, Place(sequence, previous)


def _grace(context: Context, found: Sequence[Record]) -> int:
    """Until when records may be without a mark. Only where the version before marks has left some, or still serves."""
    return context.now() + UPGRADE_SECONDS if any(record.mark is None for record in found) else 0


def _move_head(context: Context, session: Session, before: Place, after: Place, unmarked_until: int) -> bool:
    """Whether the end of the chain was still `before`; then it is `after`."""
    now, version = context.now(), ROOT_VERSION
    values = {
        "sequence": after.sequence,
        "hash": after.hash,
        "key_version": version,
        "mac": mac_of(context.vault, version, "head", after, now, unmarked_until),
        "at": now,
        "unmarked_until": unmarked_until,
    }
    if before == START:
        change = insert_into(session, AuditHead.__table__).values(id=1, **values).on_conflict_do_nothing()
        return session.scalar(change.returning(AuditHead.id)) is not None
    moved = session.execute(
        update(AuditHead)
        .where(AuditHead.id == 1, AuditHead.sequence == before.sequence, AuditHead.hash == before.hash)
        .values(**values)
        .returning(AuditHead.id)
        .execution_options(synchronize_session=False)
    )
    return moved.one_or_none() is not None


def _write(session: Session, requests: list[dict[str, object]]) -> int:
    """How many of these records had no number yet and have one now."""
    return len(_SEAL.run_all(session, requests))


def seal_all(context: Context) -> int:
    """Seal until nothing is left, by hand. How many."""
    total = 0
    while sealed := seal(context):
        total += sealed
    return total


def work(context: Context, holder: str) -> int:
    """One turn of the process that has the lease: a batch sealed, an anchor made when it is due."""
    if not leases.hold(context, LEASE, holder, LEASE_SECONDS):
        return 0
    sealed = seal(context)
    anchors.make_if_due(context)
    return sealed


async def run_forever(context: Context) -> None:
    """The sealing loop of one worker. An outage of the database pauses it and never ends it."""
    holder = uuid4().hex
    while True:
        try:
            sealed = await asyncio.to_thread(work, context, holder)
        except YimenError as error:
            level = logging.ERROR if isinstance(error, Conflict) else logging.WARNING
            log.log(level, "the sealer waits", extra={"fields": {"reason": error.message, "detail": error.detail}})
            sealed = 0
        if sealed < BATCH:
            await asyncio.sleep(POLL_SECONDS)
