"""Lockout: what locks, what stays open, what nobody can tell apart (security.md section 3.5, groups M and S)."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from idp import lockout, messages
from idp.context import Context
from idp.lockout import FORGET_SECONDS, LOCK_SECONDS, STRIKES_EVERYWHERE, STRIKES_PLACE
from idp.models import Account, LoginFailure, Message
from tests.support.context import events, new_person, opened


@pytest.fixture
def context(stores: dict[str, str]) -> Iterator[Context]:
    with opened(stores | {"YIMEN_RATE_LIMITS": "on"}) as found:
        yield dataclasses.replace(found, address="203.0.113.7")


@pytest.fixture
def account(context: Context) -> Account:
    with context.database.session() as db:
        return new_person(context, db, phone="17412345678", claims={"phone_number_verified": True})


def at(context: Context, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the clock of the database."""
    monkeypatch.setattr(context.database, "_offset", context.database._offset + seconds)


def tries(context: Context, account: Account | None, *, right: bool, times: int = 1, **options: Any) -> list[bool]:
    found = []
    for _ in range(times):
        with context.database.session() as db:
            tried = lockout.attempt(
                context, account.id if account else None, options.get("typed", ""), options.get("device")
            )
            found.append(lockout.settle(context, db, tried, right=right))
    return found


def rows(db: Session) -> dict[str, LoginFailure]:
    return {row.place: row for row in db.scalars(select(LoginFailure))}


def test_right_password_after_four_failures_is_admitted_and_forgets_them(context: Context, account: Account) -> None:
    tries(context, account, right=False, times=STRIKES_PLACE - 1)
    assert tries(context, account, right=True) == [True]
    with context.database.session() as db:
        assert rows(db) == {}


def test_fifth_failure_locks_for_ten_minutes_and_right_is_refused(
    context: Context, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries(context, account, right=False, times=STRIKES_PLACE)
    assert tries(context, account, right=True, times=3) == [False] * 3
    at(context, LOCK_SECONDS[0] - 1, monkeypatch)
    assert tries(context, account, right=True) == [False]
    at(context, 1, monkeypatch)
    assert tries(context, account, right=True) == [True]


def test_tries_during_a_lock_neither_lengthen_nor_shorten_it(context: Context, account: Account) -> None:
    """Else the end of the lock would tell whether a guess during it was right."""
    tries(context, account, right=False, times=STRIKES_PLACE)
    with context.database.session() as db:
        until = rows(db)["203.0.113.0/24"].locked_until
    tries(context, account, right=False, times=4)
    tries(context, account, right=True, times=4)
    with context.database.session() as db:
        row = rows(db)["203.0.113.0/24"]
        assert (row.locked_until, row.failures) == (until, STRIKES_PLACE + 8)


def test_each_lock_is_longer_until_a_day(context: Context, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    for _ in range(len(LOCK_SECONDS) + 1):
        tries(context, account, right=False, times=STRIKES_PLACE)
        with context.database.session() as db:
            lengths.append(rows(db)["203.0.113.0/24"].locked_until - context.now())
        at(context, lengths[-1], monkeypatch)
    assert [abs(found - wanted) <= 2 for found, wanted in zip(lengths, [*LOCK_SECONDS, 86_400], strict=True)] == [
        True
    ] * 9


def test_other_network_and_known_device_stay_open(context: Context, account: Account) -> None:
    """M07: who locks a victim on purpose locks their own network."""
    tries(context, account, right=False, times=STRIKES_PLACE)
    elsewhere = dataclasses.replace(context, address="198.51.100.9")
    assert tries(elsewhere, account, right=True) == [True]
    assert tries(context, account, right=True, device=uuid4()) == [True]


def test_many_networks_lock_everywhere_but_known_devices(context: Context, account: Account) -> None:
    for network in range(STRIKES_EVERYWHERE):
        tries(dataclasses.replace(context, address=f"198.51.{network}.1"), account, right=False)
    fresh = dataclasses.replace(context, address="192.0.2.1")
    assert tries(fresh, account, right=True) == [False]
    assert tries(fresh, account, right=True, device=uuid4()) == [True]


def test_known_device_is_locked_by_its_own_failures(context: Context, account: Account) -> None:
    device = uuid4()
    tries(context, account, right=False, times=STRIKES_PLACE, device=device)
    assert tries(context, account, right=True, device=device) == [False]
    assert tries(context, account, right=True, device=uuid4()) == [True]


def test_failures_are_forgotten_after_a_day(
    context: Context, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries(context, account, right=False, times=STRIKES_PLACE - 1)
    at(context, FORGET_SECONDS + 1, monkeypatch)
    tries(context, account, right=False)
    assert tries(context, account, right=True) == [True]


def test_hundred_failures_at_once_count_a_hundred_and_admit_nothing_after_the_lock(
    context: Context, account: Account
) -> None:
    """S09, and P-13 for every degree of parallelism."""
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: tries(context, account, right=False), range(100)))
    with context.database.session() as db:
        row = rows(db)["203.0.113.0/24"]
    assert (row.failures, row.locks) == (100, 1)
    assert tries(context, account, right=True) == [False]


def test_owner_is_told_once_and_the_lock_is_audited(context: Context, account: Account) -> None:
    tries(context, account, right=False, times=STRIKES_PLACE + 3)
    tries(dataclasses.replace(context, address="198.51.100.9"), account, right=False, times=STRIKES_PLACE)
    with context.database.session() as db:
        assert events(db).count("account:login:locked") == 2
        assert db.scalars(select(Message.purpose)).all() == [lockout.LOCKED]
        [claimed] = messages.claim(context, db)
        assert (claimed.to, claimed.channel) == ("+8617412345678", "sms") or claimed.to == "17412345678"


def test_unknown_name_is_counted_like_a_known_one_in_every_spelling(context: Context) -> None:
    for typed in ("Li Si", "li si", "ＬＩ　ＳＩ", "lisi"):
        tries(context, None, right=False, typed=typed)
    with context.database.session() as db:
        assert {row.failures for row in rows(db).values()} == {4}


def test_counter_forgives(context: Context, account: Account) -> None:
    tries(context, account, right=False, times=STRIKES_PLACE)
    with context.database.session() as db:
        assert lockout.describe(context, db, account.id)["failed_sign_ins"] == STRIKES_PLACE
        assert lockout.clear(context, db, account.id, reason="at the counter") == 1
        assert lockout.describe(context, db, account.id) == {"failed_sign_ins": 0, "sign_in_locked_until": None}
        assert "account:login:unlocked" in events(db)
    assert tries(context, account, right=True) == [True]


def test_purge_deletes_what_is_forgotten_and_nothing_else(
    context: Context, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries(context, None, right=False, typed="nobody")
    at(context, FORGET_SECONDS + 1, monkeypatch)
    tries(context, account, right=False)
    with context.database.session() as db:
        assert lockout.purge(context, db) == 2
        assert len(rows(db)) == 2


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:1:2ff:aaaa::1", "2001:db8:1:200::/56"),
        ("", "network unknown"),
    ],
)
def test_network_of_an_address(address: str, network: str) -> None:
    assert lockout.network_of(address) == network
