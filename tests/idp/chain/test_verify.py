"""Every way to bend the audit is named with the first record that it touched (P-12, case Q11)."""

import dataclasses
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import update

from idp.chain import anchors, sealer
from idp.chain.links import FIELDS
from idp.chain.verify import Break, displaced, verify
from idp.context import Context
from idp.encryption import Vault
from idp.errors import InvalidInput
from idp.models import AuditAnchor, AuditHead, AuditRecord, SigningKey
from tests.support import tamper
from tests.support.tamper import RECORDS, run, sealed_chain


def verdict(context: Context, *files: Path) -> tuple[dict[str, int], int | None]:
    """What verification counts, and the number of the first record it names."""
    report = verify(context, files=files)
    return report.counts, report.faults[0].sequence if report.faults else None


def test_untouched_chain_is_intact(context: Context) -> None:
    sealed_chain(context)
    report = verify(context, files=[context.config.audit_anchor_file])
    assert report.intact
    assert (report.records, report.first, report.last, report.anchors) == (RECORDS, 1, RECORDS, 2)


def test_empty_audit_is_intact(context: Context) -> None:
    report = verify(context)
    assert (report.intact, report.records, report.last) == (True, 0, None)


def test_records_that_are_not_sealed_are_counted(context: Context) -> None:
    sealed_chain(context)
    tamper.add_records(context, 3)
    assert (verify(context).intact, verify(context).unsealed) == (True, 3)


TAMPERING: list[tuple[Callable[[Context], None], dict[str, int], int]] = [
    (tamper.change, {"changed": 1}, 7),
    (tamper.remove, {"removed": 1}, 7),
    (tamper.remove_and_renumber, {"removed": 1}, 7),
    (tamper.insert, {"inserted": 1}, 7),
    (tamper.swap, {"reordered": 2}, 7),
    (tamper.cut_off, {"cut_off": 6}, 15),
    (lambda context: tamper.swap(context, 7, 8), {"reordered": 2}, 7),
    (lambda context: tamper.swap(context, 1, RECORDS), {"reordered": 2}, 1),
    (lambda context: tamper.change(context, 1), {"changed": 1}, 1),
    (lambda context: tamper.change(context, RECORDS), {"changed": 1}, RECORDS),
    (lambda context: tamper.remove(context, 1), {"removed": 1}, 1),
    (lambda context: tamper.remove(context, RECORDS), {"cut_off": 1}, RECORDS),
    (lambda context: tamper.insert(context, RECORDS + 1), {"inserted": 1}, RECORDS + 1),
    (lambda context: tamper.move(context, 5, 9), {"reordered": 5}, 5),
    (lambda context: tamper.cut_off(context, 1), {"cut_off": RECORDS}, 1),
]
NAMES = (
    "changed removed removed-renumbered inserted swapped cut-off swapped-neighbours swapped-ends changed-first "
    "changed-last removed-first removed-last inserted-at-the-end moved emptied"
).split()


@pytest.mark.parametrize(("bend", "counts", "first"), TAMPERING, ids=NAMES)
def test_tampering_is_named_and_counted(
    context: Context, bend: Callable[[Context], None], counts: dict[str, int], first: int
) -> None:
    sealed_chain(context)
    bend(context)
    assert verdict(context) == (counts, first)


def test_no_column_of_a_record_can_change_unseen(context: Context) -> None:
    sealed_chain(context)
    values = dict.fromkeys(FIELDS, "x") | {"id": uuid4(), "at": 1, "account_id": uuid4()}
    with context.database.session() as session:
        for number, name in enumerate(FIELDS, start=3):
            session.execute(update(AuditRecord).where(AuditRecord.sequence == number).values({name: values[name]}))
    assert verdict(context) == ({"changed": len(FIELDS)}, 3)


def test_forged_or_emptied_hashes_are_changes(context: Context) -> None:
    sealed_chain(context)
    with context.database.session() as session:
        for number, column, value in ((4, "hash", bytes(range(32))), (8, "hash", None), (12, "previous_hash", None)):
            session.execute(update(AuditRecord).where(AuditRecord.sequence == number).values({column: value}))
        session.execute(update(AuditRecord).where(AuditRecord.sequence == 16).values(key_version=None))
    assert verdict(context) == ({"changed": 4}, 4)


