"""Group load and group commit: rivals, poison, atomic effects, overload, on both databases."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text

from idp import audit, batches
from idp.context import Context
from idp.errors import Overloaded, Unavailable
from idp.models import AuditRecord, Fact
from idp.statements import Change, Done, Load


class FactRow(NamedTuple):
    name: str
    value: str


FACT = Load(
    "fact",
    wanted={"name": "text"},
    row=FactRow,
    sql="select {ordinal}, facts.name, facts.value from wanted join facts on facts.name = wanted.name",
)
ADD = Change(
    "fact added",
    wanted={"name": "text", "value": "text"},
    row=Done,
    key="name",
    then=(audit.RECORD,),
    sql="insert into facts (name, value) select wanted.name, wanted.value from wanted where true returning name",
)
SWAP = Change(
    "fact swapped",
    wanted={"name": "text", "old": "text", "new": "text"},
    row=FactRow,
    then=(audit.RECORD,),
    sql="""
    update facts set value = wanted.new from wanted
     where facts.name = wanted.name and facts.value = wanted.old returning {ordinal}, facts.name, facts.value""",
)


def run(context: Context, story: Callable[[], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        try:
            return await story()
        finally:
            await context.database._loads.close()
            await context.database._commits.close()

    return asyncio.run(whole())


def record(context: Context) -> dict[str, Any]:
    return audit.values(context, "test:fact:changed")


def count(context: Context) -> int:
    with context.database.session(write=False) as session:
        return session.scalar(select(func.count()).select_from(AuditRecord)) or 0


def test_commit_of_fifty_rivals_has_one_winner_and_one_record(context: Context) -> None:
    async def story() -> list[Any]:
        await context.database.commit(ADD, name="a", value="0", **record(context))
        return await asyncio.gather(
            *(context.database.commit(SWAP, name="a", old="0", new=f"new{n}", **record(context)) for n in range(50))
        )

    before = count(context)
    won = [row for row in run(context, story) if row is not None]
    assert len(won) == 1
    assert count(context) - before == 2


def test_load_of_many_answers_each_its_own(context: Context) -> None:
    async def story() -> list[list[FactRow]]:
        for n in range(5):
            await context.database.commit(ADD, name=f"n{n}", value=str(n), **record(context))
        return await asyncio.gather(*(context.database.load(FACT, name=f"n{n % 7}") for n in range(70)))

    for n, rows in enumerate(run(context, story)):
        assert rows == ([FactRow(f"n{n % 7}", str(n % 7))] if n % 7 < 5 else [])


def test_commit_poisoned_member_spares_its_neighbours(context: Context) -> None:
    async def story() -> list[Any]:
        await context.database.commit(ADD, name="taken", value="0", **record(context))
        names = ["x", "taken", "y"]
        return await asyncio.gather(
            *(context.database.commit(ADD, name=name, value="1", **record(context)) for name in names),
            return_exceptions=True,
        )

    x, taken, y = run(context, story)
    assert (x, y) == (Done(), Done())
    assert isinstance(taken, Unavailable)


def test_commit_of_different_kinds_in_one_batch_is_kept(context: Context) -> None:
    async def story() -> list[Any]:
        await context.database.commit(ADD, name="s", value="0", **record(context))
        return await asyncio.gather(
            context.database.commit(ADD, name="t", value="0", **record(context)),
            context.database.commit(SWAP, name="s", old="0", new="1", **record(context)),
            context.database.commit(SWAP, name="s", old="9", new="2", **record(context)),
        )

    assert [row is not None for row in run(context, story)] == [True, True, False]


def test_statement_on_a_page_is_the_same_compare_and_set(context: Context) -> None:
    with context.database.session() as session:
        session.add(Fact(name="p", value="0"))
        assert SWAP.one(session, name="p", old="0", new="1", **record(context)) == FactRow("p", "1")
        assert SWAP.one(session, name="p", old="0", new="2", **record(context)) is None
    with context.database.session(write=False) as session:
        assert session.scalar(select(Fact.value).where(Fact.name == "p")) == "1"


def test_page_that_raises_leaves_nothing_behind(context: Context) -> None:
    def page() -> None:
        with context.database.session() as session:
            session.add(Fact(name="q", value="0"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        page()
    with context.database.session(write=False) as session:
        assert session.scalar(select(Fact.value).where(Fact.name == "q")) is None


def test_queue_that_is_full_refuses(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "QUEUE_LIMIT", 10)

    async def story() -> list[Any]:
        return await asyncio.gather(
            *(context.database.load(FACT, name=str(n)) for n in range(20)), return_exceptions=True
        )

    answers = run(context, story)
    assert sum(isinstance(answer, Overloaded) for answer in answers) == 10


def test_uuid_comes_back_as_it_went(context: Context) -> None:
    class Row(NamedTuple):
        id: UUID
        none: UUID | None

    echo = Load("echo", wanted={"id": "uuid", "none": "uuid"}, row=Row, sql="select {ordinal}, id, none from wanted")
    given = uuid4()
    with context.database.session(write=False) as session:
        assert echo.one(session, id=given, none=None) == Row(given, None)
        session.execute(text("select 1"))
