"""A change behind a gate: of all that share one mark one is heard, in one batch, over workers, on both databases."""

import asyncio
from collections.abc import Awaitable
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select

from idp import audit
from idp.context import Context
from idp.database import Database
from idp.models import AuditRecord, Spent
from idp.oidc import store
from idp.statements import Tried

GATED = store.once(audit.RECORD)


def run(context: Context, story: Awaitable[Any]) -> Any:
    async def whole() -> Any:
        try:
            return await story
        finally:
            await context.database._loads.close()
            await context.database._commits.close()

    return asyncio.run(whole())


def mark(key: bytes) -> dict[str, object]:
    return {"mark_key": key, "mark_use": uuid4(), "mark_expires_at": 2_000_000_000}


def record(context: Context) -> dict[str, object]:
    return audit.values(context, "test:gate:opened", client="c")


def counts(context: Context) -> tuple[int, int]:
    with context.database.session(write=False) as db:
        spent = db.scalar(select(func.count()).select_from(Spent))
        told = db.scalar(select(func.count()).select_from(AuditRecord).where(AuditRecord.event == "test:gate:opened"))
    return int(spent or 0), int(told or 0)


def test_gate_opens_once_for_fifty_in_one_batch(context: Context) -> None:
    async def rush() -> list[Tried | None]:
        asked = (context.database.commit(GATED, **mark(b"one"), **record(context)) for _ in range(50))
        return await asyncio.gather(*asked)

    found = run(context, rush())
    assert [answer for answer in found if answer is not None] == [Tried(1)]
    assert counts(context) == (1, 1)


def test_gate_opens_once_over_several_workers(context: Context) -> None:
    """Batches of several workers that hold the same marks in different order: no deadlock is an answer."""
    keys = [bytes([i]) for i in range(20)]

    async def rush() -> list[Tried | None]:
        workers = [Database(context.database.url) for _ in range(4)]
        try:
            return await asyncio.gather(
                *(
                    worker.commit(GATED, **mark(key), **record(context))
                    for turn, worker in enumerate(workers)
                    for key in (keys if turn % 2 else reversed(keys))
                )
            )
        finally:
            for worker in workers:
                await worker.close()

    found = run(context, rush())
    assert [answer for answer in found if answer is not None] == [Tried(1)] * 20
    assert counts(context) == (20, 20)


def test_gate_stays_shut_and_nothing_behind_it_happens(context: Context) -> None:
    async def twice() -> list[Tried | None]:
        first = await context.database.commit(GATED, **mark(b"x"), **record(context))
        return [first, await context.database.commit(GATED, **mark(b"x"), **record(context))]

    assert run(context, twice()) == [Tried(1), None]
    assert counts(context) == (1, 1)


def test_gate_is_open_though_the_change_behind_it_lost(context: Context) -> None:
    """The mark is spent all the same, and the effects of the lost change do not happen."""
    gated = store.once(store.REVOKE_GRANT)
    nobody = {"id": uuid4(), "at": 1, "reason": "test"}

    async def go() -> Tried | None:
        return await context.database.commit(gated, **mark(b"y"), **nobody, **record(context))

    assert run(context, go()) == Tried(0)
    assert counts(context) == (1, 0)


def test_gates_of_one_batch_do_not_disturb_each_other(context: Context) -> None:
    async def rush() -> list[Tried | None]:
        asked = [context.database.commit(GATED, **mark(bytes([i % 10])), **record(context)) for i in range(30)]
        lone = [context.database.commit(store.SPEND, **mark(bytes([i % 10 + 100]))) for i in range(20)]
        gated, single = await asyncio.gather(asyncio.gather(*asked), asyncio.gather(*lone))
        assert sum(answer is not None for answer in single) == 10
        return list(gated)

    assert sum(answer is not None for answer in run(context, rush())) == 10
    assert counts(context) == (20, 10)


def test_gate_works_on_the_session_of_a_page(context: Context) -> None:
    given = {**mark(b"z"), **record(context)}
    with context.database.session() as db:
        assert GATED.one(db, **given) == Tried(1)
        assert GATED.one(db, **{**given, "audit_id": UUID(int=1), "mark_use": UUID(int=2)}) is None
