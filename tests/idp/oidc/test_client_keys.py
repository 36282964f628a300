"""Key sets of clients: fetched through the guard, kept, looked for again, and never a hammer or a stumbling block."""

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update

from clients import registry
from idp.context import Context
from idp.database import Database
from idp.models import ClientKeySet
from idp.oidc import client, client_keys, jose, store
from idp.oidc.client import RelyingParty
from idp.oidc.client_keys import FRESH_RANGE, FRESH_SECONDS, fresh_seconds
from idp.oidc.jose import PublicKey
from idp.outgoing import Outgoing
from tests.support.assertions import KeyPair, KeySite, es256_key, key_site


@pytest.fixture
def site() -> Iterator[KeySite]:
    with key_site() as running:
        yield running


Find = Callable[..., list[PublicKey | None]]


def registered(context: Context, uri: str) -> str:
    given = {
        "client_name": "归集",
        "grant_types": ["client_credentials"],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks_uri": uri,
    }
    with context.database.session() as db:
        return registry.create(context, db, metadata=given).client.id


def found(context: Context, client_id: str, *keys: KeyPair, workers: int = 1) -> list[PublicKey | None]:
    """What `find_key` gives for a token of each key, all at once, on each of several workers."""

    async def find(worker: Context, key: KeyPair) -> PublicKey | None:
        rows = await worker.database.load(store.CLIENT, client=client_id)
        party = client.build(rows, worker.now())
        assert isinstance(party, RelyingParty)
        row = await client_keys.load_row(worker, client_id)
        return await client_keys.find_key(worker, party, row, jose.take_apart(key.jws({"iss": client_id})))

    async def whole() -> list[PublicKey | None]:
        several = [
            dataclasses.replace(
                context,
                database=Database(context.database.url),
                outgoing=Outgoing(context.config.outbound_allow, None, total_seconds=3),
            )
            for _ in range(workers)
        ]
        try:
            return list(await asyncio.gather(*(find(worker, key) for worker in several for key in keys)))
        finally:
            for worker in several:
                await worker.outgoing.close()
                await worker.database.close()

    return asyncio.run(whole())


def age(context: Context, client_id: str, **seconds: int) -> None:
    """Make times of the row older by so many seconds."""
    with context.database.session() as db:
        row = db.get(ClientKeySet, client_id)
        assert row is not None
        values = {name: (getattr(row, name) or 0) - by for name, by in seconds.items()}
        db.execute(update(ClientKeySet).where(ClientKeySet.client_id == client_id).values(values))


def told(context: Context, client_id: str) -> dict[str, Any]:
    with context.database.session(write=False) as db:
        return registry.describe_keys(db, client_id)


def test_keys_are_fetched_once_and_kept_for_all_workers(context: Context, site: KeySite) -> None:
    key = es256_key()
    site.keys = [key.public]
    client_id = registered(context, site.url)
    assert told(context, client_id)["fetched_at"] is None
    answers = found(context, client_id, *[key] * 25, workers=2)
    assert all(answer is not None for answer in answers)
    assert site.calls == 1
    assert found(context, client_id, key) != [None]
    assert site.calls == 1
    shown = told(context, client_id)
    assert (shown["kids"], shown["result"], shown["uri"]) == (["k1"], "1 keys", site.url)


def test_unknown_key_makes_us_look_again_at_most_once_a_minute(context: Context, site: KeySite) -> None:
    old, new = es256_key("old"), es256_key("new")
    site.keys = [old.public]
    client_id = registered(context, site.url)
    assert found(context, client_id, old) != [None]
    site.keys = [new.public]
    assert found(context, client_id, new) != [None], "a client may turn its keys over at any time"
    assert site.calls == 2
    invented = [es256_key(f"x{n}") for n in range(20)]
    assert set(found(context, client_id, *invented, workers=2)) == {None}
    assert found(context, client_id, old) == [None]
    assert site.calls == 2, "whoever invents key names makes us call nobody"
    age(context, client_id, searched_at=61)
    assert set(found(context, client_id, *invented, workers=2)) == {None}
    assert site.calls == 3


def test_keys_are_fetched_again_when_they_are_no_longer_fresh(context: Context, site: KeySite) -> None:
    key = es256_key()
    site.keys, site.headers = [key.public], {"Cache-Control": "max-age=600"}
    client_id = registered(context, site.url)
    found(context, client_id, key)
    age(context, client_id, fresh_until=601, tried_at=601)
    site.keys = []
    assert found(context, client_id, key) == [None], "a key that was withdrawn ends with the freshness of its set"
    assert site.calls == 2


def test_failing_address_keeps_the_old_keys_for_a_day(context: Context, site: KeySite) -> None:
    key = es256_key()
    site.keys = [key.public]
    client_id = registered(context, site.url)
    found(context, client_id, key)
    site.status = 500
    age(context, client_id, fresh_until=FRESH_SECONDS + 1, tried_at=FRESH_SECONDS)
    assert found(context, client_id, key) != [None]
    assert told(context, client_id)["result"] == "failed: status 500"
    assert found(context, client_id, key) != [None]
    assert site.calls == 2, "the next attempt comes after a pause"
    age(context, client_id, fresh_until=client_keys.STALE_SECONDS, tried_at=60)
    assert found(context, client_id, key) == [None], "but not for ever"
    assert site.calls == 3
    site.status = 200
    age(context, client_id, tried_at=60)
    assert found(context, client_id, key) != [None]


