"""Sign-in history: every sign-in to one's own account, failed ones too, and what staff did with it; from the audit."""

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from idp import accounts, identifiers
from idp.context import Context
from idp.errors import InvalidInput
from idp.http.request import Request
from idp.http.response import redirect
from idp.models import AuditRecord, SignOn
from idp.oidc.logout import find_client
from idp.pages.devices import describe_device
from idp.pages.values import HistoryPage, HistoryRow
from idp.pages.visitor import Visitor

KEPT_SECONDS = 180 * 86_400
PAGE = 50  # records; failures in a row become one line
EVENTS = ("account:person:locked", "account:person:unlocked", "account:password:set")


def get_history(context: Context, request: Request, db: Session) -> Response:
    visitor = Visitor(context, request)
    signed_in = visitor.signed_in(db)
    if signed_in is None:
        return redirect(context.url("/login"))
    current, account = signed_in
    visitor.in_use(current)
    found = _records(context, db, account.id, request.value("before"))
    shown = found[:PAGE]
    page = HistoryPage(
        name=identifiers.mask_name_own(accounts.reveal(context, db, account).name),
        rows=_rows(visitor, db, shown, current.id),
        older=_cursor(shown[-1]) if len(found) > PAGE else "",
        first=not request.value("before"),
    )
    return visitor.show("account_history.html", page=page)


def _records(context: Context, db: Session, account_id: UUID, before: str) -> list[AuditRecord]:
    """This person's own records, the newest first, one more than a page. Raises InvalidInput for a wrong cursor."""
    wanted = or_(
        AuditRecord.event.like("session:login:%"), AuditRecord.event.in_(EVENTS), AuditRecord.channel == "counter"
    )
    found = (
        select(AuditRecord)
        .where(AuditRecord.account_id == account_id, AuditRecord.at > context.now() - KEPT_SECONDS, wanted)
        .order_by(AuditRecord.at.desc(), AuditRecord.id.desc())
        .limit(PAGE + 1)
    )
    return list(db.scalars(found.where(_older(before)) if before else found))


def _cursor(record: AuditRecord) -> str:
    return f"{record.at}-{record.id.hex}"


def _older(cursor: str) -> ColumnElement[bool]:
    at, _, name = cursor.partition("-")
    if not (at.isascii() and at.isdigit() and len(at) < 12):
        raise InvalidInput("before is no place in the history")
    try:
        last = UUID(hex=name)
    except ValueError:
        raise InvalidInput("before is no place in the history") from None
    return or_(AuditRecord.at < int(at), and_(AuditRecord.at == int(at), AuditRecord.id < last))


def _rows(visitor: Visitor, db: Session, records: list[AuditRecord], current: UUID) -> list[HistoryRow]:
    details = {record.id: _detail(record) for record in records}
    agents = _agents(db, [detail.get("session") for detail in details.values()])
    names: dict[str, str] = {}
    rows = []
    for alike in _runs(sorted(records, key=_place_of)):
        record, detail = alike[0], details[alike[0].id]
        session = str(detail.get("session", ""))
        rows.append(
            HistoryRow(
                at=record.at,
                event=record.event,
                refused=record.result != "done",
                channel=record.channel,
                methods=str(detail.get("amr") or detail.get("method") or "").split(),
                client=_client(visitor, db, record.client_id, names),
                device=str(detail.get("device") or describe_device(agents.get(session, ""))),
                address=identifiers.coarse_address(record.address),
                by_staff=record.channel == "counter" or record.actor == "command",
                current=session == str(current) and record.event == "session:login:started",
                count=len(alike),
                first=alike[-1].at,
            )
        )
    return rows


def _place_of(record: AuditRecord) -> tuple[int, int]:
    """The newest first. Records know whole seconds: within one, a sign-in follows failures, and these other acts."""
    order = ("session:login:started", "session:login:refused")
    return -record.at, order.index(record.event) if record.event in order else len(order)


def _runs(records: list[AuditRecord]) -> Iterator[list[AuditRecord]]:
    """Each record alone; failures that follow one another from one address and channel together."""

    def alike(record: AuditRecord) -> tuple[Any, ...]:
        if record.result == "done":
            return (record.id,)
        return (record.event, record.channel, record.address, record.client_id)

    for _, run in groupby(records, alike):
        yield list(run)


def _detail(record: AuditRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(record.detail) if record.detail else {}
    return found


def _agents(db: Session, sessions: list[Any]) -> dict[str, str]:
    """The browsers of sessions that are still known, by the session's id."""
    wanted = {UUID(text) for text in sessions if text}
    found = db.execute(select(SignOn.id, SignOn.user_agent).where(SignOn.id.in_(wanted)))
    return {str(session_id): agent for session_id, agent in found}


def _client(visitor: Visitor, db: Session, client_id: str | None, names: dict[str, str]) -> str:
    if client_id is None:
        return ""
    if client_id not in names:
        party = find_client(visitor.context, db, client_id)
        names[client_id] = party.name(visitor.locale) if party else client_id
    return names[client_id]
