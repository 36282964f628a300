"""Consents: each agreement is a row with the terms that were shown; withdrawal ends everything in one commit."""

import asyncio
import hashlib
import threading
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from clients import registry
from idp import consents, sessions
from idp.consents import Agreed
from idp.context import Context
from idp.database import Database
from idp.models import Account, Agreement, AuditRecord, Client, Consent, ConsentText, Grant
from idp.oidc import store
from idp.oidc.grants import in_force
from idp.sessions import Proof
from tests.support.context import context, events, new_person

__all__ = ["context"]


def agreed(scope: str = "openid profile", document: str = '{"a": 1}') -> Agreed:
    return Agreed(scope, hashlib.sha256(document.encode()).digest(), document, "zh-CN")


def new_client(context: Context, db: Session) -> Client:
    metadata = {"client_name": "公积金", "redirect_uris": ["https://rp.example.test/cb"]}
    return registry.create(context, db, metadata=metadata).client


def new_grant(context: Context, db: Session, account: Account, client_id: str) -> Grant:
    session, _ = sessions.start(context, db, account, Proof(3, ("pwd",)))
    now = context.now()
    grant = Grant(
        id=uuid4(), client_id=client_id, account_id=account.id, session_id=session.id, scope="openid offline_access",
        code_hash=uuid4().bytes, code_expires_at=now + 60, code_spent_at=now, redirect_uri="https://rp.example.test/cb",
        auth_time=now, level=3, amr="pwd", channel="web_hall", generation=1, refresh_expires_at=now + 999,
        created_at=now,
    )  # fmt: skip
    db.add(grant)
    db.flush()
    return grant


@pytest.fixture
def pair(context: Context) -> tuple[UUID, str]:
    """A person and a client, committed."""
    with context.database.session() as db:
        return new_person(context, db).id, new_client(context, db).id


def test_record_keeps_what_was_shown_once_and_replaces_the_earlier_agreement(
    context: Context, pair: tuple[UUID, str]
) -> None:
    with context.database.session() as db:
        first = consents.record(context, db, *pair, agreed())
        second = consents.record(context, db, *pair, agreed("openid phone", '{"a": 2}'))
        consents.record(context, db, new_person(context, db).id, pair[1], agreed())
    with context.database.session(write=False) as db:
        assert len(db.scalars(select(ConsentText)).all()) == 2
        kept = db.get(Agreement, first.id)
        assert kept is not None
        assert (kept.end_reason, kept.scope, kept.version) == ("replaced", "openid profile", agreed().version)
        stands = db.get(Agreement, second.id)
        assert stands is not None
        assert stands.ended_at is None
        consent = consents.find(db, *pair)
        assert consent is not None
        assert (consent.scope, consent.version) == ("openid phone", stands.version)
        assert consents.text_of(db, consent.version) == '{"a": 2}'
        assert consents.in_force(consent, context.now())
        record = db.scalars(
            select(AuditRecord).where(AuditRecord.detail.contains(str(second.id)), AuditRecord.account_id == pair[0])
        ).one()
        assert record.event == "consent:scope:granted"


def test_withdraw_ends_consent_agreement_and_grants_of_this_pair_only(context: Context, pair: tuple[UUID, str]) -> None:
    with context.database.session() as db:
        account, other = db.get(Account, pair[0]), new_person(context, db)
        assert account is not None
        elsewhere = new_client(context, db).id
        consents.record(context, db, *pair, agreed())
        consents.record(context, db, account.id, elsewhere, agreed())
        consents.record(context, db, other.id, pair[1], agreed())
        doomed = [new_grant(context, db, account, pair[1]).id for _ in range(3)]
        spared = [new_grant(context, db, account, elsewhere).id, new_grant(context, db, other, pair[1]).id]
    with context.database.session() as db:
        assert consents.withdraw(context, db, *pair)
        assert not consents.withdraw(context, db, *pair)
    with context.database.session(write=False) as db:
        ended = db.scalars(select(Grant.id).where(Grant.revoke_reason == "consent_withdrawn")).all()
        assert set(ended) == set(doomed)
        assert not set(ended) & set(spared)
        assert not consents.in_force(consents.find(db, *pair), context.now())
        assert consents.in_force(consents.find(db, pair[0], elsewhere), context.now())
        assert consents.in_force(consents.find(db, other.id, pair[1]), context.now())
        past = consents.list_agreements(db, pair[0], ended=True)
        assert [row.end_reason for row in past] == ["withdrawn"]
        assert past[0].ended_at is not None
        assert events(db).count("consent:scope:withdrawn") == 1


