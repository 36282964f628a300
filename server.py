"""Composition root and the one command line."""

import asyncio
import dataclasses
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn
from urllib.parse import urlsplit

import click
from alembic.util import CommandError
from sqlalchemy.exc import DatabaseError, IntegrityError, InterfaceError, OperationalError, ProgrammingError
from starlette.applications import Starlette

from admin import audit as audit_commands
from admin import doctor
from admin.clients import client
from admin.commands import print_json, refusals
from admin.deliveries import deliveries as delivery_commands
from admin.demo import running_demo
from admin.epoch import epoch
from admin.keys import key_group
from admin.organizations import organization
from admin.people import person
from idp import deliveries, keys, logs, master_keys, messages, metrics, purge, sessions, tracing
from idp.authn import password
from idp.chain import anchors, sealer
from idp.config import Config, load_config
from idp.context import Context, new_request_id
from idp.database import Database
from idp.ephemeral import open_ephemeral
from idp.errors import ConfigError, Unavailable, YimenError
from idp.http import serving
from idp.http.application import create_application
from idp.keys import KeyRing
from idp.oidc.logout import build_notice
from idp.outgoing import Outgoing
from idp.pages.errors import show_error
from idp.routes import ROUTES
from idp.senders import open_sender
from migrations import schema

log = logging.getLogger("yimen")

KEYS_SECONDS, CHECK_SECONDS, EXPIRY_SECONDS, SAMPLE_SECONDS = 2, 10, 60, 1
KEY_CARE_SECONDS = 60
EXPIRY_BATCH = 100


class SchemaOutdated(ConfigError):
    """The database has another schema than this version needs."""

    code = "schema_outdated"


# --- composition


def open_context(config: Config) -> Context:
    """Everything a process needs, checked: schema, master key, signing keys. Raises ConfigError, Unavailable."""
    needed = schema.head()
    database = Database(config.database_url, schema_head=needed)
    try:
        return _checked_context(config, database, needed)
    except BaseException:
        database.dispose()  # a refused start leaves nothing open
        raise


def _checked_context(config: Config, database: Database, needed: str) -> Context:
    if config.embedded:
        upgrade_schema(config, database)
    found = schema_of(database)
    if found is None or found < needed:
        raise SchemaOutdated(f"the schema is at {found or 'nothing'}, this version needs {needed}; run: yimen upgrade")
    database.check()
    vault = master_keys.open_vault(config, database)
    context = Context(
        config=config,
        database=database,
        ephemeral=open_ephemeral(config.redis_url),
        vault=vault,
        keys=KeyRing(),
        outgoing=Outgoing(config.outbound_allow, config.outbound_ca),
    )
    _ensure_keys(context)
    reload_keys(context)
    return context


def schema_of(database: Database) -> str | None:
    """The revision of a database, None when it is empty. Raises Unavailable."""
    try:
        return schema.current(database.engine)
    except (OperationalError, InterfaceError) as error:
        raise Unavailable("the database does not answer", detail=type(error.orig).__name__) from None
    except DatabaseError as error:
        raise Unavailable("the database cannot be read", detail=str(error.orig)) from None


