"""Lockout: failed sign-ins of one person from one place lock that place, then every place but known devices.

Only ways to sign in that can be guessed are counted (`Method.guessable`): a passkey, and a person at the counter,
are never locked out. The count is a row, so that neither a restart nor a lost Redis forgets it (security.md 3.4).

A password counts by the order of commits, not of checks: of any number of guesses at once, those that commit after
the lock are refused though they were right, and get the answer of a wrong one (security.md section 3.5, P-13).
Names that belong to nobody are counted in the same way, so that nothing tells them apart.
"""

import hashlib
import hmac
import ipaddress
import unicodedata
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import and_, case, delete, or_, select, tuple_
from sqlalchemy.orm import Session

from idp import audit, messages
from idp.context import Context
from idp.database import insert_into
from idp.models import LoginFailure

EVERYWHERE, DEVICE = "*", "device "
STRIKES_PLACE = 5  # failures in a row that lock one network or one known device (GB/T 22239 8.1.4.1 b)
STRIKES_EVERYWHERE = 20  # over all networks together; NIST SP 800-63B allows at most 100
LOCK_SECONDS = (600, 1_200, 2_400, 4_800, 9_600, 19_200, 38_400, 86_400)  # the first lock, the second, …
FORGET_SECONDS = 86_400  # without a failure
LOCKED = "login_locked"  # the purpose of the message to the owner
TELL_SECONDS = 3_600  # the owner is told once in this time: an attacker must not make a bell of it
PURGE_BATCH = 1_000


class Attempt(NamedTuple):
    """Whose sign-in, from where. `subject` is the account's id, or a keyed hash of a text that means nobody."""

    subject: bytes
    account_id: UUID | None
    place: str

    @property
    def places(self) -> tuple[str, str]:
        """Where a failure counts."""
        return (self.place, EVERYWHERE)

    @property
    def locking(self) -> tuple[str, ...]:
        """Whose lock stops this attempt: a known device is stopped by its own failures alone."""
        return (self.place,) if self.place.startswith(DEVICE) else self.places


def attempt(context: Context, account_id: UUID | None, typed: str, device: UUID | None) -> Attempt:
    """An attempt for an account, or for a text that means nobody. `device` is one that the account knows."""
    folded = "".join(unicodedata.normalize("NFKC", typed).casefold().split())
    nobody = hmac.new(context.vault.derive("login subject"), folded.encode("utf-8", "replace"), hashlib.sha256)
    subject = account_id.bytes if account_id is not None else nobody.digest()
    return Attempt(subject, account_id, f"{DEVICE}{device}" if device is not None else network_of(context.address))


