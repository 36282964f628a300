"""Passwords: what is allowed, what a stranger would guess, and that nobody's check costs less than another's."""

import threading
import time
import unicodedata
from statistics import median
from uuid import uuid4

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from idp import accounts
from idp.accounts import Person
from idp.authn import METHODS, password
from idp.authn.password import PasswordRefused, Pool, check, hold, prepare, refuse_weak, set_password
from idp.context import Context
from idp.errors import Overloaded
from idp.models import AuditRecord, Password
from tests.support.context import events, new_person

GOOD = "correct horse 电池 staple"


def test_method_proves_level_3_at_most() -> None:
    assert METHODS["password"] == (("pwd",), 3, True)


WORDS = [
    "zY7!kq0w",
    "长城长城万里长城真好",
    "🐼🐉🏮🥢🎋🧧🥟🐅",
    "a" * 71 + "bcdefgh" + "一",
    "x1y2" * 256,
    "🐼🐉🏮🥢" * 256,
    "  two  blanks  ",
    '"<&\'>"%00 or 1=1 --',
]


def test_password_of_every_kind_can_be_set_and_used(context: Context, db: Session) -> None:
    account = new_person(context, db)
    for word in WORDS:
        set_password(context, db, account, word)
        assert check(context, db, account, word)
        assert not check(context, db, account, word[:-1])
        assert not check(context, db, account, word + "x")
        stored = db.scalars(select(Password.hash)).one()
        assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_password_byte_73_matters(context: Context, db: Session) -> None:
    account = new_person(context, db)
    set_password(context, db, account, "机密" * 12 + "a")
    assert not check(context, db, account, "机密" * 12 + "b")


def test_password_in_another_normal_form_or_with_other_blanks_is_the_same(context: Context, db: Session) -> None:
    account, word = new_person(context, db), "Café au lait für Ångström"
    set_password(context, db, account, unicodedata.normalize("NFD", word))
    assert check(context, db, account, word)
    assert check(context, db, account, word.replace(" ", "\u3000").replace("für", "für"))
    assert not check(context, db, account, word.replace("C", "Ｃ")), "width matters"
    assert not check(context, db, account, word.lower())


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("1234567", "too_short"),
        ("é" * 7, "too_short"),
        (unicodedata.normalize("NFD", "éèêëēėę"), "too_short"),
        ("x" * 1_025, "too_long"),
        ("x" * 100_000, "too_long"),
        ("nul\x00inside it", "control_character"),
        ("line\nbreak here", "control_character"),
        ("half a pair \ud83d", "control_character"),
    ],
)
def test_password_outside_of_the_limits_is_refused(word: str, reason: str) -> None:
    with pytest.raises(PasswordRefused) as caught:
        prepare(word)
    assert caught.value.reason == reason


def test_common_passwords_are_many_and_long_enough() -> None:
    known = password.common_passwords()
    assert len(known) >= 3_000
    assert all(len(word) >= 8 and word == word.lower() for word in known)
    assert {"password", "12345678", "1qaz2wsx", "woaini1314", "iloveyou", "qwertyuiop"} <= known


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("password", "common"),
        ("PassWord123", "common"),
        ("ｑｗｅｒｔｙｕｉｏｐ", "common"),
        ("1qaz-2wsx", "common"),
        ("kkkkkkkkkkkk", "common"),
        ("abababababab", "common"),
        ("my 张三例 secret", "own_name"),
        ("x19900101y?", "own_birth_date"),
        ("1990-01-01 yf!", "own_birth_date"),
        ("900101-yunfu", "own_birth_date"),
        ("hello010013!", "own_number"),
        ("449901199001010013", "own_birth_date"),
        ("tel 0000 1628 x", "own_phone"),
        ("zhangsan2-is-me", "own_email"),
    ],
)
def test_password_that_a_stranger_would_guess_is_refused(word: str, reason: str) -> None:
    person = Person(
        account_id=uuid4(), name="张三例", number="449901199001010013", type="cid", level=3, phone="17400001628",
        email="zhang.san2@example.test", updated_at=0,
    )  # fmt: skip
    with pytest.raises(PasswordRefused) as caught:
        refuse_weak(prepare(word), person)
    assert caught.value.reason == reason


def test_refused_password_is_not_kept(context: Context, db: Session) -> None:
    account = new_person(context, db)
    with pytest.raises(PasswordRefused):
        set_password(context, db, account, "password123")
    assert db.get(Password, account.id) is None


def test_password_with_part_of_a_name_in_letters_or_with_a_dot_is_refused(context: Context, db: Session) -> None:
    for name, word in (("John Smithson", "smithson-99x!"), ("阿依古丽·买买提", "我爱买买提一万年呀")):
        person = accounts.reveal(context, db, new_person(context, db, name=name))
        with pytest.raises(PasswordRefused, match="name"):
            refuse_weak(prepare(word), person)


