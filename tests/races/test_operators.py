"""S06: operators who change one client at the same moment. Each either wins or is told; nobody's change is lost."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import select

from clients import registry
from clients.registry import WrongState
from idp.context import Context
from idp.models import Client, ClientSecret
from tests.races.stage import METADATA
from tests.support.context import opened

OPERATORS = 8
SHORT, LONG = 5, 200


@pytest.fixture
def context(stores: dict[str, str]) -> Iterator[Context]:
    with opened(stores) as found:
        yield found


def new_client(context: Context) -> tuple[str, int]:
    """Its id and version."""
    with context.database.session() as db:
        made = registry.create(context, db, metadata=METADATA)
        return made.client.id, made.client.version


def at_once(context: Context, act: Callable[[Any, int], Any]) -> dict[int, Any]:
    """What each operator who won got; the others were told of a conflict."""
    barrier, won = threading.Barrier(OPERATORS), dict[int, Any]()
    refused, faults = list[int](), list[BaseException]()

    def operate(number: int) -> None:
        try:
            barrier.wait()
            with context.database.session() as db:
                result = act(db, number)
            won[number] = result
        except WrongState:  # 409
            refused.append(number)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=operate, args=(number,)) for number in range(OPERATORS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert sorted([*won, *refused]) == list(range(OPERATORS))
    return won


def edit(context: Context) -> None:
    """All have read the same registration, and each adds an address of their own."""
    client_id, version = new_client(context)

    def add_address(db: Any, number: int) -> None:
        addresses = [*METADATA["redirect_uris"], f"https://rp.example.test/{number}"]
        metadata = {**METADATA, "redirect_uris": addresses}
        registry.change(context, db, client_id, metadata=metadata, version=version)

    won = at_once(context, add_address)
    assert len(won) == 1
    with context.database.session() as db:
        client = db.get_one(Client, client_id)
        assert client.version == version + 1
        last = registry.metadata_of(client)["redirect_uris"][-1]
    assert last == f"https://rp.example.test/{next(iter(won))}"


def rotate(context: Context) -> None:
    """Every secret that was handed out works, and the last one alone has no end."""
    client_id, version = new_client(context)
    won = at_once(context, lambda db, _: registry.rotate_secret(context, db, client_id))
    assert won
    with context.database.session() as db:
        rows = db.execute(
            select(ClientSecret.hash, ClientSecret.expires_at).where(ClientSecret.client_id == client_id)
        ).all()
        assert db.get_one(Client, client_id).version == version + len(won)
    kept = {hash for hash, _ in rows}
    assert {hashlib.sha256(secret.encode()).digest() for secret in won.values()} <= kept
    assert [end for _, end in rows].count(None) == 1


CHANGES = pytest.mark.parametrize("change", [edit, rotate], ids=["edit", "rotate"])


@CHANGES
def test_operators_at_once_lose_no_change(context: Context, change: Callable[[Context], None]) -> None:
    for _ in range(SHORT):
        change(context)


@pytest.mark.long
@CHANGES
def test_operators_at_once_lose_no_change_in_two_hundred_runs(
    context: Context, change: Callable[[Context], None]
) -> None:
    for _ in range(LONG):
        change(context)
