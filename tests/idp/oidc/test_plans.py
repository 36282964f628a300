"""No statement of the hot path reads a whole table, however many people there are."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from idp.oidc import store
from idp.statements import Statement
from tests.support.stores import upgrade

STATEMENTS = {name: found for name, found in vars(store).items() if isinstance(found, Statement)}


@pytest.fixture(scope="module")
def database(postgres_url: Callable[[], str]) -> Iterator[psycopg.Connection[Any]]:
    """A connection that plans as for large tables."""
    url = postgres_url()
    upgrade(url)
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute("set plan_cache_mode = force_generic_plan; set enable_seqscan = off")
        yield connection


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_finds_every_row_by_an_index(name: str, database: psycopg.Connection[Any]) -> None:
    statement = STATEMENTS[name]
    types = ["int", *statement.columns.values()]
    database.execute(f"prepare asked ({', '.join(f'{kind}[]' for kind in types)}) as {statement.postgresql}".encode())
    try:
        asked = f"explain (format json) execute asked ({', '.join(['null'] * len(types))})"
        found = database.execute(asked.encode()).fetchone()
    finally:
        database.execute("deallocate asked")
    assert found is not None
    assert [node for node in nodes(found[0][0]["Plan"]) if reads_all(node)] == []


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {name: value for name, value in plan.items() if name != "Plans"}
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def reads_all(node: dict[str, Any]) -> bool:
    """Whether a node goes through a table, or a whole index of it, without a condition that an index answers."""
    kind = node["Node Type"]
    return kind == "Seq Scan" or (kind in ("Index Scan", "Index Only Scan") and "Index Cond" not in node)


def test_plan_that_reads_all_is_noticed(database: psycopg.Connection[Any]) -> None:
    found = database.execute("explain (format json) select * from accounts where level = 3").fetchone()
    assert found is not None
    assert any(reads_all(node) for node in nodes(found[0][0]["Plan"]))
