"""T12: the clock of one worker is wrong, or jumps. Expiry goes by the time of the database.

The wrong clock is `time.time` of a server process, moved by a file (`sitecustomize` on its path): no library that
fakes the clock has to be installed, and the database beside it keeps the right time.
"""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Installation, under_load
from tests.support.load import Load
from tests.support.servers import YimenServer
from tests.support.visitor import Rp, Visitor, sign_in

MOVED_CLOCK = """
import os, time
_right, _file = time.time, os.environ["MOVED_CLOCK"]
def _moved():
    with open(_file) as line:
        return _right() + float(line.read() or 0)
time.time = _moved
"""
OFFSETS = [90, -90, -3600]


@pytest.fixture(scope="module")
def second(spoiled: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[YimenServer, Path]]:
    """Another server of the same installation, and the file with what its clock is off, in seconds."""
    folder = tmp_path_factory.mktemp("clock")
    (folder / "sitecustomize.py").write_text(MOVED_CLOCK)
    offset = folder / "offset"
    offset.write_text("90")
    names = ("YIMEN_DATABASE_URL", "YIMEN_REDIS_URL", "YIMEN_ISSUER", "YIMEN_RATE_LIMITS", "YIMEN_MASTER_KEY_FILE")
    known = {**spoiled.server.environment}
    known["YIMEN_MASTER_KEY_FILE"] = str(spoiled.server.data_dir / "master.key")
    environment = {name: known[name] for name in names}
    environment |= {"YIMEN_DATA_DIR": str(folder), "PYTHONPATH": str(folder), "MOVED_CLOCK": str(offset)}
    with YimenServer(environment) as server:
        yield server, offset


@pytest.fixture
def elsewhere(spoiled: Installation, second: tuple[YimenServer, Path]) -> Rp:
    """The relying party, whose requests go to the server with the wrong clock."""
    return Rp(second[0].url, spoiled.rp.client_id, spoiled.rp.client_secret, spoiled.rp.redirect_uri)


@pytest.fixture
def code(spoiled: Installation) -> str:
    citizen = spoiled.citizens[0]
    return sign_in(Visitor(spoiled.server.url), spoiled.rp.authorize_url(), citizen.number, citizen.password)["code"]


def post(rp: Rp, installation: Installation, data: dict[str, str]) -> "dict[str, object]":
    host = installation.server.url.removeprefix("http://")
    answer: dict[str, object] = rp.post("/token", data, headers={"host": host}).json()
    return answer


def redeem(rp: Rp, installation: Installation, code: str) -> "dict[str, object]":
    data = {"grant_type": "authorization_code", "code": code, "redirect_uri": rp.redirect_uri}
    return post(rp, installation, {**data, "code_verifier": installation.rp.verifier})


def expire_in(installation: Installation, column: str, seconds: int) -> None:
    installation.postgres.execute(
        f"update grants set {column} = extract(epoch from now())::bigint + {seconds} where created_at = "
        "(select max(created_at) from grants)",
        installation.database,
    )


@pytest.mark.parametrize("offset", OFFSETS)
def test_worker_with_a_wrong_clock_judges_by_database_time(
    spoiled: Installation, second: tuple[YimenServer, Path], elsewhere: Rp, code: str, offset: int
) -> None:
    second[1].write_text(str(offset))
    expire_in(spoiled, "code_expires_at", 20)
    tokens = redeem(elsewhere, spoiled, code)
    assert "error" not in tokens, tokens
    payload = str(tokens["id_token"]).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert abs(claims["iat"] - time.time()) < 10
    assert claims["exp"] > claims["iat"]
    assert int(str(tokens["expires_in"])) > 0
    assert spoiled.rp.userinfo(str(tokens["access_token"])).status_code == 200
    expire_in(spoiled, "refresh_expires_at", -2)
    refused = post(elsewhere, spoiled, {"grant_type": "refresh_token", "refresh_token": str(tokens["refresh_token"])})
    assert refused["error"] == "invalid_grant"


def test_worker_with_a_slow_clock_refuses_an_expired_code(
    spoiled: Installation, second: tuple[YimenServer, Path], elsewhere: Rp, code: str
) -> None:
    second[1].write_text("-3600")
    expire_in(spoiled, "code_expires_at", -2)
    assert redeem(elsewhere, spoiled, code)["error"] == "invalid_grant"


def jumping(offset: Path, offsets: list[int], every: float) -> "Callable[[Load], object]":
    async def fault(load: Load) -> None:
        for seconds in offsets:
            offset.write_text(str(seconds))
            await asyncio.sleep(every)
            await load.progress(5)

    return fault


def test_clock_that_jumps_under_load_harms_nothing(spoiled: Installation, second: tuple[YimenServer, Path]) -> None:
    via = [spoiled.server.url, second[0].url]
    under_load(spoiled, jumping(second[1], OFFSETS, 0.2), via=via)  # type: ignore[arg-type]


@pytest.mark.long
def test_clock_that_jumps_for_two_minutes_harms_nothing(
    spoiled: Installation, second: tuple[YimenServer, Path]
) -> None:
    via = [spoiled.server.url, second[0].url]
    under_load(spoiled, jumping(second[1], OFFSETS * 8, 5), via=via)  # type: ignore[arg-type]
