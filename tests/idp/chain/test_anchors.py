"""Anchors reach the file and the outside store, once each as far as anybody can tell, whatever fails meanwhile."""

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from idp.chain import anchors, sealer
from idp.chain.verify import verify
from idp.context import Context
from idp.errors import Unavailable
from idp.models import AuditAnchor
from tests.support.anchor_store import AnchorStore
from tests.support.tamper import add_records, run


@pytest.fixture
def store() -> Iterator[AnchorStore]:
    with AnchorStore() as found:
        yield found


def with_store(context: Context, store: AnchorStore) -> Context:
    return dataclasses.replace(context, config=dataclasses.replace(context.config, audit_store_url=store.url))


def anchor(context: Context, records: int = 5) -> None:
    add_records(context, records)
    sealer.seal_all(context)
    assert anchors.make_if_due(context, now_at_latest=True)


def rows(context: Context) -> list[AuditAnchor]:
    with context.database.session(write=False) as session:
        return list(session.scalars(select(AuditAnchor).order_by(AuditAnchor.sequence)))


def carry(context: Context) -> int:
    """One turn of the loop towards the store, on a loop of its own."""

    async def turn() -> int:
        try:
            return await anchors.store_pending(context)
        finally:
            await context.outgoing.close()

    return asyncio.run(turn())


def test_anchor_is_a_statement_that_outsiders_can_check_with_the_public_keys(context: Context) -> None:
    anchor(context)
    claims = context.keys.verify(rows(context)[0].statement, typ=anchors.TYPE)
    assert claims is not None
    assert (claims["iss"], claims["kind"], claims["sequence"]) == (context.config.issuer, "anchor", 5)
    assert claims["hash"] == rows(context)[0].hash.hex()
    assert context.keys.verify(rows(context)[0].statement, typ="JWT") is None, "never a token for anything else"


def test_anchors_are_appended_to_the_file_once(context: Context) -> None:
    for _ in range(2):
        anchor(context)
        assert anchors.file_pending(context) == 1
        assert anchors.file_pending(context) == 0
    lines = [json.loads(line) for line in context.config.audit_anchor_file.read_text().splitlines()]
    assert [line["sequence"] for line in lines] == [5, 10]
    assert context.config.audit_anchor_file.stat().st_mode & 0o077 == 0


def test_file_written_and_not_noted_is_written_again_and_stays_good(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchor(context)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(anchors, "_mark", die)
    with pytest.raises(KeyboardInterrupt):
        anchors.file_pending(context)
    monkeypatch.undo()
    assert anchors.file_pending(context) == 1
    path = context.config.audit_anchor_file
    assert len(path.read_text().splitlines()) == 2
    assert verify(context, files=[path]).intact


def test_line_torn_by_a_crash_spoils_no_other(context: Context) -> None:
    path = context.config.audit_anchor_file
    path.write_text('{"kind": "anc')
    anchor(context)
    anchors.file_pending(context)
    first, second = path.read_text().splitlines()
    assert (first, json.loads(second)["sequence"]) == ('{"kind": "anc', 5)


def test_file_that_cannot_be_written_is_told_and_tried_again(context: Context, tmp_path: Path) -> None:
    blocked = dataclasses.replace(context.config, audit_anchor_file=tmp_path / "file" / "anchors")
    (tmp_path / "file").write_text("")
    anchor(context)
    with pytest.raises(Unavailable):
        anchors.file_pending(dataclasses.replace(context, config=blocked))
    assert rows(context)[0].filed_at is None
    assert anchors.file_pending(context) == 1


def test_outside_store_gets_each_anchor_and_its_receipt_is_kept(context: Context, store: AnchorStore) -> None:
    anchor(context)
    anchor(context)
    outside = with_store(context, store)
    assert (carry(outside), carry(outside), store.asked) == (2, 0, 2)
    assert [json.loads(row.receipt or "")["receipt"] for row in rows(context)] == ["kept-0", "kept-1"]
    assert all(row.stored_at for row in rows(context))


def test_outside_store_that_fails_is_asked_again_and_overtaken_by_no_younger_anchor(
    context: Context, store: AnchorStore
) -> None:
    anchor(context)
    anchor(context)
    outside, store.failing = with_store(context, store), True
    assert (carry(outside), store.asked) == (0, 1)
    assert [row.last_result for row in rows(context)] == ["status 503", None]
    store.failing = False
    run(context, "update audit_anchors set next_at = 0")
    assert carry(outside) == 2
    assert [row.attempts for row in rows(context)] == [2, 1]


def test_anchor_taken_and_not_noted_is_offered_again(context: Context, store: AnchorStore) -> None:
    anchor(context)
    outside = with_store(context, store)
    assert carry(outside) == 1
    run(context, "update audit_anchors set stored_at = null, next_at = 0")
    assert carry(outside) == 1
    assert (len(store.lines), store.asked) == (1, 2)


def test_what_the_store_hands_out_proves_the_chain(context: Context, store: AnchorStore, tmp_path: Path) -> None:
    anchor(context)
    outside = with_store(context, store)
    carry(outside)

    async def fetch() -> bytes:
        try:
            return (await context.outgoing.request("GET", store.url)).body
        finally:
            await context.outgoing.close()

    (tmp_path / "outside.jsonl").write_bytes(asyncio.run(fetch()))
    assert verify(context, files=[tmp_path / "outside.jsonl"]).intact
    run(context, "delete from audit where sequence = 5")
    run(context, "delete from audit_head")
    run(context, "delete from audit_anchors")
    assert verify(context, files=[tmp_path / "outside.jsonl"]).counts == {"cut_off": 1, "head": 1}


def test_store_that_conflicts_is_an_alarm_and_not_a_success(context: Context, store: AnchorStore) -> None:
    anchor(context)
    store.keep(json.dumps({"kind": "anchor", "sequence": 5}).encode())
    assert carry(with_store(context, store)) == 0
    assert (rows(context)[0].stored_at, rows(context)[0].last_result) == (None, "status 409")


def test_store_inside_the_network_needs_its_place_on_the_allow_list(context: Context, store: AnchorStore) -> None:
    from idp.outgoing import Outgoing

    anchor(context)
    strict = dataclasses.replace(with_store(context, store), outgoing=Outgoing((), None))
    assert carry(strict) == 0
    assert (rows(context)[0].last_result or "").startswith("refused")
