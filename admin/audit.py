"""Commands of the audit: verify, seal, export, purge; and the purge of everything else that is over."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from sqlalchemy import Select, select, tuple_

from admin.commands import FILE, Opener, print_json, read_secret, refusals
from idp import accounts, audit, purge
from idp.chain import anchors, retention, sealer
from idp.chain.verify import Progress, Report, verify
from idp.context import Context
from idp.errors import InvalidInput, NotFound
from idp.logs import mask_numbers
from idp.models import AuditRecord

PAGE = 1_000
PROGRESS_SECONDS = 5.0
CHINA = timezone(timedelta(hours=8))


@contextmanager
def _context() -> Iterator[Context]:
    opener: Opener = click.get_current_context().obj
    with refusals(), opener() as context:
        yield context


@click.group("audit")
def audit_group() -> None:
    """The audit: one record for each security act, sealed in a chain that nobody can bend unnoticed."""


# --- the chain


@audit_group.command("verify")
@click.option(
    "--anchors",
    "files",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="A file of anchors that was kept outside, or what the outside store hands out. May be repeated.",
)
def verify_audit(files: tuple[Path, ...]) -> None:
    """Check the whole chain and name the first record that was tampered with.

    Kinds of faults: changed, removed, inserted, reordered, cut_off (records at the end are missing), head and anchor
    (what tells where the chain stood was changed), no_key (the root key of a record is not known here).
    A database that was set back as a whole is only noticed with --anchors. Exit status 1 when the chain is broken.

    \b
    Examples:
      yimen audit verify
      yimen audit verify --anchors /mnt/worm/audit-anchors.jsonl
    """
    with _context() as context:
        report = verify(context, files=files, progress=_progress())
    print_json(_document(report))
    sys.exit(0 if report.intact else 1)


def _progress() -> Progress:
    """A line on standard error every few seconds."""
    told = time.monotonic()

    def tell(done: int, all_records: int) -> None:
        nonlocal told
        if time.monotonic() - told >= PROGRESS_SECONDS:
            told = time.monotonic()
            click.echo(f"yimen: {done} of {max(done, all_records)} records checked", err=True)

    return tell


def _document(report: Report) -> dict[str, Any]:
    document: dict[str, Any] = {
        "intact": report.intact,
        "records": report.records,
        "first_sequence": report.first,
        "last_sequence": report.last,
        "purged_through": report.purged,
        "unsealed": report.unsealed,
        "anchors": report.anchors,
        "anchors_without_known_key": report.unsigned_anchors,
    }
    if report.intact:
        return document
    total = sum(report.counts.values())
    return {
        "error": "audit_broken",
        "message": f"{report.faults[0].message}; {total} in all",
        **document,
        "counts": report.counts,
        "faults": [fault._asdict() for fault in report.faults],
    }


@audit_group.command("seal")
def seal_audit() -> None:
    """Seal and anchor at once what a running server would seal within seconds; carry waiting anchors outside."""

    async def carry(context: Context) -> tuple[int, int]:
        return anchors.file_pending(context), await anchors.store_pending(context)

    with _context() as context:
        sealed = sealer.seal_all(context)
        place = anchors.make_if_due(context, now_at_latest=True)
        filed, stored = asyncio.run(carry(context))
    print_json({"sealed": sealed, "anchored": place and place.sequence, "filed": filed, "stored": stored})


@audit_group.command("purge")
def purge_audit() -> None:
    """Remove records older than YIMEN_AUDIT_KEEP_DAYS and leave a signed checkpoint that proves the rest.

    Only what is sealed, anchored outside and verified goes; a broken chain is evidence and stays.
    """
    with _context() as context:
        removed = retention.purge(context)
    print_json({"purged": removed})


# --- export


def _moment(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """Epoch seconds of an ISO 8601 time. Without a zone it is China Standard Time."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter("must be a date or time such as 2026-05-01 or 2026-05-01T08:00:00+08:00") from None
    return int((found if found.tzinfo else found.replace(tzinfo=CHINA)).timestamp())