def test_check_is_false_for_nobody_locked_and_without_password(context: Context, db: Session) -> None:
    locked, bare = new_person(context, db), new_person(context, db)
    set_password(context, db, locked, GOOD)
    accounts.lock(context, db, locked, "x")
    assert not check(context, db, locked, GOOD)
    assert not check(context, db, bare, GOOD)
    assert not check(context, db, None, GOOD)
    assert not check(context, db, None, "\x00")


@pytest.mark.parametrize("stores", ["sqlite"], indirect=True)
@pytest.mark.long
def test_check_costs_the_same_for_everybody(context: Context, db: Session) -> None:
    known, locked, bare = (new_person(context, db) for _ in range(3))
    for account in (known, locked):
        set_password(context, db, account, GOOD)
    accounts.lock(context, db, locked, "x")
    cases = [(known, GOOD), (known, "wrong password"), (locked, GOOD), (bare, GOOD), (None, GOOD), (known, "\x00")]
    times: list[list[float]] = [[] for _ in cases]
    for _ in range(15):
        for (account, word), found in zip(cases, times, strict=True):
            start = time.perf_counter()
            check(context, db, account, word)
            found.append(time.perf_counter() - start)
    medians = [median(found) for found in times]
    assert max(medians) < 1.5 * min(medians), medians


def test_replacing_a_password_ends_everything(context: Context, db: Session) -> None:
    account = new_person(context, db)
    set_password(context, db, account, GOOD)
    set_password(context, db, account, GOOD + "2")
    assert not check(context, db, account, GOOD)
    assert check(context, db, account, GOOD + "2")
    assert events(db).count("account:password:set") == 2
    details = db.scalars(select(AuditRecord.detail).where(AuditRecord.event == "account:password:set")).all()
    assert details == [None, None]


def _weak_hash(word: str) -> str:
    from passlib.hash import argon2

    return str(argon2.using(type="ID", memory_cost=1_024, time_cost=1, parallelism=1).hash(word))


def _stored(context: Context) -> str:
    with context.database.session(write=False) as session:
        return session.scalars(select(Password.hash)).one()


def test_hash_of_old_parameters_is_renewed_after_a_right_password(context: Context) -> None:
    old = _weak_hash(GOOD)
    with context.database.session() as session:
        account = new_person(context, session)
        set_password(context, session, account, GOOD)
        session.execute(update(Password).values(hash=old))
    with context.database.session(write=False) as session:
        assert not check(context, session, accounts.get(session, account.id), "wrong password")
    assert _stored(context) == old
    with context.database.session(write=False) as session:
        assert check(context, session, accounts.get(session, account.id), GOOD)
    end = time.monotonic() + 10
    while _stored(context) == old and time.monotonic() < end:
        time.sleep(0.02)
    assert "m=19456,t=2,p=1" in _stored(context)
    with context.database.session(write=False) as session:
        assert check(context, session, accounts.get(session, account.id), GOOD)


def test_renewing_never_undoes_a_password_set_meanwhile(context: Context) -> None:
    with context.database.session() as session:
        account = new_person(context, session)
        set_password(context, session, account, GOOD)
    newer = _stored(context)
    assert not password._replace_hash(context, account.id, "$argon2id$older", "$argon2id$stale")
    assert _stored(context) == newer


def test_pool_refuses_when_it_is_full_and_recovers() -> None:
    pool, gate = Pool(threads=1, waiting=2), threading.Event()
    running = [pool.submit(gate.wait, 10) for _ in range(3)]
    with pytest.raises(Overloaded):
        pool.submit(gate.wait, 10)
    gate.set()
    assert all(future.result() for future in running)
    assert pool.run(lambda: 7) == 7


def test_hold_fails_once_the_password_or_the_account_changed(context: Context, db: Session) -> None:
    account = new_person(context, db)
    set_password(context, db, account, GOOD)
    versions = [check(context, db, account, GOOD)]
    for again in (GOOD[::-1], GOOD):  # within one second, and back to the same word
        assert hold(db, account.id, versions[-1] or 0)
        set_password(context, db, account, again)
        versions.append(check(context, db, account, again))
        assert not hold(db, account.id, versions[-2] or 0)
    assert len(set(versions)) == 3
    accounts.lock(context, db, account, "test")
    assert not hold(db, account.id, versions[-1] or 0)


def test_renewed_hash_is_the_same_password_version(context: Context) -> None:
    with context.database.session() as session:
        account = new_person(context, session)
        set_password(context, session, account, GOOD)
        version, old = check(context, session, account, GOOD), session.scalars(select(Password.hash)).one()
    assert version is not None
    assert password._replace_hash(context, account.id, old, _weak_hash(GOOD))
    with context.database.session() as session:
        assert hold(session, account.id, version)