async def load_consent(database: Database, pair: tuple[UUID, str]) -> store.ConsentRow | None:
    return await database.load_one(store.CONSENT, account=pair[0], client=pair[1])


async def load_grant(database: Database, grant_id: UUID) -> store.GrantRow:
    row = await database.load_one(store.GRANT_BY_TOKEN, grant_id=grant_id, token=uuid4())
    assert row is not None
    return row


def test_grant_made_beside_a_withdrawal_is_dead_until_the_person_agrees_again(
    stores: dict[str, str], context: Context, pair: tuple[UUID, str]
) -> None:
    """A code can be issued on facts that were loaded before; no update of grants sees it."""
    with context.database.session() as db:
        account = db.get(Account, pair[0])
        assert account is not None
        consents.record(context, db, *pair, agreed())
        assert consents.withdraw(context, db, *pair)
        late = new_grant(context, db, account, pair[1]).id
    asyncio.run(check_late(stores["YIMEN_DATABASE_URL"], pair, late, dead=True))
    with context.database.session() as db:
        consents.record(context, db, *pair, agreed())
    asyncio.run(check_late(stores["YIMEN_DATABASE_URL"], pair, late, dead=False))


async def check_late(url: str, pair: tuple[UUID, str], grant_id: UUID, *, dead: bool) -> None:
    database = Database(url)
    try:
        row, consent = await load_grant(database, grant_id), await load_consent(database, pair)
        assert row.revoked_at is None
        assert in_force(row, None) == (not dead)
        assert consent is not None
        assert (consent.expires_at == 0) == dead
    finally:
        await database.close()


def test_withdraw_without_a_consent_ends_what_was_given_all_the_same(context: Context, pair: tuple[UUID, str]) -> None:
    with context.database.session() as db:
        account = db.get(Account, pair[0])
        assert account is not None
        assert not consents.withdraw(context, db, *pair)
        new_grant(context, db, account, pair[1])
        assert consents.withdraw(context, db, *pair)
        assert not consents.withdraw(context, db, *pair)
        assert events(db).count("consent:scope:withdrawn") == 1


def test_withdraw_by_twenty_at_once_is_recorded_once(context: Context, pair: tuple[UUID, str]) -> None:
    with context.database.session() as db:
        consents.record(context, db, *pair, agreed())
    start, won = threading.Barrier(10), []

    def rival() -> None:
        start.wait()
        for _ in range(2):
            with context.database.session() as db:
                won.append(consents.withdraw(context, db, *pair))

    threads = [threading.Thread(target=rival) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(won) == 1
    with context.database.session(write=False) as db:
        assert events(db).count("consent:scope:withdrawn") == 1


def test_version_before_reads_a_withdrawal_and_its_own_agreements_count(
    stores: dict[str, str], context: Context, pair: tuple[UUID, str]
) -> None:
    """While it serves beside this one it knows `scope`, `granted_at` and `expires_at` only."""
    with context.database.session() as db:
        consents.record(context, db, *pair, agreed())
        consents.withdraw(context, db, *pair)
        account = db.get(Account, pair[0])
        assert account is not None
        assert db.scalars(select(Consent.expires_at)).one() <= context.now()
    later = context.now() + 1
    with context.database.session() as db:
        values = {"scope": "openid", "granted_at": later, "expires_at": later + 999}
        db.execute(update(Consent).values(**values))
        grant_id = new_grant(context, db, account, pair[1]).id
    asyncio.run(check_late(stores["YIMEN_DATABASE_URL"], pair, grant_id, dead=False))
    with context.database.session() as db:
        assert consents.in_force(consents.find(db, *pair), context.now())
        assert consents.withdraw(context, db, *pair), "though the clock of the other worker was a second ahead"
    with context.database.session() as db:
        assert not consents.in_force(consents.find(db, *pair), context.now())
