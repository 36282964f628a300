"""The revisions make the very tables that the models describe, on both databases."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from idp.context import Context
from idp.models import Base
from migrations import schema
from tests.support.context import context

__all__ = ["context"]


def test_revisions_and_models_agree(context: Context) -> None:
    engine = context.database.engine
    schema.upgrade(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    assert schema.current(engine) == schema.head()
