"""Alembic's environment: one transaction, one branch, a lock against a second upgrade at once."""

from alembic import context
from sqlalchemy import text

from idp.models import Base

engine = context.config.attributes["engine"]
with engine.connect() as connection:
    context.configure(
        connection=connection, target_metadata=Base.metadata, render_as_batch=engine.dialect.name == "sqlite"
    )
    with context.begin_transaction():
        if engine.dialect.name == "postgresql":
            connection.execute(text("set local statement_timeout = '600s'"))
            connection.execute(text("set local lock_timeout = '60s'"))
            connection.execute(text("select pg_advisory_xact_lock(4241364512)"))
            # Who waits for a whole table makes everybody wait behind it, so it waits shorter than the workers do; and
            # shorter than deadlock_timeout (1 s), so that of two who wait for each other this one gives way.
            connection.execute(text("set local lock_timeout = '500ms'"))
        context.run_migrations()
