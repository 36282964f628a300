"""Every value moves to the new version of the master key; nothing that somebody changes meanwhile is overwritten."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from idp import accounts, master_keys, reseal, sealed
from idp.context import Context
from idp.database import Database
from idp.encryption import MasterKeyError, Vault
from idp.errors import Conflict
from idp.models import Account, AuditRecord, Fact, MasterKey, Reseal
from idp.statements import Change
from tests.support import master
from tests.support.context import citizen_number, new_organization, new_person, opened

PEOPLE = 40


@pytest.fixture
def environment(stores: dict[str, str]) -> dict[str, str]:
    """An installation whose master key file has version 1."""
    master.write(key_file(stores), 1)
    return stores


def key_file(stores: dict[str, str]) -> Path:
    return Path(stores["YIMEN_DATA_DIR"]) / "master.key"


@pytest.fixture
def context(environment: dict[str, str]) -> Iterator[Context]:
    """A process that learns of version 2 by and by, with people."""
    with opened(environment) as found:
        with found.database.session() as session:
            for _ in range(PEOPLE):
                new_person(found, session, phone="17412345678", claims={"locale": "zh-CN"})
            new_person(found, session, level=2)
            new_organization(found, session)
        master.write(key_file(environment), 1, 2)
        found.vault._read_at -= 10  # as if a while had passed since it read the file
        assert found.vault.knows(2)
        yield found


def change_over(context: Context) -> int:
    return master_keys.prepare(context, announce_seconds=0)


def counts(context: Context) -> dict[int, int]:
    with context.database.session(write=False) as session:
        return sealed.count_versions(session)


def run(context: Context, version: int = 2, *, batch: int = 7) -> dict[str, object]:
    return reseal.run(context, version, batch=batch, rest=0, settle=0)


def test_run_moves_every_value_and_retires_the_old_version(context: Context) -> None:
    before = counts(context)
    assert change_over(context) == 2
    assert counts(context) == before, "changing over seals nothing anew by itself"
    done = run(context)
    assert counts(context) == {2: sum(before.values())}
    assert (done["values"], done["retired"]) == (before[1], [1])
    with context.database.session() as session:
        states = {row.version: row.state for row in session.scalars(select(MasterKey))}
        assert states == {1: "retired", 2: "sealing"}
        told = session.scalars(select(AuditRecord.event).where(AuditRecord.event.like("keys:master:%"))).all()
        assert sorted(told) == ["keys:master:changed", "keys:master:retired"]
        assert accounts.describe(context, session, session.scalars(select(Account)).first())["name"] == "**例"


def test_run_keeps_everything_that_is_derived(context: Context) -> None:
    vault = context.vault
    before = (vault.fingerprint(), vault.derive("subject"), vault.blind_index("number cid", "x"))
    change_over(context)
    run(context)
    assert (vault.fingerprint(), vault.derive("subject"), vault.blind_index("number cid", "x")) == before


def test_number_stays_unique_at_every_moment(context: Context) -> None:
    numbers = [citizen_number() for _ in range(4)]

    def registered_twice(number: str) -> None:
        with context.database.session() as session:
            new_person(context, session, number=number)
        with pytest.raises(accounts.IdentifierTaken), context.database.session() as session:
            new_person(context, session, number=number)

    registered_twice(numbers[0])
    change_over(context)
    registered_twice(numbers[1])
    run(context)
    for number in numbers[:2]:
        with pytest.raises(accounts.IdentifierTaken), context.database.session() as session:
            new_person(context, session, number=number)
        with context.database.session() as session:
            assert accounts.find_for_login(context, session, number) is not None


def test_old_version_may_leave_the_file_after_the_end(context: Context, environment: dict[str, str]) -> None:
    number = citizen_number()
    with context.database.session() as session:
        person = new_person(context, session, number=number, email="zhang@example.test")
    subject = context.vault.derive("subject")
    change_over(context)
    run(context)
    master.write(key_file(environment), 2)
    with opened(environment) as later, later.database.session() as session:
        assert later.vault.versions == [2]
        assert later.vault.derive("subject") == subject
        found = accounts.find_for_login(later, session, number)
        assert found is not None
        assert found.id == person.id
        assert accounts.reveal(later, session, found).email == "zhang@example.test"
        new_person(later, session)


def test_start_without_a_version_that_is_still_needed_is_refused(context: Context, environment: dict[str, str]) -> None:
    change_over(context)
    master.write(key_file(environment), 2)
    with pytest.raises(MasterKeyError, match="version 1 of the master key is missing") as refusal, opened(environment):
        pass
    assert "put its line back" in refusal.value.message
    master.write(key_file(environment), 1)
    with pytest.raises(MasterKeyError, match="version 2 of the master key is missing"), opened(environment):
        pass
    key_file(environment).write_text(master.line(1) + master.line(2, byte=9))
    with pytest.raises(MasterKeyError, match=r"version 2 .* does not fit"), opened(environment):
        pass


def test_value_changed_meanwhile_stays_as_it_was_left(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between reading a batch and swapping it, somebody else writes one of its rows."""
    change_over(context)
    names, swap = sealed.COLUMNS[4], reseal._seal_anew
    assert names.place == "accounts.sealed_name"
    changed: dict[UUID, bytes] = {}

    def meanwhile(*arguments: object) -> object:
        swaps, broken = swap(*arguments)  # type: ignore[arg-type]
        if arguments[1] is names and swaps and not changed:
            row = swaps[0]["id"]
            changed[row] = context.vault.seal("accounts", "sealed_name", row, "李四例")
            with context.database.session() as session:
                session.execute(update(Account).where(Account.id == row).values(sealed_name=changed[row]))
        return swaps, broken

    monkeypatch.setattr(reseal, "_seal_anew", meanwhile)
    run(context)
    with context.database.session() as session:
        for row, blob in changed.items():
            account = session.get_one(Account, row)
            assert account.sealed_name == blob
            assert accounts.reveal(context, session, account).name == "李四例"
    assert set(counts(context)) == {2}
    assert changed


