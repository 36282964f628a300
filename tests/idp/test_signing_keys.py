"""Signing keys through their states: times, private parts that go, processes that converge."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from idp import keys
from idp.context import Context
from idp.errors import Unavailable
from idp.keys import JWKS_SECONDS, RETIRED_SECONDS, KeyRing
from idp.models import SigningKey
from idp.oidc import profiles
from tests.support.context import context, opened

__all__ = ["context"]


@pytest.fixture
def other(context: Context, stores: dict[str, str]) -> Iterator[Context]:
    """A second process on the same stores."""
    with opened(stores) as found:
        yield found


def rotate(context: Context, now: int | None = None) -> list[str]:
    with context.database.session() as session:
        return keys.rotate(session, context.vault, now or context.now())


def states(context: Context) -> dict[str, str]:
    with context.database.session() as session:
        return {key["kid"]: key["state"] for key in keys.listing(session, gone=True)}


def reload(context: Context, now: int | None = None) -> None:
    with context.database.session(write=False) as session:
        context.keys.reload(session, context.vault, now or context.now())


def sign(context: Context) -> str:
    return context.keys.sign({"sub": "x"}, typ="JWT", algorithm="ES256")


def test_retired_key_outlives_all_that_it_signed() -> None:
    """By far: the longest life of a signed token, a cached key set, and workers that are behind."""
    assert RETIRED_SECONDS > 10 * (profiles.ID_TOKEN_SECONDS + JWKS_SECONDS)


def test_rotate_moves_each_key_one_state_on_with_its_time(context: Context) -> None:
    before, now = states(context), context.now()
    rotate(context, now)
    after = states(context)
    moved = {"next": "active", "active": "retired"}
    assert {kid: after[kid] for kid in before} == {kid: moved[state] for kid, state in before.items()}
    with context.database.session() as session:
        for key in keys.listing(session):
            assert (key["activated_at"] is None) == (key["state"] == "next")
            assert key["retired_at"] == (now if key["state"] == "retired" else None)


def test_gone_key_has_no_private_part_and_is_not_published(context: Context) -> None:
    now = context.now()
    token = sign(context)
    rotate(context, now)
    reload(context)
    assert context.keys.verify(token, typ="JWT") == {"sub": "x"}
    with context.database.session() as session:
        assert keys.bury(session, now + RETIRED_SECONDS) == []
        buried = keys.bury(session, now + RETIRED_SECONDS + 1)
        assert len(buried) == 2
        for row in session.scalars(select(SigningKey).where(SigningKey.state == "gone")):
            assert (row.kid in buried, row.sealed_private, row.gone_at) == (True, b"", now + RETIRED_SECONDS + 1)
        assert len(keys.listing(session)) == 4
    reload(context)
    assert context.keys.verify(token, typ="JWT") is None
    assert not any(kid.encode() in context.keys.jwks for kid in buried)


def test_retired_key_is_withdrawn_in_time_though_nobody_buried_it(context: Context) -> None:
    now = context.now()
    token = sign(context)
    rotate(context, now)
    reload(context, now + RETIRED_SECONDS)
    assert context.keys.verify(token, typ="JWT") == {"sub": "x"}
    reload(context, now + RETIRED_SECONDS + 1)
    assert context.keys.verify(token, typ="JWT") is None


def test_process_that_is_behind_and_the_others_verify_each_other(context: Context, other: Context) -> None:
    rotate(context)
    reload(context)
    late, early = sign(other), sign(context)
    assert late.split(".")[0] != early.split(".")[0]
    for one in (context, other):
        assert one.keys.verify(late, typ="JWT") == one.keys.verify(early, typ="JWT") == {"sub": "x"}
    reload(other)
    assert sign(other).split(".")[0] == early.split(".")[0]
    assert other.keys.jwks == context.keys.jwks


def test_fresh_process_reads_what_the_others_have(context: Context) -> None:
    rotate(context)
    reload(context)
    fresh = KeyRing()
    with context.database.session() as session:
        fresh.reload(session, context.vault, context.now())
    assert fresh.verify(sign(context), typ="JWT") == {"sub": "x"}
    assert fresh.jwks == context.keys.jwks


def test_rotation_by_two_at_once_leaves_one_active_key_each(context: Context, other: Context) -> None:
    def work(one: Context) -> object:
        try:
            return rotate(one)
        except Unavailable as error:  # it waited too long for the others
            return error

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, [context, other] * 4))
    rotations = [answer for answer in found if isinstance(answer, list)]
    assert rotations
    counts = Counter(states(context).values())
    assert counts == {"active": 2, "next": 2, "retired": 2 * len(rotations)}


def test_caches_know_the_first_next_keys_and_later_ones_in_time(context: Context) -> None:
    now = context.now()
    with context.database.session() as session:
        assert keys.unknown_to_caches(session, now) == 0
        keys.rotate(session, context.vault, now + 10)
        assert keys.unknown_to_caches(session, now + 20) == JWKS_SECONDS - 10
        assert keys.unknown_to_caches(session, now + 10 + JWKS_SECONDS) == 0


def test_uses_are_counted_by_key(context: Context) -> None:
    for _ in range(3):
        sign(context)
    with context.database.session() as session:
        uses = context.keys.take_uses()
        keys.record_uses(session, uses, 5_000)
        keys.record_uses(session, uses, 6_000)
        keys.record_uses(session, context.keys.take_uses(), 7_000)
        used = [key for key in keys.listing(session) if key["signatures"]]
    assert [(key["algorithm"], key["state"], key["signatures"], key["last_signed_at"]) for key in used] == [
        ("ES256", "active", 6, 6_000)
    ]
