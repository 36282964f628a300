"""Passwords: rules for new ones, argon2id in a bounded pool, checks of equal cost for everybody.

A password is compared in the form of RFC 8265 (OpaqueString): every blank is U+0020, then NFC. Nothing is cut off.
"""

import contextlib
import functools
import logging
import os
import re
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import resources
from typing import Any, TypeVar
from uuid import UUID

from passlib.hash import argon2  # type: ignore[import-untyped]
from sqlalchemy import case, select, update
from sqlalchemy.orm import Session

from idp import accounts, audit
from idp.accounts import Person
from idp.context import Context
from idp.database import insert_into
from idp.errors import InvalidInput, Overloaded, YimenError
from idp.models import Account, Password

log = logging.getLogger(__name__)

LENGTHS = range(8, 1_025)  # characters after normalization (security.md section 3.1, profile `standard`)
RAW_LIMIT = 4_096  # characters before it: normalizing a long run of combining signs takes quadratic time
NICE = 10  # of the hashing threads
WAITING = 64  # checks that may wait for a thread; one takes about 20 ms and 19 MiB
_HASHER = argon2.using(type="ID", memory_cost=19_456, time_cost=2, parallelism=1)
_SEPARATOR = re.compile(r"[\W_]+")
T = TypeVar("T")


class PasswordRefused(InvalidInput):
    """A password that nobody should have, or that this person should not. `reason` is a stable word."""

    code = "password_refused"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Pool:
    """As many hashing threads as cores, and a bounded queue: a flood of logins is refused before it eats memory."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="password", initializer=_give_way)
        self._places = threading.BoundedSemaphore(threads + waiting)
        self.depth = 0  # taken places: work under way and waiting

    def submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Raises Overloaded when the queue is full."""
        if not self._places.acquire(blocking=False):
            raise Overloaded("too many sign-ins at once", detail="password pool")
        self.depth += 1
        future = self._executor.submit(work, *arguments)
        future.add_done_callback(self._leave)
        return future

    def _leave(self, _: Future[Any]) -> None:
        self.depth -= 1
        self._places.release()

    def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Wait for the answer."""
        return self.submit(work, *arguments).result()


def depth() -> int:
    """Passwords that are being hashed or wait for it in this worker."""
    return _pool.depth


def _give_way() -> None:
    """Hashing yields the core to the thread that answers tokens. Linux gives each thread a nice value of its own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


_pool = Pool(os.cpu_count() or 1, WAITING)


# --- the form in which passwords are compared


def prepare(password: str) -> str:
    """RFC 8265 section 4.2: blanks to U+0020, NFC; case and width stay. Raises PasswordRefused.

    Refused are control characters (NUL among them), what is not text, and lengths outside of LENGTHS.
    """
    if len(password) > RAW_LIMIT:
        raise PasswordRefused("too_long", f"a password has at most {LENGTHS[-1]} characters")
    spaced = "".join(" " if unicodedata.category(sign) == "Zs" else sign for sign in password)
    prepared = unicodedata.normalize("NFC", spaced)
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in prepared):
        raise PasswordRefused("control_character", "a password holds no control characters")
    if len(prepared) < LENGTHS[0]:
        raise PasswordRefused("too_short", f"a password has at least {LENGTHS[0]} characters")
    if len(prepared) > LENGTHS[-1]:
        raise PasswordRefused("too_long", f"a password has at most {LENGTHS[-1]} characters")
    return prepared


# --- rules for new passwords


@functools.cache
def common_passwords() -> frozenset[str]:
    """The passwords that many people choose, in lower case."""
    text = resources.files("idp.authn").joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


def refuse_weak(password: str, person: Person) -> None:
    """Raise PasswordRefused for a common password, or one that holds the person's own name, number or contacts."""
    folded = unicodedata.normalize("NFKC", password).casefold()
    bare = _SEPARATOR.sub("", folded)
    if {folded, bare, folded.strip()} & common_passwords() or len(set(folded)) <= 2:
        raise PasswordRefused("common", "many people use this password; choose another")
    for reason, part in _own(person):
        if part in bare:
            raise PasswordRefused(
                reason, f"a password must not hold your {reason.replace('_', ' ').removeprefix('own ')}"
            )


