"""Sign-on sessions of browsers: start (always a new handle), find, list, end. Only the cookie's hash is stored."""

import hashlib
import secrets
from collections.abc import Sequence
from typing import NamedTuple, Protocol
from uuid import UUID, uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from idp import audit, deliveries
from idp.context import Context
from idp.models import Account, SignOn

IDLE_SECONDS = 1_800
ABSOLUTE_SECONDS = 12 * 3_600
TOUCH_SECONDS = 60  # how precise "last seen" is


class Timed(Protocol):
    """The columns that decide whether a session lives."""

    @property
    def last_seen_at(self) -> int: ...

    @property
    def expires_at(self) -> int: ...

    @property
    def ended_at(self) -> int | None: ...


class Proof(NamedTuple):
    """What an authentication proved: the assurance level it reaches at most, and its `amr` values (RFC 8176)."""

    level: int
    amr: tuple[str, ...]


def handle_hash(handle: str) -> bytes:
    return hashlib.sha256(handle.encode()).digest()


def is_live(session: Timed, now: int) -> bool:
    """Whether a session has neither ended nor outlived its idle or absolute limit."""
    return session.ended_at is None and session.expires_at > now and now - session.last_seen_at < IDLE_SECONDS


def start(
    context: Context,
    db: Session,
    account: Account,
    proof: Proof,
    *,
    replacing: SignOn | None = None,
    client: str | None = None,
) -> tuple[SignOn, str]:
    """Sign a person in: the session and the value of its cookie, which is always new. `client` is who asked for it.

    A session of the same person in the same browser goes on under the new handle, so that its clients stay known;
    another person's ends first.
    """
    now, handle = context.now(), secrets.token_urlsafe(32)
    if replacing is not None and replacing.account_id != account.id:
        end(context, db, replacing.id, reason="another_person")
        replacing = None
    level = min(account.level, proof.level)
    if replacing is None:
        session = SignOn(id=uuid4(), account_id=account.id, channel=context.channel, created_at=now)
        db.add(session)
    else:
        session = replacing
    session.handle_hash = handle_hash(handle)
    session.auth_time, session.level, session.amr = now, level, " ".join(proof.amr)
    session.address, session.user_agent = context.address, context.user_agent
    session.last_seen_at, session.expires_at = now, now + ABSOLUTE_SECONDS
    db.flush()
    detail = {"session": str(session.id), "amr": session.amr, "level": level}
    audit.record(context, db, "session:login:started", account=account.id, client=client, detail=detail)
    return session, handle


def find_live(context: Context, db: Session, handle: str) -> tuple[SignOn, Account] | None:
    """The living session of a cookie with its account, None when there is none or the account is not active."""
    if not handle:
        return None
    row = db.execute(
        select(SignOn, Account)
        .join(Account, Account.id == SignOn.account_id)
        .where(SignOn.handle_hash == handle_hash(handle))
    ).one_or_none()
    if row is None or row[1].status != "active" or not is_live(row[0], context.now()):
        return None
    return row[0], row[1]


def list_live(context: Context, db: Session, account_id: UUID) -> Sequence[SignOn]:
    """A person's living sessions, the newest first."""
    now = context.now()
    return db.scalars(
        select(SignOn)
        .where(
            SignOn.account_id == account_id,
            SignOn.ended_at.is_(None),
            SignOn.expires_at > now,
            SignOn.last_seen_at > now - IDLE_SECONDS,
        )
        .order_by(SignOn.last_seen_at.desc(), SignOn.id)
    ).all()


def end(context: Context, db: Session, session_id: UUID, *, reason: str) -> bool:
    """End one session and put its logout notices on their way. False when it had ended before."""
    ended = db.execute(
        update(SignOn)
        .where(SignOn.id == session_id, SignOn.ended_at.is_(None))
        .values(ended_at=context.now(), end_reason=reason)
        .returning(SignOn.account_id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if ended is None:
        return False
    deliveries.queue_logout_notices(context, db, session_id, ended.account_id)
    detail = {"session": str(session_id), "reason": reason}
    audit.record(context, db, "session:logout:ended", account=ended.account_id, detail=detail)
    return True


def end_all(context: Context, db: Session, account_id: UUID, *, reason: str, but: UUID | None = None) -> int:
    """End every session of a person, except `but`. How many were ended."""
    found = select(SignOn.id).where(SignOn.account_id == account_id, SignOn.ended_at.is_(None)).order_by(SignOn.id)
    return sum(end(context, db, session_id, reason=reason) for session_id in db.scalars(found) if session_id != but)


def end_expired(context: Context, db: Session, *, limit: int = 100) -> int:
    """End sessions that have outlived their limits, so that their clients are told. How many were ended."""
    now = context.now()
    found = db.scalars(
        select(SignOn.id)
        .where(
            SignOn.ended_at.is_(None),
            (SignOn.expires_at <= now) | (SignOn.last_seen_at <= now - IDLE_SECONDS),
        )
        .limit(limit)
    ).all()
    return sum(end(context, db, session_id, reason="expired") for session_id in found)
