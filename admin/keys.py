"""Commands for keys: signing keys move on, the master key changes while the servers go on."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from admin.commands import Opener, answers, print_json, refusals
from idp import audit, keys, master_keys, reseal, sealed
from idp.context import Context
from idp.errors import Conflict
from idp.models import MasterKey, Reseal

SHOW_SECONDS = 2


class KeysTooYoung(Conflict):
    """Clients may not know the next keys yet."""

    code = "keys_too_young"


@click.group("keys")
def key_group() -> None:
    """The keys that sign tokens, and the master key that seals data."""


@key_group.command("list")
@click.option("--all", "all_keys", is_flag=True, help="Also those that are gone.")
@answers
def list_keys(context: Context, session: Session, *, all_keys: bool) -> Mapping[str, Any]:
    """List the signing keys: next (published, unused), active (signs), retired (published until its tokens have
    expired), gone (private part deleted). Each with the time its states began, and how often it has signed."""
    return {"keys": keys.listing(session, gone=all_keys)}


@key_group.command("rotate")
@click.option("--careful", is_flag=True, help="Refuse while a client's cached key set may lack the next keys.")
@click.option("--master", is_flag=True, help="Change the master key instead; see below.")
@click.option("--status", is_flag=True, help="With --master: only tell how far the change has come.")
@click.option(
    "--rest", type=click.FloatRange(0, 100), default=1.0, show_default=True,
    help="With --master: rest after each batch, as a multiple of the time it took.",
)  # fmt: skip
@click.option(
    "--settle", type=click.IntRange(0, 86_400), default=reseal.SETTLE_SECONDS, show_default=True, metavar="SECONDS",
    help="With --master: how long a transaction may take that began before the change.",
)  # fmt: skip
def rotate(careful: bool, master: bool, status: bool, rest: float, settle: int) -> None:
    """Retire the active signing keys and let the next ones sign. Running servers follow within seconds.

    With --master: change over to the highest version in the master key file and seal everything anew under it,
    while the servers go on. First add a line with a higher version to that file on every host (the number, a blank,
    32 random bytes in Base64); running servers find it by themselves. The command may be stopped at any point and
    started again. When it has finished, it names the versions whose lines may leave the file; keep them with the
    backups that were made before.

    \b
    Examples:
      yimen keys rotate
      echo "2 $(openssl rand -base64 32)" >> /etc/yimen/master.key && yimen keys rotate --master
      yimen keys rotate --master --status
    """
    if status and not master:
        raise click.UsageError("--status belongs to --master")
    opener: Opener = click.get_current_context().obj
    with refusals():
        with opener() as context:
            if status:
                document = master_status(context)
            elif master:
                document = _rotate_master(context, rest, settle)
            else:
                document = _rotate_signing(context, careful)
        print_json(document)


def _rotate_signing(context: Context, careful: bool) -> dict[str, Any]:
    with context.database.session() as session:
        keys.hold(session)
        now = context.now()
        wait = keys.unknown_to_caches(session, now)
        warning = f"clients' cached key sets may lack the next keys for {wait} more seconds"
        if careful and wait:
            raise KeysTooYoung(f"{warning}; wait, or leave out --careful when the active keys must go at once")
        active = keys.rotate(session, context.vault, now)
        audit.record(context, session, "keys:signing:rotated", detail={"active": active})
        document = {"active": active, "keys": keys.listing(session)}
    return {**document, "warnings": [warning]} if wait else document


# --- the master key


def _rotate_master(context: Context, rest: float, settle: int) -> dict[str, Any]:
    version = master_keys.prepare(context)
    began, shown = time.monotonic(), [0.0]

    def show(progress: reseal.Progress) -> None:
        if time.monotonic() - shown[0] < SHOW_SECONDS:
            return
        shown[0] = time.monotonic()
        left = "" if progress.left is None else f", {progress.left} s left"
        click.echo(f"round {progress.round}: {progress.place} {progress.seen:,} of {progress.total:,}{left}", err=True)
        sys.stderr.flush()

    done = reseal.run(context, version, show=show, rest=rest, settle=settle)
    return {"version": version, **done, "seconds": int(time.monotonic() - began)}


def master_status(context: Context) -> dict[str, Any]:
    """The versions with the values that are sealed under each, and how far each column has come."""
    with context.database.session(write=False) as session:
        counts = sealed.count_versions(session)
        rows = session.scalars(select(MasterKey).order_by(MasterKey.version)).all()
        columns = session.scalars(select(Reseal).order_by(Reseal.place)).all()
    return {
        "state": "changing" if any(row.state in ("announced", "opening") for row in rows) else "done",
        "versions": [
            {
                "version": row.version,
                "state": row.state,
                "values": counts.get(row.version, 0),
                "sealing_since": row.sealing_since,
                "retired_at": row.retired_at,
            }
            for row in rows
        ],
        "columns": [
            {
                **{"place": row.place, "version": row.version, "round": row.round, "total": row.total},
                **{"seen": row.seen, "found": row.found, "broken": row.broken},
                **{"left_seconds": _left(row), "updated_at": row.updated_at, "finished_at": row.finished_at},
            }
            for row in columns
        ],
    }


def _left(row: Reseal) -> int | None:
    """Seconds by the pace so far; None before the first batch."""
    if row.finished_at is not None:
        return 0
    return int((row.updated_at - row.started_at) * max(0, row.total - row.seen) / row.seen) if row.seen else None