def test_several_tamperings_are_all_counted(context: Context) -> None:
    sealed_chain(context)
    tamper.change(context, 3)
    tamper.change(context, 4)
    tamper.remove(context, 10)
    tamper.cut_off(context, 18)
    counts, first = verdict(context)
    assert (counts, first) == ({"changed": 2, "removed": 1, "cut_off": 3}, 3)


def test_end_cut_off_together_with_its_head_is_seen_by_the_anchors(context: Context, tmp_path: Path) -> None:
    sealed_chain(context)
    old_head = tamper.read_head(context)
    tamper.add_records(context, 10)
    sealer.seal_all(context)
    anchors.make_if_due(context, now_at_latest=True)
    anchors.file_pending(context)
    tamper.cut_off(context, RECORDS + 1)
    tamper.write_head(context, old_head)
    assert verdict(context) == ({"cut_off": 10}, RECORDS + 1), "an anchor in the database"
    run(context, "delete from audit_anchors where sequence > :n", n=RECORDS)
    assert verify(context).intact, "a database that was set back as a whole looks whole from inside"
    assert verdict(context, context.config.audit_anchor_file) == ({"cut_off": 10}, RECORDS + 1)


def test_old_backup_that_went_on_is_seen_by_a_file_of_anchors(context: Context) -> None:
    sealed_chain(context)
    old_head = tamper.read_head(context)
    for _ in range(2):  # ten records and an anchor; then the backup comes back, and other ten take their places
        tamper.add_records(context, 10)
        sealer.seal_all(context)
        anchors.make_if_due(context, now_at_latest=True)
        anchors.file_pending(context)
        if old_head is not None:
            tamper.cut_off(context, RECORDS + 1)
            tamper.write_head(context, old_head)
            run(context, "delete from audit_anchors where sequence > :n", n=RECORDS)
            old_head = None
    assert verify(context).intact
    counts, first = verdict(context, context.config.audit_anchor_file)
    assert (counts["anchor"], first) == (1, RECORDS + 10), "two anchors of one number"
    lines = context.config.audit_anchor_file.read_text().splitlines()
    context.config.audit_anchor_file.write_text("\n".join(lines[:2]) + "\n")
    run(context, "delete from audit_anchors where sequence > :n", n=RECORDS)
    assert verdict(context, context.config.audit_anchor_file) == ({"changed": 10}, RECORDS + 1)


def test_head_that_was_set_back_or_removed_is_named(context: Context) -> None:
    sealed_chain(context)
    with context.database.session() as session:
        session.execute(update(AuditHead).values(sequence=15, hash=tamper.columns(session, 15)["hash"]))
    assert verdict(context)[0] == {"head": 1}
    run(context, "delete from audit_head")
    assert verdict(context)[0] == {"head": 1}


def test_changed_anchor_is_named_in_the_database_and_in_the_file(context: Context) -> None:
    sealed_chain(context)
    path = context.config.audit_anchor_file
    line = path.read_text()
    told = json.loads(line)
    head, payload, signature = told["statement"].split(".")
    forged = f"{head}.{payload}.{signature[:-4]}AAAA"
    for spoiled in (line.replace(told["statement"], forged), "{}\n", "not json\n"):
        path.write_text(spoiled)
        assert verdict(context, path)[0] == {"anchor": 1}
    with context.database.session() as session:
        session.execute(update(AuditAnchor).values(sequence=3))
    assert verdict(context)[0] == {"anchor": 1}


def test_file_that_is_no_text_is_refused(context: Context, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput):
        verify(context, files=[tmp_path / "x"])


def test_anchor_outlives_its_signing_key(context: Context) -> None:
    sealed_chain(context)
    with context.database.session() as session:
        session.execute(update(SigningKey).values(state="gone"))
    assert verify(context).unsigned_anchors == 0, "the public part of a key that is gone is still there"
    run(context, "delete from signing_keys")
    report = verify(context)
    assert (report.intact, report.unsigned_anchors) == (True, 1)


