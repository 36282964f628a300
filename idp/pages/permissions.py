"""Permissions: which services may know what about me, since when, last used when; and taking that back."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from idp import accounts, consents, identifiers
from idp.context import Context
from idp.errors import NotFound
from idp.http.request import Request
from idp.http.response import redirect
from idp.models import Account, Consent, Grant, Mandate, Organization
from idp.oidc.logout import find_client
from idp.pages.values import PastPermission, PermissionRow, PermissionsPage, WithdrawPage
from idp.pages.visitor import Visitor

PATH = "/account/permissions"
SOON_SECONDS = 14 * 86_400  # from here on the end of a permission is near
PAST_SHOWN = 20
LIMIT = 200  # clients of one person on the page


def get_permissions(context: Context, request: Request, db: Session) -> Response:
    visitor = Visitor(context, request)
    signed_in = visitor.signed_in(db)
    if signed_in is None:
        return redirect(context.url("/login"))
    visitor.in_use(signed_in[0])
    account = signed_in[1]
    rows = _rows(visitor, db, account)
    page = PermissionsPage(
        name=_name(context, db, account),
        permissions=rows,
        past=_past(visitor, db, account),
        withdrawn=_withdrawn(visitor, db, account, {row.client_id for row in rows}),
    )
    return visitor.show("account_permissions.html", page=page)


def get_withdraw(context: Context, request: Request, db: Session) -> Response:
    """What taking back means, before it happens."""
    visitor = Visitor(context, request)
    signed_in = visitor.signed_in(db)
    if signed_in is None:
        return redirect(context.url("/login"))
    visitor.in_use(signed_in[0])
    account = signed_in[1]
    page = WithdrawPage(
        name=_name(context, db, account), permission=_own(visitor, db, account, request.value("client"))
    )
    return visitor.show("account_withdraw.html", page=page)


def post_withdraw(context: Context, request: Request, db: Session) -> Response:
    """Take a permission back; a repeated form is the same act. Raises NotFound for a client that has none."""
    visitor = Visitor(context, request)
    visitor.require_own_form()
    signed_in = visitor.signed_in(db)
    if signed_in is None:
        return redirect(context.url("/login"))
    account, client_id = signed_in[1], request.value("client")
    earlier = consents.find(db, account.id, client_id)
    if earlier is None or not consents.is_withdrawn(earlier):
        _own(visitor, db, account, client_id)
    consents.withdraw(context, db, account.id, client_id)
    return redirect(context.url(f"{PATH}?client={client_id}"))


def _own(visitor: Visitor, db: Session, account: Account, client_id: str) -> PermissionRow:
    """The permission that this person gave the client. Raises NotFound when there is none."""
    found = next((row for row in _rows(visitor, db, account) if row.client_id == client_id), None)
    if found is None:
        raise NotFound()
    return found


def _name(context: Context, db: Session, account: Account) -> str:
    return identifiers.mask_name_own(accounts.reveal(context, db, account).name)


def _rows(visitor: Visitor, db: Session, account: Account) -> list[PermissionRow]:
    """What is in force, the last used first."""
    now, uses = visitor.context.now(), _uses(db, account.id)
    given = db.scalars(
        select(Consent).where(Consent.account_id == account.id).order_by(Consent.granted_at.desc()).limit(LIMIT)
    ).all()
    capacities = _capacities(visitor.context, db, account.id)
    rows = []
    for consent in given:
        if consents.in_force(consent, now):
            acting, last = capacities.get(consent.client_id, ()), uses.get(consent.client_id)
            rows.append(_row(visitor, db, consent, last, acting, now))
    return sorted(rows, key=lambda row: row.last or row.since, reverse=True)


def _row(
    visitor: Visitor, db: Session, consent: Consent, last: int | None, capacities: Iterable[str], now: int
) -> PermissionRow:
    party = find_client(visitor.context, db, consent.client_id)
    return PermissionRow(
        client_id=consent.client_id,
        name=party.name(visitor.locale) if party else consent.client_id,
        purpose=party.shown("purpose", visitor.locale) if party else "",
        policy_uri=party.shown("policy_uri", visitor.locale) if party else "",
        scopes=consent.scope.split(),
        acting=sorted(capacities),
        since=consent.granted_at,
        until=consent.expires_at,
        last=last,
        state="ending" if consent.expires_at - now < SOON_SECONDS else "active",
    )


def _uses(db: Session, account_id: UUID) -> dict[str, int]:
    """By client: when it last got a code or a token for this person."""
    found = db.execute(
        select(
            Grant.client_id,
            func.max(Grant.created_at),
            func.max(Grant.code_spent_at),
            func.max(Grant.rotated_at),
        )
        .where(Grant.account_id == account_id)
        .group_by(Grant.client_id)
    )
    return {client: max(at for at in times if at) for client, *times in found}


def _capacities(context: Context, db: Session, account_id: UUID) -> dict[str, set[str]]:
    """By client: as whom the person used it in grants that were not revoked; "" is oneself."""
    found = db.execute(
        select(Grant.client_id, Organization)
        .outerjoin(Mandate, Mandate.id == Grant.mandate_id)
        .outerjoin(Organization, Organization.id == Mandate.organization_id)
        .where(Grant.account_id == account_id, Grant.revoked_at.is_(None))
        .distinct()
    )
    named: dict[str, set[str]] = {}
    for client_id, organization in found:
        named.setdefault(client_id, set()).add(_organization(context, organization))
    return named


def _organization(context: Context, found: Any) -> str:
    return context.vault.unseal("organizations", "sealed_name", found.id, found.sealed_name) if found else ""


def _past(visitor: Visitor, db: Session, account: Account) -> list[PastPermission]:
    past = []
    for agreement in consents.list_agreements(db, account.id, ended=True, limit=PAST_SHOWN):
        party = find_client(visitor.context, db, agreement.client_id)
        past.append(
            PastPermission(
                name=party.name(visitor.locale) if party else agreement.client_id,
                scopes=agreement.scope.split(),
                since=agreement.granted_at,
                ended=agreement.ended_at or agreement.expires_at,
                reason=agreement.end_reason or "replaced",
            )
        )
    return past


def _withdrawn(visitor: Visitor, db: Session, account: Account, living: set[str]) -> str:
    """The name of the client that the address names, when this person has taken its permission back."""
    client_id = visitor.request_value("client")
    earlier = consents.find(db, account.id, client_id) if client_id and client_id not in living else None
    if earlier is None or not consents.is_withdrawn(earlier):
        return ""
    party = find_client(visitor.context, db, client_id)
    return party.name(visitor.locale) if party else client_id