@audit_group.command("export")
@click.option("--from", "since", callback=_moment, metavar="TIME", help="From this time on.")
@click.option("--to", "until", callback=_moment, metavar="TIME", help="Before this time.")
@click.option("--person", type=click.UUID, metavar="ACCOUNT", help="Records about this account.")
@click.option("--person-stdin", is_flag=True, help="Read the person's number from standard input, or ask for it.")
@click.option("--client", metavar="ID", help="Records about this client.")
@click.option("--event", metavar="NAME", help="This event, or with * at the end all that begin so.")
def export_audit(
    since: int | None, until: int | None, person: UUID | None, person_stdin: bool, client: str | None, event: str | None
) -> None:
    """Write records as JSON lines, the oldest first. The export is itself an audit record.

    Times are ISO 8601; without a zone they are China Standard Time. A record that is not sealed yet has no sequence.

    \b
    Examples:
      yimen audit export --from 2026-05-01 --to 2026-06-01 > may.jsonl
      yimen audit export --person-stdin --event 'session:*' < number.txt
    """
    if person is not None and person_stdin:
        raise click.UsageError("--person and --person-stdin exclude each other")
    with _context() as context:
        account = _find_person(context) if person_stdin else person
        asked = {"from": since, "to": until, "person": account and str(account), "client": client, "event": event}
        with context.database.session() as session:
            given = {name: value for name, value in asked.items() if value is not None}
            audit.record(context, session, "audit:records:exported", detail=given)
        for record in _records(context, _asked(since, until, account, client, event)):
            click.echo(json.dumps(_told(record), ensure_ascii=False))


def _find_person(context: Context) -> UUID:
    """The account of a number that is typed unseen or comes through a pipe; it stands in no argument and no output."""
    typed = click.prompt("Number", hide_input=True, err=True) if sys.stdin.isatty() else read_secret()
    with context.database.session(write=False) as session:
        found = accounts.find_for_login(context, session, typed.strip())
    if found is None:
        raise NotFound("the number belongs to no account, or to several")
    return found.id


def _asked(
    since: int | None, until: int | None, account: UUID | None, client: str | None, event: str | None
) -> "Select[AuditRecord]":
    asked = select(AuditRecord).order_by(AuditRecord.at, AuditRecord.id).limit(PAGE)
    if since is not None:
        asked = asked.where(AuditRecord.at >= since)
    if until is not None:
        asked = asked.where(AuditRecord.at < until)
    if account is not None:
        asked = asked.where(AuditRecord.account_id == account)
    if client is not None:
        asked = asked.where(AuditRecord.client_id == client)
    if event is not None and "*" in event.removesuffix("*"):
        raise InvalidInput("an event may have * at its end only")
    if event is not None:
        name = event.removesuffix("*")
        same = AuditRecord.event.startswith(name, autoescape=True) if event.endswith("*") else AuditRecord.event == name
        asked = asked.where(same)
    return asked


def _records(context: Context, asked: "Select[AuditRecord]") -> Iterator[AuditRecord]:
    """All records that are asked for, page by page in short transactions."""
    after: tuple[int, UUID] | None = None
    while True:
        page = asked if after is None else asked.where(tuple_(AuditRecord.at, AuditRecord.id) > after)
        with context.database.session(write=False) as session:
            found: Sequence[AuditRecord] = session.scalars(page).all()
        yield from found
        if len(found) < PAGE:
            return
        after = (found[-1].at, found[-1].id)


def _told(record: AuditRecord) -> Mapping[str, Any]:
    return {
        "sequence": record.sequence,
        "id": str(record.id),
        "at": datetime.fromtimestamp(record.at, UTC).isoformat(),
        "event": record.event,
        "result": record.result,
        "actor": record.actor,
        "account": record.account_id and str(record.account_id),
        "client": record.client_id,
        "channel": record.channel,
        "address": record.address,
        "request": record.request_id,
        "detail": record.detail and _detail(record.detail),
        "hash": record.hash.hex() if record.hash else None,
    }


def _detail(text: str) -> Any:
    """The detail as JSON, or as text where somebody spoiled it."""
    try:
        return _masked(json.loads(text))
    except (ValueError, RecursionError):
        return mask_numbers(text)


def _masked(value: Any) -> Any:
    """The detail with numbers masked as a last defence; ids stay as they are."""
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return mask_numbers(value) if isinstance(value, str) and not _is_uuid(value) else value


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


# --- everything else that is over


@click.command("purge")
def purge_all() -> None:
    """Remove what is over, as a running server does by itself, and say how many rows went.

    Expired codes and refresh families, ended sessions and settled deliveries after YIMEN_ENDED_KEEP_DAYS, revocation
    marks of expired tokens, old client secrets, and audit records after YIMEN_AUDIT_KEEP_DAYS.
    """
    with _context() as context:
        gone = purge.run(context)
    print_json({"purged": gone})


COMMANDS = (audit_group, purge_all)
