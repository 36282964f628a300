"""Alembic: changes the shape of tables, never whose rows they are."""

import time
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import LockNotAvailable
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

TRIES = 60  # for a lock, of about two seconds each


def _alembic(engine: Engine | None = None) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["engine"] = engine
    return config


def head() -> str:
    """The revision that this version of the product needs."""
    revision = ScriptDirectory.from_config(_alembic()).get_current_head()
    if revision is None:
        raise RuntimeError("no revision in migrations/schema/versions")
    return revision


def current(engine: Engine) -> str | None:
    """The revision of a database, None when it is empty."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine) -> None:
    """Bring a database to `head`. Repeating it changes nothing; two at once wait for each other.

    A table that is busy is asked for again and again; OperationalError when it never was free.
    """
    for left in reversed(range(TRIES)):
        try:
            command.upgrade(_alembic(engine), "head")
            return
        except OperationalError as error:
            if not left or not isinstance(error.orig, LockNotAvailable):
                raise
        time.sleep(1)
