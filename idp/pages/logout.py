"""Sign out of everything at once: asked by a relying party or by the person, and what became of it."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from idp import sessions
from idp.context import Context
from idp.http.request import Request
from idp.http.response import SESSION_COOKIE, clear_cookie, redirect
from idp.models import Account, Delivery, Grant, SignOn
from idp.oidc import logout, tokens
from idp.oidc.authorize import add_query
from idp.oidc.logout import LogoutRequest
from idp.pages.values import LoggedOutPage, LogoutPage, ServiceState
from idp.pages.visitor import Visitor

RP_PARAMETERS = ("id_token_hint", "client_id", "post_logout_redirect_uri", "state", "logout_hint", "ui_locales")
SHOWN_SECONDS = 600  # how long the page afterwards may be looked at again


def get_logout(context: Context, request: Request, db: Session) -> Response:
    """RP-Initiated Logout section 2. A genuine hint of this very person and a registered way back need no question."""
    visitor = Visitor(context, request)
    asked = logout.read(context, request, db)
    current = visitor.signed_in(db)
    if current is None:  # nothing to end; without a genuine hint nothing to follow either
        return _leave(context, asked if asked.hinted_subject else LogoutRequest(), None)
    if asked.return_to and _is_of(context, asked, current[1]):
        sessions.end(context, db, current[0].id, reason="logout_by_client")
        return _leave(context, asked, current[0].id)
    page = LogoutPage(services=_services(visitor, db, current[0].id), parameters=asked.parameters)
    return visitor.show("logout.html", leads_to_client=True, page=page)


def post_logout(context: Context, request: Request, db: Session) -> Response:
    """Our own form, or a relying party's POST, which carries no cookies and therefore comes again by GET."""
    if not request.value("decision"):
        logout.read(context, request, db)
        known = [pair for pair in request.form if pair[0] in RP_PARAMETERS]
        return redirect(add_query(context.url("/logout"), known))
    visitor = Visitor(context, request)
    visitor.require_own_form()
    asked = logout.read(context, request, db)
    current = visitor.signed_in(db)
    if request.value("decision") != "logout":
        return redirect(context.url("/account"))
    if current is not None:
        sessions.end(context, db, current[0].id, reason="logout")
    return _leave(context, asked, current[0].id if current else None)


def get_logged_out(context: Context, request: Request, db: Session) -> Response:
    visitor = Visitor(context, request)
    return visitor.show("logged_out.html", page=LoggedOutPage(services=_outcome(visitor, db)))


def _is_of(context: Context, asked: LogoutRequest, account: Account) -> bool:
    party = asked.party
    return party is not None and asked.hinted_subject == tokens.subject(context.vault, party, account.id)


def _leave(context: Context, asked: LogoutRequest, session_id: UUID | None) -> Response:
    if asked.return_to:
        members = [("state", asked.state)] if asked.state is not None else []
        response = redirect(add_query(asked.return_to, members) if members else asked.return_to)
    else:
        response = redirect(context.url("/logged-out" + (f"?session={session_id}" if session_id else "")))
    clear_cookie(response, SESSION_COOKIE)
    return response


def _client_ids(db: Session, session_id: UUID) -> list[str]:
    found = select(Grant.client_id).where(Grant.session_id == session_id).distinct().order_by(Grant.client_id)
    return list(db.scalars(found))


def _name(visitor: Visitor, db: Session, client_id: str) -> str:
    party = logout.find_client(visitor.context, db, client_id)
    return party.name(visitor.locale) if party else client_id


def _services(visitor: Visitor, db: Session, session_id: UUID) -> list[str]:
    return [_name(visitor, db, client_id) for client_id in _client_ids(db, session_id)]


def _outcome(visitor: Visitor, db: Session) -> list[ServiceState]:
    """What became of each service of a session that ended a moment ago."""
    try:
        session_id = UUID(visitor.request_value("session"))
    except ValueError:
        return []
    ended = db.get(SignOn, session_id)
    if ended is None or ended.ended_at is None or visitor.context.now() - ended.ended_at > SHOWN_SECONDS:
        return []
    found = db.execute(select(Delivery.client_id, Delivery.state).where(Delivery.session_id == session_id))
    told: dict[str, str] = dict(found.all())
    words = {"done": "told", "waiting": "pending", "failed": "none"}
    return [
        ServiceState(name=_name(visitor, db, client_id), state=words.get(told.get(client_id, ""), "none"))
        for client_id in _client_ids(db, session_id)
    ]
