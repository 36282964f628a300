"""The commands of the audit as an operator meets them."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import select, update

from admin import audit as audit_commands
from admin import doctor, people
from idp.context import Context
from idp.models import AuditRecord
from tests.support.context import citizen_number, new_person, opened
from tests.support.tamper import add_records, change, run

ROOT = Path(__file__).parents[1]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Yimen = Callable[..., Done]


@pytest.fixture
def context(stores: dict[str, str]) -> Iterator[Context]:
    with opened(stores) as found:
        yield dataclasses.replace(found, actor="command")


@pytest.fixture
def yimen(context: Context) -> Yimen:
    """`yimen ARGUMENTS` in this process, on fresh stores."""

    @click.group()
    def cli() -> None: ...

    for command in (people.person, *audit_commands.COMMANDS):
        cli.add_command(command)

    def call(*arguments: str, stdin: str = "") -> Done:
        done = CliRunner().invoke(cli, arguments, input=stdin, obj=lambda: nullcontext(context), prog_name="yimen")
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return Done(done.exit_code, done.stdout, done.stderr)

    return call


def real_yimen(*arguments: str, environment: dict[str, str]) -> Done:
    """`yimen ARGUMENTS` as a process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("YIMEN_")}
    command = [sys.executable, "-W", "error", str(ROOT / "server.py"), *arguments]
    done = subprocess.run(command, env=inherited | environment, input="", capture_output=True, text=True, timeout=120)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def person(context: Context) -> tuple[str, str]:
    """An account and its number, in an audit with other records around it."""
    number = citizen_number()
    with context.database.session() as session:
        account = new_person(context, session, number=number).id
        new_person(context, session)
    add_records(context, 5, at=1_000_000_000)
    return str(account), number


def answer(done: Done) -> Any:
    return json.loads(done.stdout)


def lines(done: Done) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_audit_is_sealed_verified_and_found_broken(
    context: Context, stores: dict[str, str], person: tuple[str, str]
) -> None:
    yimen = partial(real_yimen, environment=stores)
    sealed = answer(yimen("audit", "seal"))
    assert sealed == {"sealed": 7, "anchored": 7, "filed": 1, "stored": 0}
    anchors = Path(stores["YIMEN_DATA_DIR"]) / "audit-anchors.jsonl"
    done = yimen("audit", "verify", "--anchors", str(anchors))
    assert (done.returncode, done.stderr) == (0, "")
    assert answer(done) | {"intact": True, "records": 7, "unsealed": 0, "anchors": 2} == answer(done)
    change(context, 3)
    run(context, "delete from audit where sequence = 6")
    done = yimen("audit", "verify")
    assert done.returncode == 1
    found = answer(done)
    assert (found["error"], found["message"]) == ("audit_broken", "record 3 was changed; 2 in all")
    assert found["counts"] == {"changed": 1, "removed": 1}
    assert [(fault["sequence"], fault["kind"]) for fault in found["faults"]] == [(3, "changed"), (6, "removed")]
    assert yimen("audit", "verify", "--anchors", "/nowhere").returncode == 2


