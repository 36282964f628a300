"""Cases D and E that need a look into the stores: what codes look like, and what time and restarts do to them."""

import string
from collections import Counter
from pathlib import Path

import pytest
import redis
from sqlalchemy import select, update

from idp.models import AuditRecord, Grant
from idp.oidc import profiles, tokens
from tests.conftest import KINDS
from tests.support.citizen import Citizen, add_citizen, add_client
from tests.support.context import opened
from tests.support.servers import YimenServer
from tests.support.stores import Stores
from tests.support.visitor import Rp, Visitor, answer_of, sign_in

ALPHABET = string.ascii_letters + string.digits + "-_"


def test_codes_are_long_unlike_and_say_nothing() -> None:
    codes = [tokens.new_code() for _ in range(10_000)]
    assert len(set(codes)) == 10_000
    assert {len(code) for code in codes} == {43}
    for place in (0, 1, 2, 20, 41):
        counts = Counter(code[place] for code in codes)
        expected = 10_000 / 64
        chi_square = sum((counts[sign] - expected) ** 2 / expected for sign in ALPHABET)
        assert chi_square < 145  # 63 degrees of freedom: once in ten million times by chance
        assert set(counts) <= set(ALPHABET)


def test_code_lives_for_a_minute(citizen: Citizen, rp: Rp) -> None:
    assert profiles.CODE_SECONDS <= 60
    visitor = Visitor(citizen.server.url)
    code = sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)["code"]
    with opened(citizen.server.environment) as context, context.database.session() as db:
        grant = db.scalars(select(Grant).where(Grant.code_hash == tokens.hash_of(code))).one()
        assert 0 < grant.code_expires_at - context.now() <= 60
        grant.code_expires_at = context.now()
    assert rp.redeem(code).json()["error"] == "invalid_grant"


def test_parent_after_the_window_revokes_the_family_and_is_recorded(citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    first = rp.redeem(sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)["code"]).json()
    second = rp.refresh(first["refresh_token"]).json()
    assert rp.refresh(first["refresh_token"]).json()["refresh_token"] == second["refresh_token"]
    with opened(citizen.server.environment) as context:
        named = tokens.open_refresh(context.vault, first["refresh_token"])
        assert named is not None
        with context.database.session() as db:
            earlier = Grant.rotated_at - profiles.REFRESH_WINDOW_SECONDS
            db.execute(update(Grant).where(Grant.id == named.grant_id).values(rotated_at=earlier))
        assert rp.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
        assert rp.refresh(second["refresh_token"]).json()["error"] == "invalid_grant"
        for access in (first["access_token"], second["access_token"]):
            assert rp.userinfo(access).status_code == 401
        with context.database.session(write=False) as db:
            records = db.scalars(select(AuditRecord).where(AuditRecord.event == "grant:refresh_reuse:revoked")).all()
    assert str(named.grant_id) in "".join(record.detail or "" for record in records)


def test_family_never_outlives_its_absolute_end(citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    first = rp.redeem(sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)["code"]).json()
    with opened(citizen.server.environment) as context:
        named = tokens.open_refresh(context.vault, first["refresh_token"])
        assert named is not None
        with context.database.session() as db:
            end = db.get_one(Grant, named.grant_id).refresh_expires_at
        second = rp.refresh(first["refresh_token"]).json()
        with context.database.session() as db:
            grant = db.get_one(Grant, named.grant_id)
            assert grant.refresh_expires_at == end, "using it moves the end"
            grant.refresh_expires_at = context.now()
    assert rp.refresh(second["refresh_token"]).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("kind", KINDS)
def test_revoked_and_spent_things_stay_so_over_a_restart_and_an_empty_redis(
    _all_stores: Stores,  # noqa: PT019
    tmp_path: Path,
    kind: str,
) -> None:
    with _all_stores.environment(kind, tmp_path / "data") as environment:
        server = YimenServer(environment)
        with server:
            citizen, rp, visitor = add_citizen(server), add_client(server, "公积金"), Visitor(server.url)
            answer = sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)
            revoked = rp.redeem(answer["code"]).json()
            assert rp.post("/revoke", {"token": revoked["refresh_token"]}).status_code == 200
            spent = answer_of(visitor.walk(rp.authorize_url()))["code"]
            assert rp.redeem(spent).status_code == 200
        if environment["YIMEN_REDIS_URL"]:
            with redis.Redis.from_url(environment["YIMEN_REDIS_URL"]) as client:
                client.flushdb()
        with server:
            assert rp.refresh(revoked["refresh_token"]).json()["error"] == "invalid_grant"
            assert rp.userinfo(revoked["access_token"]).status_code == 401
            assert rp.redeem(spent).json()["error"] == "invalid_grant"
            assert "code" in answer_of(visitor.walk(rp.authorize_url(prompt="none"))), "a session is a row"