def test_chain_goes_on_under_a_new_master_key_and_old_records_stay_provable(context: Context) -> None:
    sealed_chain(context)
    masters = dict(context.vault._masters)
    rotated = dataclasses.replace(context, vault=Vault(masters | {2: bytes(range(32))}, root=context.vault._root))
    sealed_chain(rotated)
    assert verify(rotated).intact
    assert verify(rotated).records == 2 * RECORDS
    with context.database.session() as session:
        assert {tamper.columns(session, n)["key_version"] for n in (1, 2 * RECORDS)} == {1}
    tamper.change(rotated, 3)
    assert verdict(rotated) == ({"changed": 1}, 3)


def test_unknown_root_key_is_told_from_tampering(context: Context) -> None:
    tamper.add_records(context, 5)
    sealer.seal_all(context)
    run(context, "update audit set key_version = 9")
    counts = verify(context).counts
    assert counts["no_key"] == 5
    assert "changed" not in counts


def test_holder_of_the_database_alone_cannot_recompute_the_chain(context: Context) -> None:
    """The whole chain made anew with every public thing, under another master key: not one record is believed."""
    sealed_chain(context)
    run(context, "update audit set sequence = null, hash = null, previous_hash = null")
    for table in ("audit_head", "audit_anchors"):
        run(context, f"delete from {table}")
    sealer.seal_all(dataclasses.replace(context, vault=Vault({1: bytes(32)})))
    counts = verify(context).counts
    assert (counts["changed"], counts["head"]) == (RECORDS, 1)


def test_record_that_the_product_never_wrote_is_named_though_the_sealer_took_it(context: Context) -> None:
    """Rows put into the table by hand: without a mark, with one of another record, with one that is made up."""
    sealed_chain(context)
    with context.database.session() as session:
        copied = tamper.columns(session, 5)
        for found in (None, copied["mark"], (1).to_bytes(2, "big") + bytes(32)):
            new = copied | {"id": uuid4(), "mark": found, "sequence": None, "hash": None, "previous_hash": None}
            session.execute(AuditRecord.__table__.insert().values(**new))
    assert sealer.seal_all(context) == 3
    assert verdict(context) == ({"inserted": 3}, RECORDS + 1)


def test_record_that_was_changed_before_it_was_sealed_is_named(context: Context) -> None:
    tamper.add_records(context, 5)
    run(context, "update audit set result = 'refused' where event = 'test:record:3'")
    sealer.seal_all(context)
    assert verdict(context)[0] == {"inserted": 1}


def test_mark_under_a_key_that_never_was_does_not_pass(context: Context) -> None:
    tamper.add_records(context, 5)
    with context.database.session() as session:
        session.execute(
            update(AuditRecord).where(AuditRecord.event == "test:record:3").values(mark=b"\xff\xff" + bytes(32))
        )
    sealer.seal_all(context)
    assert verdict(context)[0] == {"no_key": 1}


def test_records_from_before_there_were_marks_are_taken_and_later_ones_are_not(context: Context) -> None:
    tamper.add_records(context, 5, at=context.now() - 1_000)
    run(context, "update audit set mark = null")
    tamper.add_records(context, 5)
    sealed_chain(context)
    assert verify(context).intact
    tamper.add_records(context, 2, at=context.now() + sealer.UPGRADE_SECONDS + 60)
    run(context, "update audit set mark = null where sequence is null")
    sealer.seal_all(context)
    assert verdict(context)[0] == {"inserted": 2}
    run(context, "update audit_head set unmarked_until = 9999999999")
    assert verdict(context)[0]["head"] == 1, "nobody moves that time"


def test_displaced_runs_are_found_by_what_they_follow() -> None:
    a, b, c, d, e, f = (name.encode() for name in "abcdef")  # stored: a d e b c f
    breaks = [Break(2, c, a), Break(4, a, e), Break(6, e, c)]
    assert list(displaced(breaks, 1, 6)) == [(4, 2), (2, 2)]
    assert (d, f, b) == (b"d", b"f", b"b")


@pytest.mark.long
def test_hundred_thousand_records_are_verified_in_constant_memory(context: Context) -> None:
    measured = []
    for number in (20_000, 80_000):
        sealed_chain(context, number)
        tracemalloc.start()
        assert verify(context).intact
        measured.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert measured[1] < measured[0] * 1.5 + 1_000_000
    for number in (99_999, 50_000):
        tamper.change(context, number)
    assert verdict(context) == ({"changed": 2}, 50_000)