def network_of(address: str) -> str:
    """The network that an address stands for: 256 neighbours of IPv4, one customer's /56 of IPv6 (RFC 6177)."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "network unknown"
    return str(ipaddress.ip_network((found, 24 if found.version == 4 else 56), strict=False))


def settle(context: Context, db: Session, tried: Attempt, *, right: bool) -> bool:
    """Whether the sign-in may go on. Everything else is counted as a failure, in the transaction of `db`.

    True forgets the failures of this place. The statements are the same for right and wrong, known and unknown.
    """
    if not context.config.rate_limits:
        return right
    if _admit(context, db, tried, right=right):
        return True
    for place in tried.places:
        _fail(context, db, tried, place)
    return False


def _admit(context: Context, db: Session, tried: Attempt, *, right: bool) -> bool:
    """Compare-and-set: forget the failures unless a lock holds."""
    now = context.now()
    mine = LoginFailure.subject == (tried.subject if right else b"")
    db.execute(
        delete(LoginFailure)
        .where(mine, LoginFailure.place.in_(tried.places), LoginFailure.locked_until <= now)
        .execution_options(synchronize_session=False)
    )
    held = and_(mine, LoginFailure.place.in_(tried.locking), LoginFailure.locked_until > now)
    return db.scalars(select(LoginFailure.place).where(held).limit(1)).first() is None and right


def _fail(context: Context, db: Session, tried: Attempt, place: str) -> None:
    """Count one failure; at the limit the place is locked, which is audited and told to the owner."""
    now, table = context.now(), LoginFailure.__table__.c
    limit = STRIKES_EVERYWHERE if place == EVERYWHERE else STRIKES_PLACE
    locked = table.locked_until > now
    old = and_(~locked, table.last_at < now - FORGET_SECONDS)
    after_lock = and_(~locked, table.last_at < table.locked_until)
    strikes = case((or_(old, after_lock), 1), else_=table.strikes + 1)
    locks = case((old, 0), else_=table.locks)
    locking = and_(~locked, strikes >= limit)
    seconds = case(*((locks == i, length) for i, length in enumerate(LOCK_SECONDS)), else_=LOCK_SECONDS[-1])
    first = {"subject": tried.subject, "place": place, "failures": 1, "strikes": 1, "locks": 0, "locked_until": 0}
    counted = db.execute(
        insert_into(db, LoginFailure.__table__)
        .values(**first, last_at=now)
        .on_conflict_do_update(
            index_elements=["subject", "place"],
            set_={
                "failures": case((old, 1), else_=table.failures + 1),
                "strikes": case((locking, 0), else_=strikes),
                "locks": case((locking, locks + 1), else_=locks),
                "locked_until": case((locking, now + seconds), else_=table.locked_until),
                "last_at": now,
            },
        )
        .returning(table.strikes, table.locked_until, table.failures)
    ).one()
    if counted.strikes == 0 and tried.account_id is not None:  # only the failure that locked leaves none
        _tell(context, db, tried.account_id, place, counted.locked_until, counted.failures)


def _tell(context: Context, db: Session, account_id: UUID, place: str, until: int, failures: int) -> None:
    where = "everywhere" if place == EVERYWHERE else "device" if place.startswith(DEVICE) else "network"
    detail = {"where": where, "until": until, "failures": failures}
    audit.record(context, db, "account:login:locked", account=account_id, result="refused", detail=detail)
    messages.queue(context, db, account_id, LOCKED, {"until": until}, pause=TELL_SECONDS)


def describe(context: Context, db: Session, account_id: UUID) -> dict[str, int | None]:
    """For operators: failures in a row over all places, and until when signing in is locked anywhere."""
    now = context.now()
    rows = db.execute(
        select(LoginFailure.place, LoginFailure.failures, LoginFailure.locked_until).where(
            LoginFailure.subject == account_id.bytes
        )
    ).all()
    until = max((row.locked_until for row in rows if row.locked_until > now), default=None)
    everywhere = next((row.failures for row in rows if row.place == EVERYWHERE), 0)
    return {"failed_sign_ins": everywhere, "sign_in_locked_until": until}


def clear(context: Context, db: Session, account_id: UUID, *, reason: str) -> int:
    """Forget every failure of a person, as the counter does for who stands there. How many places were locked."""
    now = context.now()
    gone = db.execute(
        delete(LoginFailure)
        .where(LoginFailure.subject == account_id.bytes)
        .returning(LoginFailure.locked_until)
        .execution_options(synchronize_session=False)
    ).all()
    locked = sum(1 for row in gone if row.locked_until > now)
    detail = {"reason": reason, "locks": locked}
    audit.record(context, db, "account:login:unlocked", account=account_id, detail=detail)
    return locked


def purge(context: Context, db: Session) -> int:
    """Delete counts that are forgotten anyway, a bounded number of them. How many."""
    now = context.now()
    forgotten = and_(LoginFailure.last_at < now - FORGET_SECONDS, LoginFailure.locked_until <= now)
    keys = select(LoginFailure.subject, LoginFailure.place).where(forgotten).limit(PURGE_BATCH)
    gone = db.execute(
        delete(LoginFailure)
        .where(tuple_(LoginFailure.subject, LoginFailure.place).in_(keys), forgotten)
        .returning(LoginFailure.place)
        .execution_options(synchronize_session=False)
    ).all()
    return len(gone)