def test_export_filters_by_time_person_client_and_event(
    yimen: Yimen, context: Context, person: tuple[str, str]
) -> None:
    account, number = person
    with context.database.session() as session:
        mine = session.scalars(select(AuditRecord).where(AuditRecord.event == "test:record:3")).one()
        session.execute(update(AuditRecord).where(AuditRecord.id == mine.id).values(client_id="gjj"))
    everything = lines(yimen("audit", "export"))
    assert {record["event"] for record in everything[:5]} == {f"test:record:{i}" for i in range(5)}
    assert [record["event"] for record in everything[5:]].count("account:person:created") == 2
    assert len(everything) == 8, "the export itself is the last record"
    order = [(record["at"], record["id"]) for record in everything]
    assert order == sorted(order)
    assert everything[0]["at"] == "2001-09-09T01:46:40+00:00"
    by_number = lines(yimen("audit", "export", "--person-stdin", stdin=f"{number}\n"))
    assert by_number == lines(yimen("audit", "export", "--person", account))
    assert [(record["event"], record["account"]) for record in by_number] == [("account:person:created", account)]
    assert [record["event"] for record in lines(yimen("audit", "export", "--client", "gjj"))] == ["test:record:3"]
    assert len(lines(yimen("audit", "export", "--event", "test:*"))) == 5
    assert len(lines(yimen("audit", "export", "--event", "test:record:1"))) == 1
    assert len(lines(yimen("audit", "export", "--to", "2001-09-10"))) == 5
    assert lines(yimen("audit", "export", "--from", "2001-09-09T09:46:41", "--to", "2001-09-10")) == []
    assert len(lines(yimen("audit", "export", "--from", "2001-09-09T09:46:40+08:00", "--to", "2001-09-10"))) == 5
    exports = lines(yimen("audit", "export", "--event", "audit:records:exported"))
    assert [export["detail"] for export in exports].count({"person": account}) == 2
    assert (exports[0]["actor"], exports[0]["channel"]) == ("command", "service")


def test_export_never_shows_the_number_that_was_asked_for(yimen: Yimen, person: tuple[str, str]) -> None:
    _, number = person
    for typed in (number, citizen_number()):
        done = yimen("audit", "export", "--person-stdin", stdin=typed)
        assert typed not in done.stdout + done.stderr
    assert (done.returncode, answer(done)["error"]) == (1, "not_found")


def test_export_masks_what_should_never_have_been_written(yimen: Yimen, context: Context) -> None:
    number, session_id = citizen_number(), "12345678-1234-1234-1234-139123456789"
    add_records(context, 2)
    detail = json.dumps({"reason": f"号码 {number}", "session": session_id, "list": [number, 1]})
    run(context, "update audit set detail = :d where event = 'test:record:0'", d=detail)
    run(context, "update audit set detail = :d where event = 'test:record:1'", d=f"not json {number}")
    done = yimen("audit", "export", "--event", "test:*")
    told = {record["event"]: record["detail"] for record in lines(done)}
    assert number not in done.stdout
    assert told["test:record:0"] == {"reason": f"号码 {'*' * 18}", "session": session_id, "list": ["*" * 18, 1]}
    assert told["test:record:1"] == f"not json {'*' * 18}"


def test_export_streams_page_by_page(yimen: Yimen, context: Context) -> None:
    add_records(context, 2_500)
    found = lines(yimen("audit", "export", "--event", "test:record:*"))
    assert len(found) == 2_500
    assert {record["event"] for record in found} == {f"test:record:{i}" for i in range(2_500)}


def test_wrong_usage_has_status_2(yimen: Yimen) -> None:
    for arguments in (
        ["export", "--from", "yesterday"],
        ["export", "--person", "x"],
        ["export", "--person", "12345678-1234-1234-1234-123456789012", "--person-stdin"],
        ["nonsense"],
    ):
        assert yimen("audit", *arguments).returncode == 2


def test_every_command_has_its_help(yimen: Yimen) -> None:
    shown = yimen("audit", "--help").stdout
    for name in ("verify", "seal", "export", "purge"):
        assert re.search(rf"^  {name} ", shown, re.MULTILINE)
    for arguments in (["audit", "verify"], ["audit", "export"], ["purge"]):
        done = yimen(*arguments, "--help")
        assert (done.returncode, "Usage: yimen" in done.stdout) == (0, True)


def test_purge_reports_what_went(yimen: Yimen) -> None:
    assert answer(yimen("audit", "purge")) == {"purged": 0}
    assert answer(yimen("purge"))["purged"]["audit"] == 0


def test_doctor_tells_when_nobody_seals_and_when_anchors_stay_inside(yimen: Yimen, context: Context) -> None:
    add_records(context, 3, at=context.now() - 1_000)
    assert doctor._audit(context)[1:] == ("warning", "3 records wait to be sealed; is a server running?")
    yimen("audit", "seal")
    assert doctor._audit(context).state == "ok"
    run(context, "update audit_anchors set filed_at = null, at = at - 1000")
    assert doctor._audit(context).state == "warning"
