"""T22: a backup made under load, restored in another place. What was revoked stays revoked, and after a bump of the
epoch so does whatever the backup could not know."""

import asyncio
import dataclasses
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Installation, under_load
from tests.support.cluster import Cluster
from tests.support.ledger import Family, Ledger, Login
from tests.support.load import Load
from tests.support.reckoning import reckon
from tests.support.servers import YimenServer
from tests.support.visitor import Visitor, sign_in


def dump(postgres: Cluster, database: str, file: Path) -> None:
    run(postgres, "pg_dump", "--format=custom", "--file", str(file), postgres.uri(database))


def restore(postgres: Cluster, file: Path, database: str) -> None:
    postgres.execute(f"create database {database}")
    run(
        postgres,
        "pg_restore",
        "--jobs=2",
        "--exit-on-error",
        "--no-owner",
        "--dbname",
        postgres.uri(database),
        str(file),
    )


def run(postgres: Cluster, program: str, *arguments: str) -> None:
    done = subprocess.run([postgres.program(program), *arguments], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]


@contextmanager
def elsewhere(spoiled: Installation, database: str, folder: Path) -> Iterator[YimenServer]:
    """The server of the restored database, with the same master key and an empty Redis; not started yet."""
    known = spoiled.server.environment
    environment = {
        "YIMEN_DATA_DIR": str(folder),
        "YIMEN_DATABASE_URL": spoiled.postgres.url(database),
        "YIMEN_REDIS_URL": known["YIMEN_REDIS_URL"].rpartition("/")[0] + "/9",
        "YIMEN_MASTER_KEY_FILE": str(spoiled.server.data_dir / "master.key"),
        "YIMEN_RATE_LIMITS": "off",
    }
    server = YimenServer(environment)
    try:
        yield server
    finally:
        server.stop()
        spoiled.postgres.execute(f"drop database {database} with (force)")


@dataclasses.dataclass
class Known:
    """What the ledger held when the backup began: a copy, as the load goes on."""

    revoked: list[Family]
    logins: list[Login]


def backed_up(spoiled: Installation, folder: Path, seconds: float) -> tuple[Ledger, Known]:
    """A backup in the middle of a load; the ledger of the whole, and what was acknowledged before the backup."""
    known = Known([], [])

    async def fault(load: Load) -> None:
        while not any(family.state == "revoked" for family in load.ledger.families):
            await load.progress(3)
        await asyncio.sleep(seconds)
        known.revoked = [
            dataclasses.replace(family, access=list(family.access), refresh=list(family.refresh))
            for family in load.ledger.families
            if family.state == "revoked"
        ]
        known.logins = [dataclasses.replace(login, cookies=dict(login.cookies)) for login in load.ledger.logins]
        await asyncio.to_thread(dump, spoiled.postgres, spoiled.database, folder / "backup")
        await load.progress()

    load = under_load(spoiled, fault)
    return load.ledger, known


def reckoned(spoiled: Installation, server: YimenServer, ledger: Ledger) -> Ledger:
    rp = dataclasses.replace(spoiled.rp, server=server.url)
    numbers = asyncio.run(reckon(Load(spoiled.citizens, rp, ledger), most=60))
    print(numbers)
    return ledger


def test_backup_of_a_loaded_database_serves_elsewhere(spoiled: Installation, tmp_path: Path) -> None:
    _, known = backed_up(spoiled, tmp_path, 0)
    assert known.logins
    begin = time.monotonic()
    restore(spoiled.postgres, tmp_path / "backup", "restored")
    with elsewhere(spoiled, "restored", tmp_path) as server:
        server.start()
        print(f"restored and serving after {time.monotonic() - begin:.1f} s")
        before = Ledger(logins=known.logins, families=known.revoked)
        assert reckoned(spoiled, server, before).missing == [], "what the backup must know"
        bumped = server.cli("epoch", "bump")
        assert bumped["sessions"] > 0
        assert bumped["grants"] > 0
        nothing_of_before_works(spoiled, server, known)
        rp, citizen = dataclasses.replace(spoiled.rp, server=server.url), spoiled.citizens[0]
        code = sign_in(Visitor(server.url), rp.authorize_url(), citizen.number, citizen.password)["code"]
        assert rp.redeem(code).status_code == 200


def nothing_of_before_works(spoiled: Installation, server: YimenServer, known: Known) -> None:
    rp = dataclasses.replace(spoiled.rp, server=server.url)
    for login in known.logins[-5:]:
        visitor = Visitor(server.url)
        visitor.cookies = dict(login.cookies)
        assert "login-form" in visitor.walk(rp.authorize_url()).text
    for family in known.revoked[-5:]:
        assert rp.refresh(family.refresh[-1]).json()["error"] == "invalid_grant"


@pytest.mark.long
def test_backup_after_minutes_of_load_serves_elsewhere(spoiled: Installation, tmp_path: Path) -> None:
    _, known = backed_up(spoiled, tmp_path, 60)
    restore(spoiled.postgres, tmp_path / "backup", "restored")
    with elsewhere(spoiled, "restored", tmp_path) as server:
        server.start()
        assert reckoned(spoiled, server, Ledger(logins=known.logins, families=known.revoked)).missing == []
