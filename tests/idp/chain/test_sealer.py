"""The sealer: every committed record once, whoever else seals, commits late, or dies between two steps."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text

from idp import audit
from idp.chain import anchors, sealer
from idp.chain.verify import verify
from idp.context import Context
from idp.errors import Conflict
from idp.models import AuditAnchor, AuditRecord
from tests.support.context import opened
from tests.support.tamper import add_records, run

ROOT = Path(__file__).parents[3]


def counts(context: Context) -> tuple[int, int]:
    """Sealed records, and those that wait."""
    with context.database.session(write=False) as session:
        asked = select(func.count(AuditRecord.sequence), func.count()).select_from(AuditRecord)
        sealed, total = session.execute(asked).one()
    return sealed, total - sealed


def assert_whole(context: Context, records: int) -> None:
    report = verify(context)
    assert report.intact, report
    assert (report.records, report.first, report.last, report.unsealed) == (records, 1, records, 0)


def test_records_are_sealed_in_batches_with_consecutive_numbers(context: Context) -> None:
    add_records(context, 25)
    assert [sealer.seal(context, limit=10) for _ in range(4)] == [10, 10, 5, 0]
    assert_whole(context, 25)


def test_record_of_a_real_act_is_sealed_as_it_was_written(context: Context) -> None:
    detail = {"姓": "测试 \u2028 \U0001f600", "n": 1}
    with context.database.session() as session:
        audit.record(context, session, "test:record:made", account=uuid4(), client="公积金", detail=detail)
    assert sealer.seal_all(context) == 1
    assert_whole(context, 1)


def test_record_that_commits_late_is_sealed_late(context: Context) -> None:
    """An older record that becomes visible after younger ones were sealed; its writer was open all the while."""
    now = context.now()
    if context.config.embedded:  # one writer at a time: nobody seals while it is open
        add_records(context, 5)
        assert sealer.seal_all(context) == 5
        add_records(context, 2, at=now - 60)
    else:
        with context.database.session() as slow:
            for _ in range(2):
                audit.record(context, slow, "test:record:late")
            slow.flush()
            add_records(context, 5)
            assert sealer.seal_all(context) == 5
            assert sealer.seal_all(context) == 0
    assert sealer.seal_all(context) == 2
    assert_whole(context, 7)


def test_record_that_is_rolled_back_leaves_no_gap(context: Context) -> None:
    def refused() -> None:
        with context.database.session() as session:
            audit.record(context, session, "test:record:made")
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        refused()
    add_records(context, 3)
    assert sealer.seal_all(context) == 3
    assert_whole(context, 3)


def test_two_sealers_and_many_writers_seal_each_record_once(context: Context, stores: dict[str, str]) -> None:
    """Without any lease: the head of the chain alone tells rivals apart."""
    writers, each = 3, 60
    stop = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        for _ in range(each):
            with context.database.session() as session:
                audit.record(context, session, "test:record:made")

    def seal(own: Context) -> None:
        try:
            while not stop.is_set():
                sealer.seal(own, limit=7)
        except BaseException as error:
            failures.append(error)

    with opened(stores) as rival:
        sealers = [threading.Thread(target=seal, args=(own,)) for own in (context, rival)]
        threads = [threading.Thread(target=write) for _ in range(writers)]
        for thread in (*sealers, *threads):
            thread.start()
        for thread in threads:
            thread.join(60)
        stop.set()
        for thread in sealers:
            thread.join(60)
    assert failures == []
    sealer.seal_all(context)
    assert_whole(context, writers * each)


def test_rival_that_read_the_same_records_seals_none(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    add_records(context, 5)
    links = sealer._links

    def between(*arguments: Any) -> Any:
        monkeypatch.undo()
        assert sealer.seal(context) == 5
        return links(*arguments)

    monkeypatch.setattr(sealer, "_links", between)
    assert sealer.seal(context) == 0
    assert_whole(context, 5)


def test_one_process_has_the_lease_and_another_takes_over(context: Context) -> None:
    add_records(context, 5)
    assert sealer.work(context, "first") == 5
    add_records(context, 5)
    assert sealer.work(context, "second") == 0
    assert counts(context) == (5, 5)
    run(context, "update leases set expires_at = 0")
    assert sealer.work(context, "second") == 5
    add_records(context, 1)
    assert sealer.work(context, "first") == 0


def test_record_that_changes_or_vanishes_while_it_is_sealed_stops_the_batch(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_records(context, 5)
    links = sealer._links

    def between(*arguments: Any) -> Any:
        run(context, "delete from audit where event = 'test:record:3'")
        return links(*arguments)

    monkeypatch.setattr(sealer, "_links", between)
    with pytest.raises(Conflict):
        sealer.seal(context)
    assert counts(context) == (0, 4), "all of a batch or nothing"
    monkeypatch.undo()
    assert sealer.seal_all(context) == 4
    assert_whole(context, 4)


def test_record_put_behind_the_head_stops_the_sealer_with_a_plain_word(context: Context) -> None:
    add_records(context, 5)
    sealer.seal(context, limit=4)
    run(context, "update audit set sequence = 5 where sequence is null")
    add_records(context, 1)
    with pytest.raises(Conflict, match="yimen audit verify"):
        sealer.seal(context)
    assert verify(context).counts == {"inserted": 1}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", ["_unsealed", "_links", "_move_head", "_write"])
def test_sealer_killed_at_any_step_leaves_all_or_nothing(
    context: Context, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_records(context, 12)
    assert sealer.seal(context, limit=5) == 5
    original = getattr(sealer, step)

    def die(*arguments: Any) -> Any:
        original(*arguments)
        raise Killed

    monkeypatch.setattr(sealer, step, die)
    with pytest.raises(Killed):
        sealer.seal(context)
    monkeypatch.undo()
    assert counts(context) == (5, 7)
    assert sealer.seal_all(context) == 7
    assert_whole(context, 12)


def test_process_killed_while_it_seals_loses_and_repeats_nothing(context: Context, stores: dict[str, str]) -> None:
    """SIGKILL in the middle of many small batches; the next one goes on."""
    add_records(context, 2_000)
    program = (
        "import os; from idp.chain import sealer; from tests.support.context import opened\n"
        "with opened(dict(os.environ)) as context:\n"
        "    print('ready', flush=True)\n"
        "    while sealer.seal(context, limit=10): pass\n"
    )
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, env={"PATH": "/usr/bin:/bin", **stores}, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        before, deadline = counts(context)[0], time.monotonic() + 60
        while counts(context)[0] < before + 50 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        process.stdout.close()
        assert counts(context)[0] > before
    sealer.seal_all(context)
    assert_whole(context, 2_000)


def test_anchor_is_made_by_time_and_by_number(context: Context) -> None:
    def anchored() -> list[int]:
        with context.database.session(write=False) as session:
            return list(session.scalars(select(AuditAnchor.sequence).order_by(AuditAnchor.sequence)))

    add_records(context, 3)
    sealer.work(context, "me")
    assert anchored() == [3], "the first one at once"
    add_records(context, 3)
    sealer.work(context, "me")
    assert anchored() == [3]
    run(context, "update audit_anchors set at = at - 3600")
    sealer.work(context, "me")
    assert anchored() == [3, 6]
    add_records(context, context.config.audit_anchor_records)
    while sealer.work(context, "me"):
        pass
    assert len(anchored()) == 3
    assert anchors.make_if_due(context) is None
    with context.database.session(write=False) as session:
        assert session.scalar(text("select count(*) from audit where sequence is null")) == 0
