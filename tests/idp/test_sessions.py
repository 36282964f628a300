"""Sign-on sessions: a new handle at each login, idle and absolute limits, endings that are real."""

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from idp import sessions
from idp.context import Context
from idp.models import Account, AuditRecord, SignOn
from idp.sessions import ABSOLUTE_SECONDS, IDLE_SECONDS, Proof

PASSWORD = Proof(3, ("pwd",))


def add_account(context: Context, db: Any, level: int = 4) -> Account:
    now, account_id = context.now(), uuid4()
    account = Account(id=account_id, level=level, sealed_name=b"", created_at=now, updated_at=now, status="active")
    db.add(account)
    db.flush()
    return account


def test_start_gives_the_lower_of_both_levels(context: Context) -> None:
    with context.database.session() as db:
        strong, weak = add_account(context, db, 5), add_account(context, db, 2)
        assert sessions.start(context, db, strong, PASSWORD)[0].level == 3
        assert sessions.start(context, db, weak, PASSWORD)[0].level == 2


def test_start_again_gives_a_new_handle_and_kills_the_old_one(context: Context) -> None:
    with context.database.session() as db:
        account = add_account(context, db)
        first, old = sessions.start(context, db, account, PASSWORD)
        second, new = sessions.start(context, db, account, PASSWORD, replacing=first)
        assert second.id == first.id
        assert sessions.find_live(context, db, old) is None
        assert sessions.find_live(context, db, new) is not None


def test_start_of_another_person_ends_the_first_session(context: Context) -> None:
    with context.database.session() as db:
        first, _ = sessions.start(context, db, add_account(context, db), PASSWORD)
        second, _ = sessions.start(context, db, add_account(context, db), PASSWORD, replacing=first)
        db.refresh(first)
        assert second.id != first.id
        assert first.end_reason == "another_person"


@pytest.mark.parametrize(
    ("changes", "lives"),
    [
        ({}, True),
        ({"last_seen_at": -IDLE_SECONDS + 5}, True),
        ({"last_seen_at": -IDLE_SECONDS}, False),
        ({"expires_at": 5}, True),
        ({"expires_at": 0}, False),
        ({"ended_at": 0}, False),
    ],
)
def test_session_lives_within_its_limits(context: Context, changes: dict[str, int], lives: bool) -> None:
    now = context.now()
    with context.database.session() as db:
        session, handle = sessions.start(context, db, add_account(context, db), PASSWORD)
        if changes:
            values = {name: now + offset for name, offset in changes.items()}
            db.execute(update(SignOn).where(SignOn.id == session.id).values(**values))
        db.expire_all()
        assert (sessions.find_live(context, db, handle) is not None) == lives
    assert session.expires_at - session.auth_time == ABSOLUTE_SECONDS or changes


def test_end_happens_once_and_is_recorded_once(context: Context) -> None:
    with context.database.session() as db:
        session, handle = sessions.start(context, db, add_account(context, db), PASSWORD)
        assert sessions.end(context, db, session.id, reason="logout")
        assert not sessions.end(context, db, session.id, reason="logout")
        assert sessions.find_live(context, db, handle) is None
        events = db.scalars(select(AuditRecord.event).where(AuditRecord.event == "session:logout:ended")).all()
        assert len(events) == 1


def test_end_all_spares_the_one_that_is_named(context: Context) -> None:
    with context.database.session() as db:
        account = add_account(context, db)
        made = [sessions.start(context, db, account, PASSWORD)[0] for _ in range(3)]
        assert sessions.end_all(context, db, account.id, reason="test", but=made[0].id) == 2
        assert [row.id for row in sessions.list_live(context, db, account.id)] == [made[0].id]


def test_end_expired_ends_what_outlived_its_limits(context: Context) -> None:
    with context.database.session() as db:
        account = add_account(context, db)
        idle, _ = sessions.start(context, db, account, PASSWORD)
        sessions.start(context, db, account, PASSWORD)
        db.execute(update(SignOn).where(SignOn.id == idle.id).values(last_seen_at=context.now() - IDLE_SECONDS))
        assert sessions.end_expired(context, db) == 1
