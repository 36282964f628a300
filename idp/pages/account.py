"""The account centre: who am I, how sure is that, where am I signed in; ending what one does not know."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from idp import accounts, identifiers, sessions
from idp.context import Context
from idp.errors import NotFound
from idp.http.request import Request
from idp.http.response import SESSION_COOKIE, clear_cookie, redirect
from idp.models import Grant, SignOn
from idp.oidc.logout import find_client
from idp.pages.devices import describe_device
from idp.pages.values import AccountPage, SessionRow, SessionsPage
from idp.pages.visitor import Visitor


def get_account(context: Context, request: Request, db: Session) -> Response:
    visitor = Visitor(context, request)
    signed_in = visitor.signed_in(db)
    if signed_in is None:
        return redirect(context.url("/login"))
    visitor.in_use(signed_in[0])
    person = accounts.reveal(context, db, signed_in[1])
    page = AccountPage(
        name=identifiers.mask_name_own(person.name),
        number=identifiers.mask_number_own(person.number) if person.number else "",
        type=person.type,
        phone=identifiers.mask_phone(person.phone) if person.phone else "",
        level=signed_in[1].level,
        since=signed_in[1].created_at,
    )
    return visitor.show("account.html", page=page)


def get_sessions(context: Context, request: Request, db: Session) -> Response:
    visitor = Visitor(context, request)
    signed_in = visitor.signed_in(db)
    if signed_in is None:
        return redirect(context.url("/login"))
    current, account = signed_in
    visitor.in_use(current)
    person = accounts.reveal(context, db, account)
    rows = [
        SessionRow(
            id=str(row.id),
            device=describe_device(row.user_agent),
            channel=row.channel,
            address=row.address,
            since=row.auth_time,
            last=row.last_seen_at,
            services=_services(visitor, db, row),
            current=row.id == current.id,
        )
        for row in sessions.list_live(context, db, account.id)
    ]
    rows.sort(key=lambda row: not row.current)
    page = SessionsPage(name=identifiers.mask_name_own(person.name), sessions=rows)
    return visitor.show("account_sessions.html", page=page)


def post_sessions(context: Context, request: Request, db: Session) -> Response:
    """End one of one's own sessions, or all but this one."""
    visitor = Visitor(context, request)
    visitor.require_own_form()
    signed_in = visitor.signed_in(db)
    if signed_in is None:
        return redirect(context.url("/login"))
    current, account = signed_in
    if request.value("all"):
        sessions.end_all(context, db, account.id, reason="ended_by_person", but=current.id)
        return redirect(context.url("/account/sessions"))
    session_id = _own(db, account.id, request.value("session"))
    sessions.end(context, db, session_id, reason="ended_by_person")
    if session_id != current.id:
        return redirect(context.url("/account/sessions"))
    response = redirect(context.url("/login"))
    clear_cookie(response, SESSION_COOKIE)
    return response


def _own(db: Session, account_id: UUID, text: str) -> UUID:
    """A session of this account. Raises NotFound for anybody else's."""
    try:
        found = db.get(SignOn, UUID(text))
    except ValueError:
        found = None
    if found is None or found.account_id != account_id:
        raise NotFound()
    return found.id


def _services(visitor: Visitor, db: Session, row: SignOn) -> list[str]:
    found = select(Grant.client_id).where(Grant.session_id == row.id).distinct().order_by(Grant.client_id)
    parties = (find_client(visitor.context, db, client_id) for client_id in db.scalars(found).all())
    return [party.name(visitor.locale) for party in parties if party is not None]
