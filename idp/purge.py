"""Purge of what is over: dead grants with their spent codes, ended sessions, settled deliveries, revocation marks.

Each step is a generator of short transactions of at most BATCH rows, so that no login waits for it. It goes along
an index that each table has already: sessions by their end, and from a session to what hangs on it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Delete, delete, select, tuple_
from sqlalchemy.orm import Session

from idp import leases, lockout
from idp.chain import retention
from idp.context import Context
from idp.errors import YimenError
from idp.models import ClientSecret, Delivery, Grant, Message, RevokedToken, SignOn, Spent

log = logging.getLogger(__name__)

BATCH = 500
DAY = 86_400
EVERY_SECONDS = 900
LEASE, LEASE_SECONDS = "purge", 600

Step = Callable[[Context, int], Iterator[Mapping[str, int]]]
"""Yields, after each transaction, how many rows of which table went. Its number is the time before which things go."""


def _ended(table: str, key: Any, over: ColumnElement[bool], context: Context) -> Iterator[Mapping[str, int]]:
    """The rows of a table that are over, found by their key, BATCH in each transaction."""
    ended = BATCH
    while ended == BATCH:
        with context.database.session() as session:
            found = select(key).where(over).limit(BATCH)
            ended = _count(session, delete(key.class_).where(key.in_(found.scalar_subquery())))
        yield {table: ended}


def purge_marks(context: Context, _: int) -> Iterator[Mapping[str, int]]:
    """Revocations of single access tokens that have expired since."""
    return _ended("revoked_tokens", RevokedToken.token_id, RevokedToken.expires_at <= context.now(), context)


def purge_spent(context: Context, _: int) -> Iterator[Mapping[str, int]]:
    """Marks of one-time things that are refused for their age by now."""
    return _ended("spent", Spent.key, Spent.expires_at <= context.now(), context)


def purge_messages(context: Context, before: int) -> Iterator[Mapping[str, int]]:
    """Messages that were sent or given up."""
    over = (Message.state != "waiting") & (Message.updated_at < before)
    return _ended("messages", Message.id, over, context)


def purge_failures(context: Context, _: int) -> Iterator[Mapping[str, int]]:
    """Failed sign-ins that count no more."""
    ended = lockout.PURGE_BATCH
    while ended == lockout.PURGE_BATCH:
        with context.database.session() as session:
            ended = lockout.purge(context, session)
        yield {"login_failures": ended}


def purge_sessions(context: Context, before: int) -> Iterator[Mapping[str, int]]:
    """Sessions that ended, with the grants that died and the deliveries that were settled.

    A session stays while one of its refresh families lives.
    """
    last: tuple[int, UUID] | None = None
    while True:
        with context.database.session() as session:
            asked = (
                select(SignOn.id, SignOn.expires_at)
                .where(SignOn.expires_at < before, SignOn.ended_at < before)
                .order_by(SignOn.expires_at, SignOn.id)
                .limit(BATCH)
            )
            if last is not None:
                asked = asked.where(tuple_(SignOn.expires_at, SignOn.id) > last)
            found = session.execute(asked).all()
            if not found:
                return
            gone = _purge_sessions(session, [row.id for row in found], before)
        yield gone
        if len(found) < BATCH:
            return
        last = (found[-1].expires_at, found[-1].id)


def _purge_sessions(session: Session, ids: list[UUID], before: int) -> Mapping[str, int]:
    marked = select(RevokedToken.grant_id).where(RevokedToken.grant_id == Grant.id).exists()
    dead = (Grant.revoked_at < before) | (
        (Grant.code_expires_at < before) & ((Grant.refresh_expires_at.is_(None)) | (Grant.refresh_expires_at < before))
    )
    settled = (Delivery.state != "waiting") & (Delivery.updated_at < before)
    used = (
        select(Grant.id).where(Grant.session_id == SignOn.id).exists()
        | select(Delivery.id).where(Delivery.session_id == SignOn.id).exists()
    )
    return {
        "grants": _count(session, delete(Grant).where(Grant.session_id.in_(ids), dead, ~marked)),
        "deliveries": _count(session, delete(Delivery).where(Delivery.session_id.in_(ids), settled)),
        "sessions": _count(session, delete(SignOn).where(SignOn.id.in_(ids), ~used)),
    }


def purge_secrets(context: Context, before: int) -> Iterator[Mapping[str, int]]:
    """Client secrets whose overlap is over."""
    with context.database.session() as session:
        ended = _count(session, delete(ClientSecret).where(ClientSecret.expires_at < before))
    yield {"client_secrets": ended}


def purge_audit(context: Context, _: int) -> Iterator[Mapping[str, int]]:
    """The oldest part of the audit, at most once a day, since each time leaves a checkpoint."""
    yield {"audit": retention.purge(context, pause=DAY)}


STEPS: tuple[Step, ...] = (
    purge_marks,
    purge_spent,
    purge_failures,
    purge_sessions,
    purge_messages,
    purge_secrets,
    purge_audit,
)
"""A table with rows that end gets its step here."""


def run(context: Context, *, steps: tuple[Step, ...] = STEPS) -> dict[str, int]:
    """Purge all that is over by now: how many rows went, by table. Several at once do not harm each other."""
    gone: Counter[str] = Counter()
    before = context.now() - context.config.ended_keep_days * DAY
    for step in steps:
        for counts in step(context, before):
            gone.update(counts)
    return dict(gone)


def work(context: Context, holder: str) -> dict[str, int]:
    """One turn of the process that has the lease."""
    return run(context) if leases.hold(context, LEASE, holder, LEASE_SECONDS) else {}


async def run_forever(context: Context) -> None:
    """The purging loop of one worker. An outage of the database pauses it and never ends it."""
    holder = uuid4().hex
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            gone = await asyncio.to_thread(work, context, holder)
        except YimenError as error:
            log.warning("purge waits", extra={"fields": {"detail": error.detail or error.message}})
        else:
            if any(gone.values()):
                log.info("purged", extra={"fields": {"counts": gone}})


def _count(session: Session, change: Delete) -> int:
    result: Any = session.execute(change.execution_options(synchronize_session=False))
    return int(result.rowcount)
