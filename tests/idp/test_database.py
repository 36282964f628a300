"""The plain way into the database: what the driver says of a store in trouble is Unavailable."""

import pytest
from sqlalchemy import text

from idp import audit
from idp.context import Context
from idp.errors import Unavailable
from tests.support.context import context

__all__ = ["context"]


def test_statement_on_a_store_that_takes_no_writes_is_unavailable(context: Context) -> None:
    """A `Statement` speaks to SQLite's driver itself, so its errors come without SQLAlchemy's wrapping."""
    sqlite = context.database.engine.dialect.name == "sqlite"

    def write() -> None:
        with context.database.session() as db:
            db.execute(text("pragma query_only = on" if sqlite else "set transaction read only"))
            audit.RECORD.run(db, **audit.values(context, "test:record:refused"))

    with pytest.raises(Unavailable):
        write()
