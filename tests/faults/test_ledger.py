"""The ledger itself: when a server really loses, revives or doubles something, it says so."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from tests.faults.conftest import Embedded
from tests.support.ledger import Ledger, Numbers
from tests.support.reckoning import assert_sound, reckon
from tests.support.servers import YimenServer

TAMPERED = {
    "update grants set revoked_at = null": "a revocation that was acknowledged did not last",
    "update grants set code_spent_at = null, revoked_at = null, code_expires_at = code_expires_at + 600": "a code",
    "update grants set generation = generation + 2": "a refresh token that was acknowledged is gone",
    "delete from revoked_tokens; update sessions set ended_at = 1, end_reason = 'lost'": "a login that was",
    "update sessions set ended_at = null": "a logout that was acknowledged did not last",
}


async def run(embedded: Embedded, server: YimenServer) -> tuple[Ledger, list[tuple[str, Numbers]]]:
    """A load with everything in it, and what the ledger says after each act of sabotage."""
    found = []
    for sabotage in TAMPERED:
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
        found.append((sabotage, await reckon(load, most=20)))
    return load.ledger, found


def test_ledger_notices_what_is_lost_revived_or_doubled(embedded: Embedded, tmp_path: Path) -> None:
    with YimenServer(embedded.environment(tmp_path)) as server:
        ledger, found = asyncio.run(run(embedded, server))
    for sabotage, numbers in found:
        assert any(line.startswith(TAMPERED[sabotage]) for line in numbers.missing), (sabotage, numbers)
        with pytest.raises(AssertionError):
            assert_sound(ledger, numbers)
    assert max(numbers.most_successes for _, numbers in found) == 2, "a code that was spent twice"
