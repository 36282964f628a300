"""Purge: what is over goes in short transactions, what lives or is still needed stays (U11)."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from clients import registry
from idp import purge, sessions
from idp.context import Context
from idp.models import Account, ClientSecret, Delivery, Grant, RevokedToken, SignOn
from tests.idp.test_sessions import PASSWORD, add_account

DAY = 86_400


class World:
    """A client, a person, and sessions of a given age with what hangs on them."""

    def __init__(self, context: Context, db: Session) -> None:
        self.context, self.db = context, db
        metadata = {
            "client_name": "公积金",
            "redirect_uris": ["https://rp.example.test/cb"],
            "grant_types": ["authorization_code", "refresh_token"],
        }
        self.client = registry.create(context, db, metadata=metadata, profile="baseline").client.id
        self.account: Account = add_account(context, db)

    def session(self, days: int, *, ended: bool = True) -> UUID:
        found, _ = sessions.start(self.context, self.db, self.account, PASSWORD)
        then = self.context.now() - days * DAY
        found.created_at = found.last_seen_at = then
        found.expires_at, found.ended_at = then + 100, then + 50 if ended else None
        self.db.flush()
        return found.id

    def grant(self, session_id: UUID, days: int, **more: Any) -> UUID:
        then = self.context.now() - days * DAY
        values: dict[str, Any] = {
            "id": uuid4(),
            "client_id": self.client,
            "account_id": self.account.id,
            "session_id": session_id,
            "scope": "openid",
            "code_hash": uuid4().bytes,
            "code_expires_at": then + 60,
            "redirect_uri": "https://rp.example.test/cb",
            "auth_time": then,
            "level": 3,
            "amr": "pwd",
            "channel": "web_hall",
            "created_at": then,
            **more,
        }
        self.db.add(Grant(**values))
        self.db.flush()
        return UUID(str(values["id"]))

    def delivery(self, session_id: UUID, days: int, state: str) -> None:
        then = self.context.now() - days * DAY
        values = {"url": "https://rp.example.test/out", "next_at": then, "created_at": then, "updated_at": then}
        common = {"kind": "x", "client_id": self.client, "account_id": self.account.id, "session_id": session_id}
        self.db.add(Delivery(**common, state=state, **values))
        self.db.flush()


def left(context: Context, model: Any) -> int:
    with context.database.session(write=False) as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def test_ended_session_goes_with_all_that_hung_on_it(context: Context) -> None:
    with context.database.session() as db:
        world = World(context, db)
        old, young = world.session(40), world.session(20)
        for session_id, days in ((old, 40), (young, 20)):
            world.grant(session_id, days)
            world.grant(session_id, days, code_spent_at=1, refresh_expires_at=context.now() - (days - 1) * DAY)
            world.delivery(session_id, days, "done")
    gone = purge.run(context)
    assert (gone["sessions"], gone["grants"], gone["deliveries"]) == (1, 2, 1)
    assert (left(context, SignOn), left(context, Grant), left(context, Delivery)) == (1, 2, 1)
    assert sum(purge.run(context).values()) == 0


def test_session_stays_as_long_as_something_of_it_lives(context: Context) -> None:
    with context.database.session() as db:
        world = World(context, db)
        living, waiting, unended = world.session(40), world.session(40), world.session(40, ended=False)
        world.grant(living, 40, code_spent_at=1, refresh_expires_at=context.now() + DAY)
        dead = world.grant(living, 40, code_spent_at=1, refresh_expires_at=context.now() + DAY)
        db.execute(update(Grant).where(Grant.id == dead).values(revoked_at=context.now() - 35 * DAY))
        world.delivery(waiting, 40, "waiting")
        assert unended
    gone = purge.run(context)
    assert (gone["sessions"], gone["grants"], gone["deliveries"]) == (0, 1, 0)
    assert left(context, SignOn) == 3


def test_revocation_mark_stays_until_its_token_has_expired(context: Context) -> None:
    with context.database.session() as db:
        world = World(context, db)
        grant = world.grant(world.session(40), 40)
        for after in (-10, 500):
            db.add(RevokedToken(token_id=uuid4(), grant_id=grant, expires_at=context.now() + after))
    gone = purge.run(context)
    assert (gone["revoked_tokens"], gone["grants"], gone["sessions"]) == (1, 0, 0)
    with context.database.session() as db:
        db.execute(update(RevokedToken).values(expires_at=context.now()))
    gone = purge.run(context)
    assert (gone["revoked_tokens"], gone["grants"], gone["sessions"]) == (1, 1, 1)


def test_old_secret_goes_after_its_overlap(context: Context) -> None:
    with context.database.session() as db:
        client = World(context, db).client
        registry.rotate_secret(context, db, client, overlap_seconds=10)
        db.execute(update(ClientSecret).where(ClientSecret.expires_at.is_not(None)).values(expires_at=1))
    assert purge.run(context)["client_secrets"] == 1
    assert left(context, ClientSecret) == 1


def test_many_rows_go_in_bounded_transactions(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "BATCH", 3)
    with context.database.session() as db:
        world = World(context, db)
        for i in range(10):  # some of them stay, so that a batch may remove less than it looks at
            session_id = world.session(40)
            world.grant(session_id, 40, **({"refresh_expires_at": context.now() + DAY} if i % 3 == 0 else {}))
            db.add(RevokedToken(token_id=uuid4(), grant_id=world.grant(session_id, 40), expires_at=1))
    steps = [dict(counts) for counts in purge.purge_sessions(context, context.now() - 30 * DAY)]
    assert len(steps) == 4
    assert all(counts["sessions"] <= 3 for counts in steps)
    marks = [counts["revoked_tokens"] for counts in purge.purge_marks(context, 0)]
    assert marks == [3, 3, 3, 1]
    assert purge.run(context)["sessions"] == 6
    assert left(context, SignOn) == 4


def test_purge_killed_between_two_transactions_goes_on(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "BATCH", 2)
    with context.database.session() as db:
        world = World(context, db)
        for _ in range(5):
            world.grant(world.session(40), 40)
    next(iter(purge.purge_sessions(context, context.now() - 30 * DAY)))
    assert left(context, SignOn) == 3
    assert purge.run(context)["sessions"] == 3
    assert (left(context, SignOn), left(context, Grant)) == (0, 0)


def test_one_process_purges_at_a_time(context: Context) -> None:
    assert purge.work(context, "a") != {}
    assert purge.work(context, "b") == {}
