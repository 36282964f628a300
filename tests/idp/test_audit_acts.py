"""Each security act of people, operators and clients leaves one record with all that GB/T 22239 asks (case Q10).

What happens at the protocol endpoints and on pages is in tests/flows/test_audit.py.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from clients import registry
from idp import accounts, consents, keys, mandates, sessions
from idp.authn import password
from idp.context import Context
from idp.models import Account, AuditRecord, Organization
from idp.sessions import Proof
from tests.support.context import citizen_number, credit_code, new_organization, new_person

SECRET = "correct horse 电池 staple"
METADATA = {
    "client_name": "公积金",
    "redirect_uris": ["https://rp.example.test/cb"],
    "grant_types": ["authorization_code"],
    "scope": "openid identity_number",
}


class Scene:
    """What the acts are done to."""

    def __init__(self, context: Context, db: Session) -> None:
        self.context, self.db = context, db
        self.number, self.code = citizen_number(), credit_code()
        self.person: Account = new_person(context, db, number=self.number)
        self.organization: Organization = new_organization(context, db, uscc=self.code)
        self.client = registry.create(context, db, metadata=METADATA, profile="baseline").client.id

    def start(self) -> Any:
        return sessions.start(self.context, self.db, self.person, Proof(3, ("pwd",)))[0].id


AGREED = consents.Agreed("openid", hashlib.sha256(b"{}").digest(), "{}", "zh-CN")
Act = Callable[[Context, Session, Scene], object]
ACTS: list[tuple[str, Act]] = [
    ("account:person:created", lambda c, db, _: new_person(c, db)),
    ("account:person:locked", lambda c, db, s: accounts.lock(c, db, s.person, f"lost, number {s.number}")),
    ("account:password:set", lambda c, db, s: password.set_password(c, db, s.person, SECRET)),
    ("organization:registration:created", lambda c, db, _: new_organization(c, db)),
    (
        "mandate:holder:granted",
        lambda c, db, s: mandates.grant(
            c, db, organization=s.organization, account=s.person, role="legal_representative", source="test"
        ),
    ),
    ("client:registration:created", lambda c, db, _: registry.create(c, db, metadata=METADATA, profile="baseline")),
    (
        "client:registration:changed",
        lambda c, db, s: registry.change(c, db, s.client, metadata=METADATA | {"client_name": "社保"}),
    ),
    ("client:secret:rotated", lambda c, db, s: registry.rotate_secret(c, db, s.client)),
    ("client:scope:granted", lambda c, db, s: registry.grant_scope(c, db, s.client, "identity_number", "法第一条")),
    ("client:registration:suspended", lambda c, db, s: registry.suspend(c, db, s.client, f"number {s.number}")),
    ("session:login:started", lambda c, db, s: s.start()),
    ("consent:scope:granted", lambda c, db, s: consents.record(c, db, s.person.id, s.client, AGREED)),
]
AFTER: list[tuple[str, Act, Act]] = [
    (
        "account:person:unlocked",
        lambda c, db, s: accounts.lock(c, db, s.person, ""),
        lambda c, db, s: accounts.unlock(c, db, s.person, ""),
    ),
    (
        "client:registration:resumed",
        lambda c, db, s: registry.suspend(c, db, s.client),
        lambda c, db, s: registry.resume(c, db, s.client),
    ),
    (
        "session:logout:ended",
        lambda c, db, s: s.start(),
        lambda c, db, s: sessions.end_all(c, db, s.person.id, reason="logout"),
    ),
]


@pytest.fixture
def scene(context: Context) -> Iterator[Scene]:
    asked = context.with_request(
        request_id="req-1", channel="counter", address="192.0.2.7", user_agent="x", locale="zh-CN"
    )
    operator = dataclasses.replace(asked, actor="operator:7")
    with operator.database.session() as db:
        keys.ensure(db, context.vault, context.now())
        yield Scene(operator, db)


def records_of(db: Session, act: Callable[[], object]) -> list[AuditRecord]:
    """The records that an act leaves."""
    db.flush()
    before = set(db.scalars(select(AuditRecord.id)))
    act()
    db.flush()
    return [found for found in db.scalars(select(AuditRecord)) if found.id not in before]


def test_each_act_leaves_one_whole_record_that_tells_no_secret(scene: Scene) -> None:
    context, db = scene.context, scene.db
    steps: list[tuple[str, Act | None, Act]] = [
        *((event, None, act) for event, act in ACTS if not event.endswith(("locked", "suspended"))),
        *AFTER,
        *((event, None, act) for event, act in ACTS if event.endswith(("locked", "suspended"))),
    ]
    for event, first, act in steps:
        if first is not None:
            first(context, db, scene)

        def done(act: Act = act) -> object:
            return act(context, db, scene)

        found = [record for record in records_of(db, done) if record.event == event]
        assert len(found) == 1, event
        record = found[0]
        assert abs(record.at - context.now()) < 60
        told = (record.result, record.actor, record.channel, record.address, record.request_id)
        assert told == ("done", "operator:7", "counter", "192.0.2.7", "req-1"), event
        subject = record.account_id or record.client_id or json.loads(record.detail or "{}").get("organization")
        assert subject, event
        for secret in (scene.number, scene.code, "张三例", SECRET):
            assert secret not in f"{record.detail}", event


def test_record_goes_with_the_act_that_is_rolled_back(context: Context) -> None:
    def refused() -> None:
        with context.database.session() as db:
            new_person(context, db)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        refused()
    with context.database.session(write=False) as db:
        assert db.scalars(select(AuditRecord)).all() == []
