"""A store that goes away in the middle: nothing is granted, the refusal is quick, and recovery needs no restart."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import redis

from tests.support.citizen import add_citizen, add_client
from tests.support.servers import YimenServer
from tests.support.services import redis_server
from tests.support.stores import PostgresDatabases, Stores
from tests.support.visitor import Visitor, answer_of, sign_in


@pytest.fixture
def own_redis(tmp_path: Path, redis_url: object) -> Iterator[str]:
    """A Redis that a test may spoil (where there is a Redis at all)."""
    with redis_server(tmp_path) as url:
        yield f"{url}/0"


@pytest.fixture
def fragile(own_redis: str, _all_stores: Stores, _postgres: PostgresDatabases, tmp_path: Path) -> Iterator[YimenServer]:
    with (
        _all_stores.environment("postgres", tmp_path / "data") as environment,
        YimenServer({**environment, "YIMEN_REDIS_URL": own_redis}, workers=2) as running,
    ):
        yield running


def test_redis_emptied_in_the_middle_of_a_login_grants_nothing(fragile: YimenServer, own_redis: str) -> None:
    citizen, rp = add_citizen(fragile), add_client(fragile, "公积金")
    visitor = Visitor(fragile.url)
    visitor.walk(rp.authorize_url())
    with redis.Redis.from_url(own_redis) as client:
        client.flushall()
        response = visitor.submit("login-form", identifier=citizen.number, password=citizen.password)
        assert response.status_code == 400
        assert visitor.seen.texts["error-code"] == "interaction_expired"
        assert "__Host-yimen_session" not in visitor.cookies
        answer = sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)
        tokens = rp.redeem(answer["code"]).json()
        client.flushall()
    assert rp.redeem(answer["code"]).json()["error"] == "invalid_grant", "a spent code came back to life"
    assert rp.userinfo(tokens["access_token"]).status_code == 401


def test_redis_silent_answers_503_quickly_and_comes_back(fragile: YimenServer, own_redis: str) -> None:
    citizen, rp = add_citizen(fragile), add_client(fragile, "公积金")
    signed_in = Visitor(fragile.url)
    sign_in(signed_in, rp.authorize_url(), citizen.number, citizen.password)
    with redis.Redis.from_url(own_redis) as client:
        client.execute_command("CLIENT", "PAUSE", "6000", "ALL")
    assert httpx2.get(f"{fragile.url}/readyz", trust_env=False).status_code == 503
    started = time.monotonic()
    response = Visitor(fragile.url).walk(rp.authorize_url())
    assert (response.status_code, "retry-after" in response.headers) == (503, True)
    assert time.monotonic() - started < 3
    assert httpx2.get(f"{fragile.url}/jwks", trust_env=False).status_code == 200
    assert "code" in answer_of(signed_in.walk(rp.authorize_url())), "a live session needs no Redis"
    time.sleep(7)
    assert Visitor(fragile.url).walk(rp.authorize_url()).status_code == 200