@pytest.mark.parametrize(
    ("body", "status", "result"),
    [
        (b"not json", 200, "failed: no proper JSON"),
        (b"{}", 200, "failed: no member keys"),
        (b'{"keys": [' + b" " * 70_000 + b"]}", 200, "failed: the answer is too long"),
        (b"", 302, "failed: status 302"),
        (b"[" * 60_000, 200, "failed: no proper JSON"),
        (b"\xff\xfe", 200, "failed: no proper JSON"),
    ],
)
def test_answer_that_is_no_key_set_is_told(
    context: Context, site: KeySite, body: bytes, status: int, result: str
) -> None:
    site.body, site.status, site.headers = body, status, {"Location": "http://127.0.0.1:1/"}
    client_id = registered(context, site.url)
    assert found(context, client_id, es256_key()) == [None]
    assert told(context, client_id)["result"] == result
    assert site.calls == 1


def test_k02_fetch_goes_through_the_guard_though_registration_was_fooled(context: Context, site: KeySite) -> None:
    """A name that led outside at registration and leads inside now: no request reaches the inside."""

    async def rebound(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    client_id = registered(context, site.url)
    with context.database.session() as db:
        assert db.get(ClientKeySet, client_id) is not None
        metadata = {**registry.metadata_of(registry.get(db, client_id)), "jwks_uri": "https://rp.example.test/jwks"}
        registry.change(context, db, client_id, metadata=metadata)

    async def fetch() -> None:
        guarded = dataclasses.replace(context, outgoing=Outgoing((), None, resolver=rebound))
        await client_keys._refresh(guarded, client_id, "https://rp.example.test/jwks", unknown=False)

    asyncio.run(fetch())
    assert told(context, client_id)["result"] == "refused: 127.0.0.1 is not on the allow list"
    assert site.calls == 0


def test_new_address_forgets_what_came_from_the_old_one(context: Context, site: KeySite) -> None:
    key = es256_key()
    site.keys = [key.public]
    client_id = registered(context, site.url)
    found(context, client_id, key)
    with context.database.session() as db:
        metadata = {**registry.metadata_of(registry.get(db, client_id)), "jwks_uri": site.url + "?new"}
        registry.change(context, db, client_id, metadata=metadata)
    assert told(context, client_id)["kids"] == []

    async def late(**given: Any) -> object:
        return await context.database.commit(store.CLAIM_FETCH, client=client_id, attempt=uuid4(), **given)

    times = {"at": context.now(), "tried": context.now(), "searched": None}
    assert asyncio.run(late(uri=site.url, **times)) is None, "a fetch from the old address gets no turn any more"
    assert found(context, client_id, key) != [None]
    assert site.calls == 2


def test_silent_address_of_one_client_holds_up_no_other(context: Context, site: KeySite) -> None:
    key = es256_key()
    site.keys, site.delay = [key.public], 2.0
    slow, quick = registered(context, site.url), registered(context, site.url.replace("/jwks", "/other"))
    with context.database.session() as db:
        row = db.get(ClientKeySet, quick)
        assert row is not None
        row.keys_json, row.fetched_at = json.dumps({"keys": [key.public]}), context.now()
        row.fresh_until = context.now() + 600
    done: list[str] = []

    async def one(client_id: str) -> None:
        party = client.build(await context.database.load(store.CLIENT, client=client_id), context.now())
        assert party is not None
        row = await client_keys.load_row(context, client_id)
        assert await client_keys.find_key(context, party, row, jose.take_apart(key.jws({})))
        done.append(client_id)

    async def both() -> None:
        try:
            first = asyncio.create_task(one(slow))
            await asyncio.sleep(0.2)
            await asyncio.gather(*(one(quick) for _ in range(20)))
            assert slow not in done
            await first
        finally:
            await context.outgoing.close()
            await context.database._loads.close()
            await context.database._commits.close()

    asyncio.run(both())
    assert done == [quick] * 20 + [slow]


def test_worker_that_died_while_fetching_is_forgotten(context: Context, site: KeySite) -> None:
    key = es256_key()
    site.keys = [key.public]
    client_id = registered(context, site.url)

    async def claim() -> object:
        now = context.now() - client_keys.RETRY_SECONDS
        times = {"at": now, "tried": now, "searched": None}
        return await context.database.commit(
            store.CLAIM_FETCH, client=client_id, uri=site.url, attempt=uuid4(), **times
        )

    assert asyncio.run(claim()) is not None
    before = time.monotonic()
    assert found(context, client_id, key) != [None]
    assert time.monotonic() - before < client_keys.WAIT_SECONDS


def test_inline_keys_need_nobody(context: Context) -> None:
    key = es256_key()
    party = RelyingParty(
        "c", "active", client.PROFILES["baseline"], "c", {"jwks": {"keys": [key.public]}}, (), frozenset()
    )
    assert asyncio.run(client_keys.find_key(context, party, None, jose.take_apart(key.jws({})))) is not None
    assert asyncio.run(client_keys.find_key(context, party, None, jose.take_apart(es256_key("x").jws({})))) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", FRESH_SECONDS),
        ("public, max-age=600", 600),
        ("MAX-AGE=600", 600),
        ("max-age=1", FRESH_RANGE[0]),
        ("max-age=999999999", FRESH_RANGE[1]),
        ("s-maxage=600", FRESH_SECONDS),
        ("max-age=-1", FRESH_SECONDS),
        ("no-store, max-age=600", FRESH_RANGE[0]),
        ("no-cache", FRESH_RANGE[0]),
    ],
)
def test_freshness_follows_the_answer_within_bounds(header: str, seconds: int) -> None:
    assert fresh_seconds(header) == seconds
