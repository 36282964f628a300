"""Commands for what must reach relying parties: look at it, send it again, give it up."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from admin.commands import Opener, answers, print_json, refusals
from idp.context import Context
from idp.deliveries import board
from idp.errors import InvalidInput

COLUMNS = ("delivery", "client_id", "state", "attempts", "error_class", "last_result", "created_at", "next_at")
CLIENT_COLUMNS = (
    "client_id", "waiting", "delivered", "given_up", "waiting_seconds", "failures_in_a_row", "paused_until",
)  # fmt: skip
as_json = click.option("--json/--table", "as_json", default=True, help="One JSON document (default), or a table.")


@click.group()
def deliveries() -> None:
    """Deliveries: logout notices on their way to clients.

    A notice is waiting, delivered or given_up. A client that does not answer is paused for a growing while, so that
    it slows nobody else; after two days a notice is given up.
    """


@deliveries.command("list")
@click.option("--client", default="", metavar="ID", help="Only of this client.")
@click.option("--state", type=click.Choice(list(board.STATES.values())), default=None, help="Only in this state.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, help="How many at most.")
@click.option("--before", default="", metavar="CURSOR", help="Go on where a list ended: its `next`.")
@as_json
def list_deliveries(*, client: str, state: str | None, limit: int, before: str, as_json: bool) -> None:
    """List deliveries, the newest first.

    \b
    Examples:
      yimen deliveries list --state given_up --table
      yimen deliveries list --client c0a1… --limit 200
    """
    with refusals():
        opener: Opener = click.get_current_context().obj
        with opener() as context, context.database.session(write=False) as db:
            rows, after = board.listing(db, client=client, state=state or "", before=before, limit=limit)
            described = [board.describe(row) for row in rows]
        _show({"deliveries": described, "next": after or None}, described, COLUMNS, as_json=as_json)


@deliveries.command("clients")
@as_json
def count_deliveries(*, as_json: bool) -> None:
    """Count deliveries of each client by state, with the longest wait and the pause of a client that is silent.

    \b
    Example:
      yimen deliveries clients --table
    """
    with refusals():
        opener: Opener = click.get_current_context().obj
        with opener() as context, context.database.session(write=False) as db:
            counted = board.count_by_client(db, context.now())
        _show({"clients": counted}, counted, CLIENT_COLUMNS, as_json=as_json)


@deliveries.command("show")
@click.argument("id", type=click.UUID)
@answers
def show_delivery(context: Context, session: Session, *, id: UUID) -> Mapping[str, Any]:
    """Show the delivery ID: where it goes, how often it was tried, and what came of the last attempt."""
    return board.describe(board.get(session, id))


@deliveries.command("retry")
@click.argument("id", type=click.UUID, required=False)
@click.option("--client", default="", metavar="CLIENT", help="All that was given up of this client, up to 500.")
@answers
def retry_delivery(context: Context, session: Session, *, id: UUID | None, client: str) -> Mapping[str, Any]:
    """Send the delivery ID now, with new attempts; a pause of its client ends. Kept in the audit.

    \b
    Examples:
      yimen deliveries retry 6f1c0c1e-…
      yimen deliveries retry --client c0a1…      after the client was mended
    """
    if (id is None) == (not client):
        raise InvalidInput("name one delivery, or a client by --client")
    if id is None:
        return {"client_id": client, "retried": board.retry_client(context, session, client)}
    return board.describe(board.retry(context, session, id))


@deliveries.command("cancel")
@click.argument("id", type=click.UUID)
@click.option("--reason", required=True, help="Kept in the audit; long numbers in it are masked.")
@answers
def cancel_delivery(context: Context, session: Session, *, id: UUID, reason: str) -> Mapping[str, Any]:
    """Give up the waiting delivery ID. The client is not told any more.

    \b
    Example:
      yimen deliveries cancel 6f1c0c1e-… --reason "the client was switched off"
    """
    return board.describe(board.cancel(context, session, id, reason))


def _show(
    document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool
) -> None:
    if as_json:
        print_json(document)
        return
    table = [list(columns), *([_cell(name, row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    for line in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if document.get("next"):
        click.echo(f"more: --before {document['next']}")


def _cell(name: str, value: object) -> str:
    """Times as UTC to the second, nothing as a dash."""
    if name.endswith(("_at", "_until")) and isinstance(value, int):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return "-" if value is None else str(value)
