"""Answers that are lost after the commit: of the database to a worker, and of a worker to its client."""

import asyncio

import httpx2
import pytest

from tests.faults.conftest import Installation, under_load
from tests.support.load import Load
from tests.support.proxy import Proxy
from tests.support.visitor import Rp, Visitor, sign_in


def new_code(spoiled: Installation) -> str:
    citizen = spoiled.citizens[0]
    return sign_in(Visitor(spoiled.server.url), spoiled.rp.authorize_url(), citizen.number, citizen.password)["code"]


def lose(proxy: Proxy, rp: Rp, installation: Installation, data: dict[str, str]) -> None:
    """Send a request whose answer never comes, though the server has done what it asks."""
    far = Rp(f"http://127.0.0.1:{proxy.port}", rp.client_id, rp.client_secret)
    proxy.set("deaf", cut=True)
    with pytest.raises(httpx2.HTTPError):
        far.post("/token", data, headers={"host": installation.server.url.removeprefix("http://")})
    proxy.set("pass")


def test_code_whose_answer_was_lost_is_spent(spoiled: Installation) -> None:
    rp, code = spoiled.rp, new_code(spoiled)
    data = {"grant_type": "authorization_code", "code": code, "redirect_uri": rp.redirect_uri}
    with Proxy(spoiled.server.port) as proxy:
        lose(proxy, rp, spoiled, {**data, "code_verifier": rp.verifier})
    assert rp.redeem(code).json()["error"] == "invalid_grant"


def test_refresh_whose_answer_was_lost_gives_the_same_child(spoiled: Installation) -> None:
    rp = spoiled.rp
    parent = rp.redeem(new_code(spoiled)).json()["refresh_token"]
    with Proxy(spoiled.server.port) as proxy:
        lose(proxy, rp, spoiled, {"grant_type": "refresh_token", "refresh_token": parent})
    first, second = (rp.refresh(parent).json()["refresh_token"] for _ in range(2))
    assert first == second
    assert rp.refresh(first).status_code == 200


async def pulses(proxy: Proxy, load: Load, times: int) -> None:
    for _ in range(times):
        await load.progress(3)
        await asyncio.to_thread(proxy.set, "deaf")
        await asyncio.sleep(0.1)
        await asyncio.to_thread(proxy.set, "pass")
    assert proxy.lost > 0


def lost_between_server_and_client(spoiled: Installation, times: int, **options: float) -> None:
    with Proxy(spoiled.server.port) as proxy:
        load = under_load(
            spoiled,
            lambda load: pulses(proxy, load, times),
            via=[f"http://127.0.0.1:{proxy.port}", spoiled.server.url],
            **options,
        )
    print(load.ledger.statuses())


def lost_between_database_and_server(spoiled: Installation, times: int, **options: float) -> None:
    load = under_load(spoiled, lambda load: pulses(spoiled.sql, load, times), **options)
    print(load.ledger.statuses())


def test_answers_of_the_server_lost_under_load_double_nothing(spoiled: Installation) -> None:
    lost_between_server_and_client(spoiled, 6)


def test_answers_of_the_database_lost_under_load_double_nothing(spoiled: Installation) -> None:
    lost_between_database_and_server(spoiled, 6)


@pytest.mark.long
def test_answers_lost_for_minutes_double_nothing(spoiled: Installation) -> None:
    lost_between_server_and_client(spoiled, 300, rate=100)
    lost_between_database_and_server(spoiled, 300, rate=100)
