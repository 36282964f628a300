"""Sign in with a password, as a person; on the organization tab too, where the credit code only preselects."""

from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.orm import Session
from starlette.responses import Response

from idp import accounts, identifiers, known_devices, mandates, organizations, sessions
from idp.authn import METHODS
from idp.context import Context
from idp.http.request import Request
from idp.http.response import DEVICE_COOKIE, SESSION_COOKIE, redirect, set_cookie
from idp.models import Account, SignOn
from idp.oidc.interaction import Interaction, begin_for
from idp.oidc.requested import told_level
from idp.pages.password_attempt import sign_in
from idp.pages.values import LoginPage
from idp.pages.visitor import Visitor, meet, next_step, requester, save


def get_login(context: Context, request: Request, db: Session) -> Response:
    visitor = meet(context, request)
    kind = "org" if visitor.request_value("kind") == "org" else "person"
    if visitor.asked is None and visitor.signed_in(db):
        return redirect(context.url("/account"))
    hint = visitor.asked.login_hint if visitor.asked else ""
    return _show(visitor, db, kind=kind, identifier=hint)


def post_login(context: Context, request: Request, db: Session) -> Response:
    visitor = meet(context, request)
    visitor.require_own_form()
    kind = "org" if request.value("kind") == "org" else "person"
    typed, organization = request.value("identifier").strip(), request.value("organization").strip()
    problem = _missing(typed, request.value("password"), kind, organization)
    if problem:
        return _show(visitor, db, kind=kind, identifier=typed, organization=organization, error=problem)
    client = visitor.asked.client_id if visitor.asked else None
    account = sign_in(context, db, typed, request.value("password"), request.cookies.get(DEVICE_COOKIE, ""), client)
    if account is None:
        return _show(visitor, db, kind=kind, identifier=typed, organization=organization, error="login_failed")
    return _start(visitor, db, account, organization if kind == "org" else "")


def _missing(typed: str, secret: str, kind: str, organization: str) -> str:
    if kind == "org" and not identifiers.check_uscc(organization).ok:
        return "uscc_bad"
    if not typed:
        return "identifier_missing"
    return "" if secret else "password_missing"


def _start(visitor: Visitor, db: Session, account: Account, organization: str) -> Response:
    context, method = visitor.context, METHODS["password"]
    account = accounts.get(db, account.id)
    current = visitor.signed_in(db)
    proof = sessions.Proof(method.level, method.amr)
    asked = visitor.asked
    client, replacing = asked.client_id if asked else None, current[0] if current else None
    session, handle = sessions.start(context, db, account, proof, replacing=replacing, client=client)
    if asked is not None:
        begin_for(asked, session.id)
        asked.authenticated = True
        asked.preferred_mandate = _mandate_for(context, db, account, organization)
        save(visitor, asked)
    response = redirect(next_step(context, asked) if asked else context.url("/account"))
    set_cookie(response, SESSION_COOKIE, handle)
    devices = known_devices.remember(context, visitor.request.cookies.get(DEVICE_COOKIE, ""), account.id)
    set_cookie(response, DEVICE_COOKIE, devices, max_age=known_devices.LIFETIME_SECONDS)
    return response


def _mandate_for(context: Context, db: Session, account: Account, uscc: str) -> UUID | None:
    """The person's mandate for the organization of this credit code, if there is one in force."""
    checked = identifiers.check_uscc(uscc) if uscc else None
    found = organizations.find_by_uscc(context, db, checked.canonical) if checked and checked.canonical else None
    if found is None:
        return None
    held = mandates.in_force(db, account.id, context.now())
    return next((mandate.id for mandate, organization in held if organization.id == found.id), None)


def _reason(asked: Interaction | None, session: SignOn | None) -> str:
    """Why one is asked again though signed in."""
    if asked is None or session is None:
        return ""
    wished = asked.requested.levels
    if wished and told_level(wished, session.level) is None:
        return "level"
    if {"login", "select_account"} & set(asked.prompt):
        return "prompt_login"
    return "max_age" if asked.max_age is not None and not asked.authenticated else ""


def _show(
    visitor: Visitor, db: Session, *, kind: str, identifier: str, organization: str = "", error: str = ""
) -> Response:
    asked, current = visitor.asked, visitor.signed_in(db)
    page = LoginPage(
        requester=requester(visitor, asked, db)[0] if asked else None,
        kind=kind,
        identifier=identifier,
        organization=organization,
        error=error,
        reason=_reason(asked, current[0] if current else None),
        own_address=urlsplit(visitor.context.config.issuer).netloc,
    )
    return visitor.show("login.html", status=400 if error else 200, leads_to_client=True, page=page)
