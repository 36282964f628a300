"""Retention: only a sealed, anchored, verified and old part of the chain goes, and the rest stays provable (U11)."""

import dataclasses
import hashlib

import pytest
from sqlalchemy import func, select, update

from idp.chain import anchors, retention, sealer
from idp.chain.links import GENESIS, Place, mac_of
from idp.chain.verify import verify
from idp.context import Context
from idp.models import AuditAnchor, AuditRecord
from tests.support import tamper
from tests.support.tamper import add_records, run

DAY = 86_400


def age(context: Context, days: int) -> None:
    """Let time pass: what is there now was anchored `days` ago. Like the product, with the master key."""
    with context.database.session() as session:
        for row in session.scalars(select(AuditAnchor)):
            row.at -= days * DAY
            row.mac = mac_of(context.vault, row.key_version, row.kind, Place(row.sequence, row.hash), row.at)
            claims = {"kind": row.kind, "sequence": row.sequence, "hash": row.hash.hex(), "iat": row.at}
            claims |= {"key_version": row.key_version, "mac": row.mac.hex()}
            row.statement = context.keys.sign(claims, typ=anchors.TYPE, algorithm=anchors.ALGORITHM)


def chain(context: Context, records: int) -> None:
    tamper.sealed_chain(context, records)


def numbers(context: Context) -> list[int]:
    with context.database.session(write=False) as session:
        asked = select(AuditRecord.sequence).where(AuditRecord.sequence.is_not(None)).order_by(AuditRecord.sequence)
        return [number for number in session.scalars(asked) if number is not None]


@pytest.fixture
def old(context: Context) -> Context:
    """Ten records that are too old, and ten that are not."""
    chain(context, 10)
    age(context, context.config.audit_keep_days + 1)
    chain(context, 10)
    return context


def test_old_records_go_and_the_rest_is_proven(old: Context) -> None:
    assert retention.purge(old) == 10
    assert numbers(old) == list(range(11, 21))
    sealer.seal_all(old)
    report = verify(old)
    assert (report.intact, report.records, report.first, report.purged) == (True, 11, 11, 10)
    with old.database.session(write=False) as session:
        last = session.scalars(select(AuditRecord).order_by(AuditRecord.sequence.desc()).limit(1)).one()
    assert (last.event, last.detail) == ("audit:records:purged", '{"through": 10}')
    assert retention.purge(old) == 0


def test_file_of_anchors_from_before_the_purge_still_proves_the_rest(old: Context) -> None:
    path = old.config.audit_anchor_file
    retention.purge(old)
    anchors.file_pending(old)
    assert verify(old, files=[path]).intact
    tamper.change(old, 14)
    assert verify(old, files=[path]).faults[0].sequence == 14


@pytest.mark.parametrize("why", ["young", "not filed", "not stored", "forged date", "not sealed"])
def test_nothing_goes_that_may_not(context: Context, why: str) -> None:
    if why == "not sealed":
        add_records(context, 10, at=context.now() - 2_000 * DAY)
        assert retention.purge(context) == 0
        return
    chain(context, 10)
    if why != "young":
        age(context, context.config.audit_keep_days + 1)
    if why == "not filed":
        run(context, "update audit_anchors set filed_at = null")
    if why == "forged date":
        run(context, "update audit_anchors set at = at - 100")
    if why == "not stored":
        config = dataclasses.replace(context.config, audit_store_url="https://store.example.test/")
        context = dataclasses.replace(context, config=config)
    assert retention.purge(context) == 0
    assert numbers(context) == list(range(1, 11))


def test_part_that_was_tampered_with_is_evidence_and_stays(old: Context) -> None:
    tamper.change(old, 4)
    with pytest.raises(retention.ChainBroken, match="record 4 was changed"):
        retention.purge(old)
    assert len(numbers(old)) == 20


def test_purge_goes_on_where_it_was_killed(old: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 4)
    original, done = retention._remove_batch, []

    def die(*arguments: object) -> int:
        if done:
            raise KeyboardInterrupt
        done.append(original(*arguments))  # type: ignore[arg-type]
        return done[0]

    monkeypatch.setattr(retention, "_remove_batch", die)
    with pytest.raises(KeyboardInterrupt):
        retention.purge(old)
    assert numbers(old) == list(range(5, 21))
    assert verify(old).intact, "also half-way"
    monkeypatch.setattr(retention, "_remove_batch", original)
    assert retention.purge(old) == 6
    assert numbers(old) == list(range(11, 21))
    assert verify(old).intact


def test_second_purge_replaces_the_first_checkpoint(old: Context) -> None:
    retention.purge(old)
    age(old, old.config.audit_keep_days + 1)
    chain(old, 3)
    assert retention.purge(old, pause=2_000 * DAY) == 0, "not again so soon"
    assert retention.purge(old) == 10
    anchors.file_pending(old)
    sealer.seal_all(old)
    assert verify(old, files=[old.config.audit_anchor_file]).intact
    with old.database.session(write=False) as session:
        asked = select(func.count()).where(AuditAnchor.kind == "checkpoint").select_from(AuditAnchor)
        assert session.scalar(asked) == 1


def test_checkpoint_cannot_be_made_without_the_master_key(old: Context) -> None:
    """Somebody removes the first five records and says that a purge did."""
    with old.database.session() as session:
        hash_of_5 = tamper.columns(session, 5)["hash"]
    run(old, "delete from audit where sequence <= 5")
    forged = {"kind": "checkpoint", "sequence": 5, "hash": hash_of_5, "at": old.now(), "key_version": 1}
    more = {"mac": hashlib.sha256(GENESIS).digest(), "statement": "", "attempts": 0, "next_at": 0}
    with old.database.session() as session:
        session.execute(AuditAnchor.__table__.insert().values(**forged, **more))
        session.execute(update(AuditAnchor).where(AuditAnchor.kind == "checkpoint").values(statement=_some(old)))
    assert verify(old).counts == {"removed": 5, "anchor": 1}
    with pytest.raises(retention.ChainBroken):
        retention.purge(old)


def _some(context: Context) -> str:
    with context.database.session(write=False) as session:
        return session.scalars(select(AuditAnchor.statement).where(AuditAnchor.kind == "anchor").limit(1)).one()


def test_records_removed_beyond_the_checkpoint_are_named(old: Context) -> None:
    retention.purge(old)
    run(old, "delete from audit where sequence <= 12")
    assert verify(old).faults[0][:3] == (11, "removed", 2)