def _own(person: Person) -> Iterator[tuple[str, str]]:
    """What a stranger would try first, each part in lower case without separators."""
    whole = _bare(person.name)
    for part in {whole, *(_bare(word) for word in re.split(r"[\s·•]+", person.name))}:
        if len(part) >= (4 if part.isascii() else 2):
            yield "own_name", part
    birth = person.birth
    if birth is not None:
        for form in ("%Y%m%d", "%y%m%d", "%d%m%Y", "%m%d%Y"):
            yield "own_birth_date", birth.strftime(form)
    if len(person.number) >= 6:
        yield "own_number", person.number[-6:].casefold()
    if len(person.phone) >= 8:
        yield "own_phone", person.phone[-8:]
    local = _bare(person.email.partition("@")[0])
    if len(local) >= 6:
        yield "own_email", local


def _bare(text: str) -> str:
    return _SEPARATOR.sub("", unicodedata.normalize("NFKC", text).casefold())


# --- set and check


def set_password(context: Context, session: Session, account: Account, password: str) -> None:
    """Give an account a new password. Replacing one ends every session and grant of the person.

    Raises PasswordRefused, Overloaded.
    """
    prepared = prepare(password)
    refuse_weak(prepared, accounts.reveal(context, session, account))
    earlier = session.get(Password, account.id)
    values = {"hash": _pool.run(_HASHER.hash, prepared), "changed_at": context.now()}
    statement = insert_into(session, Password.__table__).values(account_id=account.id, **values)
    later = case((Password.changed_at < context.now(), context.now()), else_=Password.changed_at + 1)
    values |= {"changed_at": later}  # it grows with every change, so that it tells versions apart
    session.execute(statement.on_conflict_do_update(index_elements=["account_id"], set_=values))
    audit.record(context, session, "account:password:set", account=account.id)
    if earlier is not None:
        session.refresh(earlier)
        accounts.end_access(context, session, account.id, reason="password_changed")


def check(context: Context, session: Session, account: Account | None, password: str) -> int | None:
    """The version of the password (see `hold`) when it is right and the account active, else None.

    The same work is done for everybody: nobody can tell from the time whether the account exists, is locked or has a
    password. Raises Overloaded.
    """
    stored = session.get(Password, account.id) if account is not None else None
    try:
        prepared, refused = prepare(password), False
    except PasswordRefused:
        prepared, refused = "", True
    known = stored.hash if stored is not None and account is not None and account.status == "active" else None
    right = _pool.run(_verify, prepared, known or _decoy())
    if not right or refused or known is None or account is None or stored is None:
        return None
    if _HASHER.needs_update(known):
        _rehash_later(context, account.id, known, prepared)
    return stored.changed_at


def hold(session: Session, account_id: UUID, version: int) -> bool:
    """Whether a password that was right a moment ago still is, and the account still active.

    Both stay so until the transaction ends: who locks the account or sets a password waits, and then ends the session
    that this sign-in starts.
    """
    found = session.scalar(
        select(Password.changed_at)
        .join(Account, Account.id == Password.account_id)
        .where(Account.id == account_id, Account.status == "active", Password.changed_at == version)
        .with_for_update(read=True)
    )
    return found is not None


def changed_at(session: Session, account: Account | None) -> int:
    """Since when the account has this password; 0 without an account or a password."""
    stored = session.get(Password, account.id) if account is not None else None
    return stored.changed_at if stored is not None else 0


@functools.cache
def _decoy() -> str:
    """A hash of nothing that anybody can type, for accounts without one."""
    return str(_HASHER.hash(os.urandom(16).hex()))


def _verify(password: str, known: str) -> bool:
    return bool(_HASHER.verify(password, known))


def _rehash_later(context: Context, account_id: UUID, old: str, password: str) -> None:
    """Bring a hash to today's parameters after the answer. Failing costs nothing: the next sign-in tries again."""

    def rehash() -> None:
        try:
            _replace_hash(context, account_id, old, str(_HASHER.hash(password)))
        except YimenError as error:
            log.warning("password not rehashed", extra={"fields": {"detail": error.detail or error.code}})

    try:
        _pool.submit(rehash)
    except Overloaded:
        log.info("password not rehashed: busy")


def _replace_hash(context: Context, account_id: UUID, old: str, new: str) -> bool:
    """Compare-and-set on the old hash, so that a password set meanwhile stays."""
    with context.database.session() as session:
        changed = session.execute(
            update(Password)
            .where(Password.account_id == account_id, Password.hash == old)
            .values(hash=new)
            .returning(Password.account_id)
        ).one_or_none()
    return changed is not None