def upgrade_schema(config: Config, database: Database) -> None:
    """Bring the schema to head. Of several processes at once on the embedded file one does it, the others wait."""
    if schema_of(database) == schema.head():
        return
    try:
        if not config.embedded:
            schema.upgrade(database.engine)
            return
        config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(config.data_dir / "upgrade.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            schema.upgrade(database.engine)
    except CommandError as error:
        raise SchemaOutdated(f"the database belongs to a newer version: {error}") from None
    except (OperationalError, InterfaceError, ProgrammingError) as error:
        raise Unavailable("the schema cannot be changed", detail=str(error.orig)) from None


def _ensure_keys(context: Context) -> None:
    """Make the first signing keys; of two first starts one wins, and the other takes what it made."""
    try:
        with context.database.session() as session:
            keys.ensure(session, context.vault, context.now())
    except IntegrityError:
        log.info("another process made the signing keys")


def reload_keys(context: Context) -> None:
    """Signing keys and the version of the master key that seals, as another process may have changed them."""
    with context.database.session(write=False) as session:
        context.keys.reload(session, context.vault, context.now())
    master_keys.refresh(context.database, context.vault)


async def close(context: Context) -> None:
    await context.outgoing.close()
    await context.ephemeral.close()
    await context.database.close()


@contextmanager
def command_context() -> Iterator[Context]:
    """The context of one command, closed afterwards."""
    context = open_context(load_config())
    try:
        asked = context.with_request(
            request_id=new_request_id(), channel="service", address="", user_agent="yimen", locale="en"
        )
        yield dataclasses.replace(asked, actor="command")
    finally:
        asyncio.run(close(context))


# --- the application


def create_app() -> Starlette:
    """The application of a worker, configured by the environment."""
    logs.configure()
    return application_of(open_context(load_config()))


def application_of(context: Context) -> Starlette:
    """Routes, error page, and what runs beside the requests."""

    def end_expired() -> None:
        ended = EXPIRY_BATCH
        while ended == EXPIRY_BATCH:  # one short transaction after the other
            with context.database.session() as session:
                ended = sessions.end_expired(context, session, limit=EXPIRY_BATCH)

    def tend_keys() -> None:
        with context.database.session() as session:
            keys.record_uses(session, context.keys.take_uses(), context.now())
            keys.bury(session, context.now())

    async def deliver() -> None:
        await deliveries.run_forever(context, {deliveries.BACKCHANNEL_LOGOUT: build_notice})

    def sample() -> None:
        queues = {**context.database.depths, "password": password.depth(), "spans": len(spans)}
        metrics.sample(queues, {"connections": context.database.connections})

    async def tell() -> None:
        await messages.run_forever(context, open_sender(context))

    async def trace() -> None:
        await tracing.run_forever(context, spans)

    spans = tracing.Spans()
    background = [
        every(SAMPLE_SECONDS, sample),
        every(KEYS_SECONDS, lambda: reload_keys(context)),
        every(CHECK_SECONDS, context.database.check),
        every(EXPIRY_SECONDS, end_expired),
        every(KEY_CARE_SECONDS, tend_keys),
        unending(deliver),
        unending(tell),
        *([unending(trace)] if context.config.traces else []),
        *(unending(partial(loop, context)) for loop in (sealer.run_forever, anchors.run_forever, purge.run_forever)),
    ]
    return create_application(context, ROUTES, background, show_error, spans)


def every(seconds: float, work: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """A loop that does `work` in a thread again and again. An outage pauses it and never ends it."""

    async def once() -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await asyncio.to_thread(work)
            except YimenError as error:
                log.warning("background work waits", extra={"fields": {"detail": error.detail or error.message}})

    return unending(once)


def unending(start: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """A loop that is started anew when an unexpected error ended it: logged whole, and never silently dead."""

    async def again() -> None:
        while True:
            try:
                await start()
            except Exception:
                log.exception("background work failed")
            await asyncio.sleep(1)

    return again


# --- the command line


def _version() -> str:
    try:
        return version("yimen")
    except PackageNotFoundError:
        return "unpacked"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_version(), prog_name="yimen")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Yimen: one door to all matters.

    A command that reads or changes something prints one JSON document on standard output; logs go to standard
    error. Exit status: 0 done, 1 refused (the JSON has error and message), 2 wrong usage. Secrets are read from
    standard input or a file, never from an argument.

    Settings come from the environment (YIMEN_...) or from the TOML file that YIMEN_CONFIG names.

    \b
    Examples:
      yimen run --demo                 a server with made-up people and two services
      yimen client add --help          how a relying party is registered
      yimen doctor                     what is unsafe for production
    """
    os.umask(0o077)  # the database, its journal and whatever else a command makes are nobody else's to read
    ctx.obj = command_context
    logs.configure("INFO" if ctx.invoked_subcommand == "run" else "WARNING")


for command in (person, organization, client, key_group, delivery_commands, *audit_commands.COMMANDS, epoch):
    cli.add_command(command)


@cli.command()
def upgrade() -> None:
    """Bring the schema to the state this version needs. Safe while the previous version serves."""
    with refusals():
        config = load_config()
        database = Database(config.database_url, schema_head=schema.head())
        before = schema_of(database)
        upgrade_schema(config, database)
        print_json({"from": before, "to": schema_of(database)})


@cli.command("doctor")
def examine() -> None:
    """Check configuration, schema, keys and stores, and say what is unsafe for production."""
    with refusals():
        config = load_config()
        explicit = None if "YIMEN_CONFIG" in os.environ else {name for name, value in os.environ.items() if value}
        document = doctor.report(doctor.examine(config, command_context, explicit))
    print_json(document)
    sys.exit(0 if document["ok"] else 1)


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port to listen on; default: that of the issuer.")
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes.")
@click.option("--demo", is_flag=True, help="Make up people and two services, and start the services as well.")
def run(host: str, port: int | None, workers: int, demo: bool) -> None:
    """Start the server.

    The embedded default (SQLite, one process) migrates its own schema. On PostgreSQL the schema must be current:
    run `yimen upgrade` first. More than one worker needs PostgreSQL and Redis. Where nothing names an issuer, it
    follows the port.

    \b
    Examples:
      yimen run --port 9000
      YIMEN_CONFIG=/etc/yimen.toml yimen run --host 0.0.0.0 --workers 8
    """
    try:
        config = _config_of_run(port, demo)
        _refuse_workers(config, workers)
        context = open_context(config)
        port = port or urlsplit(config.issuer).port or 8000
        _serve(context, host, port, workers, demo)
    except YimenError as error:
        click.echo(f"yimen: {error.message}" + (f" ({error.detail})" if error.detail else ""), err=True)
        sys.exit(1)


def _config_of_run(port: int | None, demo: bool) -> Config:
    """The settings, where on the command line's word the issuer follows the port and the demo may call itself."""
    config = load_config()
    if port and "YIMEN_ISSUER" not in os.environ and config.issuer == "http://127.0.0.1:8000":
        os.environ["YIMEN_ISSUER"] = f"http://127.0.0.1:{port}"
    if demo and config.production:
        raise ConfigError("--demo is not for production")
    if demo and not config.outbound_allow:
        os.environ["YIMEN_OUTBOUND_ALLOW"] = "127.0.0.1"
    return load_config()


def _refuse_workers(config: Config, workers: int) -> None:
    if workers > 1 and (config.embedded or not config.redis_url):
        raise ConfigError("--workers above 1 needs PostgreSQL (YIMEN_DATABASE_URL) and Redis (YIMEN_REDIS_URL)")


def _serve(context: Context, host: str, port: int, workers: int, demo: bool) -> None:
    sockets = serving.inherited_sockets()
    if not sockets:
        serving.refuse_taken(host, port)
    serving.raise_open_files()
    signal.signal(signal.SIGTERM, _stop)
    with running_demo(context, host, port) if demo else nullcontext():
        if workers == 1:
            serving.serve_one(application_of(context), host, port, sockets)
            return
        asyncio.run(close(context))
        metrics.share(context.config.data_dir / "metrics")
        serving.serve_many("server:create_app", host, port, workers, sockets)


def _stop(*_: object) -> NoReturn:
    """After the server has shut down it raises the signal again: leave in order, so that the demo ends too."""
    sys.exit(0)


def main() -> None:
    """The command `yimen`."""
    cli(prog_name="yimen")


if __name__ == "__main__":
    main()
