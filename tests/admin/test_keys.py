"""The commands for keys, and what doctor says about keys."""

from pathlib import Path

import pytest

from admin import doctor
from admin.keys import KeysTooYoung, _rotate_signing, master_status
from idp import keys, master_keys, reseal
from idp.context import Context
from tests.support import master
from tests.support.context import context, new_person

__all__ = ["context"]


def said(context: Context) -> dict[str, doctor.Finding]:
    found = [doctor._master_key(context), doctor._keys(context), *doctor._each_key(context)]
    return {f"{finding.name} {finding.message}": finding for finding in found}


def test_careful_rotation_waits_for_cached_key_sets(context: Context) -> None:
    assert "warnings" not in _rotate_signing(context, careful=True), "the first next keys are known to every cache"
    assert "may lack the next keys" in _rotate_signing(context, careful=False)["warnings"][0]
    with pytest.raises(KeysTooYoung, match="more seconds; wait"):
        _rotate_signing(context, careful=True)


def test_doctor_tells_age_and_use_of_each_signing_key(context: Context) -> None:
    now = context.now()
    with context.database.session() as session:
        keys.rotate(session, context.vault, now - 3 * 86_400)
        active = next(key for key in keys.listing(session) if key["state"] == "active")
        keys.record_uses(session, {active["kid"]: 12}, now - 7_300)
    told = " / ".join(said(context))
    assert f"{active['kid'][:8]}: active for 3 days, made " in told
    assert "signed 12 tokens, last 2 hours ago" in told
    assert told.count("never used") == 5
    assert told.count(": retired for 3 days") == told.count(": next for ") == 2


def test_doctor_tells_what_is_sealed_under_each_version(context: Context, stores: dict[str, str]) -> None:
    with context.database.session() as session:
        new_person(context, session)
    [first] = [finding for finding in said(context).values() if finding.name == "master_key"]
    assert first.state == "ok"
    assert "; 7 values under version 1 (sealing)" in first.message
    path = Path(stores["YIMEN_DATA_DIR"]) / "master.key"
    path.write_text(path.read_text() + master.line(2))
    context.vault._read_at -= 10
    assert context.vault.knows(2)
    master_keys.prepare(context, announce_seconds=0)
    with context.database.session() as session:
        new_person(context, session)
    second = doctor._master_key(context)
    assert second.state == "warning"
    assert "7 values under version 1 (opening), 2 values under version 2 (sealing)" in second.message
    assert "finish the change: yimen keys rotate --master" in second.message
    status = master_status(context)
    assert status["state"] == "changing"
    assert [(row["version"], row["values"]) for row in status["versions"]] == [(1, 7), (2, 2)]
    reseal.run(context, 2, rest=0, settle=0)
    assert doctor._master_key(context).state == "ok"
    status = master_status(context)
    assert (status["state"], status["versions"][0]["state"]) == ("done", "retired")
    assert all(column["left_seconds"] == 0 for column in status["columns"])


def test_doctor_names_values_that_turned_up_under_a_retired_version(context: Context, stores: dict[str, str]) -> None:
    test_doctor_tells_what_is_sealed_under_each_version(context, stores)
    with context.database.session() as session:
        context.vault._sealing = 1
        new_person(context, session)
    found = doctor._master_key(context)
    assert found.state == "warning"
    assert "2 values under version 1 (retired: put its line back" in found.message
