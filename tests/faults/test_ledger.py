"""The ledger itself: when a server really loses, revives or doubles something, it says so."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from tests.faults.conftest import Embedded
from tests.support.ledger import Ledger, Numbers
from tests.support.reckoning import assert_sound, reckon
from tests.support.servers import YimenServer

REVIVED = """update grants set code_spent_at = null, revoked_at = null, code_expires_at = code_expires_at + 600;
             update sessions set ended_at = null"""
TAMPERED = {
    REVIVED: ["a revocation that", "a code that was spent", "a logout that"],
    "update grants set generation = generation + 2": ["a refresh token that was acknowledged is gone"],
    "update sessions set ended_at = 1, end_reason = 'lost'": ["a login that"],
}


async def tampered(embedded: Embedded, server: YimenServer, sabotage: str) -> tuple[Ledger, Numbers]:
    """A load with everything in it, and what the ledger says after an act of sabotage."""
    load = embedded.loaded(server).load(flows=6)
    async with load.running():
        while not (
            any(family.state == "revoked" for family in load.ledger.families)
            and any(login.state == "ended" for login in load.ledger.logins)
        ):
            await load.progress(1)
    with sqlite3.connect(server.data_dir / "yimen.db") as file:
        file.executescript(sabotage)
    file.close()
    return load.ledger, await reckon(load, most=20)


def check(embedded: Embedded, folder: Path, acts: list[str]) -> None:
    with YimenServer(embedded.environment(folder)) as server:
        for act in acts:
            ledger, numbers = asyncio.run(tampered(embedded, server, act))
            for said in TAMPERED[act]:
                assert any(line.startswith(said) for line in numbers.missing), (act, numbers)
            assert numbers.most_successes == (2 if act == REVIVED else 1), "a code that was spent twice"
            with pytest.raises(AssertionError):
                assert_sound(ledger, numbers)


def test_ledger_notices_what_is_revived_and_doubled(embedded: Embedded, tmp_path: Path) -> None:
    check(embedded, tmp_path, [REVIVED])


@pytest.mark.long
def test_ledger_notices_what_is_lost(embedded: Embedded, tmp_path: Path) -> None:
    check(embedded, tmp_path, list(TAMPERED))