def test_value_written_behind_the_reader_is_found_in_a_later_round(context: Context) -> None:
    """A process that has not heard of the change yet seals a row that was already looked at."""
    change_over(context)
    late: list[UUID] = []

    def write_behind(progress: reseal.Progress) -> None:
        if progress.place == "contacts.sealed_value" and not late:
            with context.database.session() as session:
                context.vault._sealing = 1
                late.append(new_person(context, session, name="王五例").id)
                context.vault._sealing = 2

    done = reseal.run(context, 2, batch=7, rest=0, settle=0, show=write_behind)
    assert late
    assert done["rounds"] == 3
    assert set(counts(context)) == {2}


def test_run_begins_its_last_round_after_what_was_under_way(context: Context) -> None:
    change_over(context)
    with context.database.session() as session:
        since = session.get_one(MasterKey, 2).sealing_since or 0
    reseal.run(context, 2, rest=0, settle=2)
    with context.database.session() as session:
        assert min(session.scalars(select(Reseal.started_at))) >= since + 2


class Killed(BaseException):
    """A process that is no more, at a place of the test's choice."""


@pytest.mark.parametrize("place", ["before the swap", "before the commit", "after the commit"])
def test_run_killed_anywhere_is_resumed(
    context: Context, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Killed at its third batch again and again, each time going on in a fresh process; tests/flows kills for good."""
    before, seen = counts(context), [0]
    change_over(context)
    if place == "after the commit":
        monkeypatch.setattr(reseal, "_one_batch", dying(reseal._one_batch, after=True))
    else:
        monkeypatch.setattr(Change, "run_all", dying(Change.run_all, after=place == "before the commit"))
    for _ in range(6):
        with opened(environment) as process, contextlib.suppress(Killed):
            run(process)
        with context.database.session() as session:
            seen.append(sum(session.scalars(select(Reseal.seen))))
    assert seen == sorted(seen), "what was committed is never lost"
    assert seen[1] < seen[3] < seen[6], "what was committed is not done again"
    monkeypatch.undo()
    done = run(context)
    assert counts(context) == {2: sum(before.values())}
    assert done["retired"] == [1]


def dying(work: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """The same work, killed in every third call that brings something along, right before it or after it."""
    calls = itertools.count(1)

    def worked(*arguments: Any, **options: Any) -> Any:
        if not after and next(calls) % 3 == 0:
            raise Killed
        done = work(*arguments, **options)
        if after and getattr(done, "finished_at", None) is None and next(calls) % 3 == 0:
            raise Killed
        return done

    return worked


def test_registrations_and_changes_go_on_all_along(context: Context, environment: dict[str, str]) -> None:
    """Two processes register and read people while the columns move; everybody is found, whole and once."""
    registered: list[str] = []
    failures: list[BaseException] = []
    over = threading.Event()

    def work(process: Context) -> None:
        while not over.is_set():
            number = citizen_number()
            try:
                with process.database.session() as session:
                    account = new_person(process, session, number=number, phone="17412345678")
                with process.database.session(write=False) as session:
                    assert accounts.reveal(process, session, session.get_one(Account, account.id)).number == number
                registered.append(number)
                time.sleep(0.02)
                master_keys.refresh(process.database, process.vault)
            except BaseException as error:
                failures.append(error)
                return

    with opened(environment) as first, opened(environment) as second:
        threads = [threading.Thread(target=work, args=(one,)) for one in (first, second)]
        for thread in threads:
            thread.start()
        try:
            change_over(context)
            done = reseal.run(context, 2, batch=25, rest=0.5, settle=1)
        finally:
            over.set()
            for thread in threads:
                thread.join(60)
    assert failures == []
    assert done["retired"] == [1]
    assert set(counts(context)) == {2}
    assert len(registered) > 5
    with context.database.session() as session:
        for number in registered:
            found = accounts.find_for_login(context, session, number)
            assert found is not None
            assert accounts.reveal(context, session, found).number == number


def test_two_commands_at_once_do_the_work_once(context: Context) -> None:
    before = counts(context)
    change_over(context)
    results: list[object] = []

    def work() -> None:
        try:
            results.append(run(context, batch=3))
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert all(isinstance(result, dict) for result in results), results
    assert counts(context) == {2: sum(before.values())}


def test_broken_value_is_told_and_no_version_retired(context: Context) -> None:
    with context.database.session() as session:
        row = session.scalars(select(Account)).first()
        assert row is not None
        row.sealed_name = row.sealed_name[:-1] + bytes([row.sealed_name[-1] ^ 1])
    change_over(context)
    with pytest.raises(reseal.ValuesBroken, match=r"accounts\.sealed_name 1$"):
        run(context)
    with context.database.session() as session:
        assert session.get_one(MasterKey, 1).state == "opening"
    assert counts(context)[1] == 1


def test_prepare_without_a_new_version_says_what_to_do(environment: dict[str, str]) -> None:
    with (
        opened(environment) as fresh,
        pytest.raises(master_keys.NoNewVersion, match="add a line with a higher version"),
    ):
        change_over(fresh)


def test_version_that_a_running_process_lacks_is_not_taken(context: Context, environment: dict[str, str]) -> None:
    """The other process reads a file of its own, as on another host."""
    elsewhere = master.write(key_file(environment).with_name("other.key"), 1)
    with opened(environment | {"YIMEN_MASTER_KEY_FILE": str(elsewhere)}) as other:
        master_keys._announce(context, 2, 0)
        master_keys.refresh(other.database, other.vault)
        assert other.vault.sealing == 1
        with pytest.raises(master_keys.NotEverywhere, match="does not have version 2"):
            master_keys._change_over(context, 2)
        assert set(counts(context)) == {1}
        master.write(elsewhere, 1, 2)
        other.vault._read_at -= 10
        assert change_over(context) == 2
        master_keys.refresh(other.database, other.vault)
        assert other.vault.sealing == 2


def test_process_that_slept_asks_before_it_seals(context: Context, environment: dict[str, str]) -> None:
    with opened(environment) as other:
        change_over(context)
        assert other.vault.sealing == 1
        other.vault._confirmed_at -= 11
        assert other.vault.seal("accounts", "sealed_name", UUID(int=1), "x")[:2] == b"\0\2"


def test_value_that_turns_up_under_a_retired_version_is_brought_along(context: Context) -> None:
    change_over(context)
    run(context)
    with context.database.session() as session:
        context.vault._sealing = 1
        new_person(context, session)
        context.vault._sealing = 2
    assert 1 in counts(context)
    assert change_over(context) == 2
    assert run(context)["retired"] == [1]
    assert set(counts(context)) == {2}


def test_third_version_in_the_middle_takes_over(context: Context, environment: dict[str, str]) -> None:
    change_over(context)
    reseal._begin_or_resume(context, 2)
    reseal._one_batch(context, sealed.COLUMNS[4], 2, 5)
    master.write(key_file(environment), 1, 2, 3)
    context.vault._read_at -= 10
    assert context.vault.knows(3)
    assert change_over(context) == 3
    with pytest.raises(Conflict, match="another version"):
        reseal._one_batch(context, sealed.COLUMNS[4], 2, 5)
    assert set(counts(context)) == {1, 2}
    assert run(context, 3)["retired"] == [1, 2]
    assert set(counts(context)) == {3}


def test_installation_without_a_root_key_keeps_what_it_derived(environment: dict[str, str]) -> None:
    """As an installation looks that was made before root keys were written down, with two versions in its file."""
    old = Vault({1: b"\1" * 32, 2: b"\2" * 32})
    database = Database(environment["YIMEN_DATABASE_URL"])
    with database.session() as session:
        session.add(Fact(name=master_keys.FINGERPRINT, value=old.fingerprint()))
    database.engine.dispose()
    with (
        pytest.raises(MasterKeyError, match="does not fit"),
        opened(
            {**environment, "YIMEN_MASTER_KEY_FILE": str(master.write(key_file(environment).with_name("wrong.key"), 3))}
        ),
    ):
        pass
    master.write(key_file(environment), 1, 2)
    with opened(environment) as found:
        assert found.vault.derive("subject") == old.derive("subject")
        assert found.vault.blind_index("number cid", "x") == old.blind_index("number cid", "x")
        with found.database.session() as session:
            assert [(row.version, row.state) for row in master_keys.versions_in_use(session)] == [
                (1, "opening"),
                (2, "sealing"),
            ]
        assert run(found)["retired"] == [1]
    master.write(key_file(environment), 2)
    with opened(environment) as later:
        assert later.vault.derive("subject") == old.derive("subject")


def test_new_installation_has_a_root_key_that_no_master_key_tells(environment: dict[str, str]) -> None:
    with opened(environment) as found:
        assert found.vault.derive("subject") != Vault({1: b"\1" * 32}).derive("subject")
        first = found.vault.derive("subject")
    with opened(environment) as again:
        assert again.vault.derive("subject") == first
