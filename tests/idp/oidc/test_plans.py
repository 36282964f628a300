"""No statement of the hot path reads the tables that grow with the people, however many there are."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from idp.oidc import store
from idp.statements import Statement
from tests.bench import growth
from tests.support.stores import upgrade

STATEMENTS = {name: found for name, found in vars(store).items() if isinstance(found, Statement)}


@pytest.fixture(scope="module")
def database(postgres_url: Callable[[], str]) -> Iterator[psycopg.Connection[Any]]:
    """Some thousand people in the tables, and a connection that plans for batches of any size."""
    url = postgres_url()
    upgrade(url)
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute("set session_replication_role = replica; set plan_cache_mode = force_generic_plan")
        connection.execute(growth.SAMPLE)
        for statement in growth.STATEMENTS:
            connection.execute(statement, {"last": 4_999, "now": 2_000_000_000, "clients": 10})
        connection.execute("analyze")
        yield connection


def tables_read_whole(connection: psycopg.Connection[Any], query: str) -> set[str]:
    found = connection.execute(f"explain (format json) {query}".encode()).fetchone()
    assert found is not None
    return {
        node["Relation Name"]
        for node in nodes(found[0][0]["Plan"])
        if node.get("Relation Name") in growth.TABLES
        and node["Node Type"] in ("Seq Scan", "Index Scan", "Index Only Scan")
        and "Index Cond" not in node
    }


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_finds_people_by_an_index(name: str, database: psycopg.Connection[Any]) -> None:
    statement = STATEMENTS[name]
    types = ["int", *statement.columns.values()]
    database.execute(f"prepare asked ({', '.join(f'{kind}[]' for kind in types)}) as {statement.postgresql}".encode())
    try:
        assert (
            tables_read_whole(database, f"execute asked ({', '.join(['null'] * len(types))})") - {"consents"} == set()
        )
    finally:
        database.execute("deallocate asked")


def test_statement_that_reads_all_is_noticed(database: psycopg.Connection[Any]) -> None:
    assert tables_read_whole(database, "select * from accounts where level = 3") == {"accounts"}
