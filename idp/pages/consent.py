"""Consent: which client wants to know what, with the values masked; agree and refuse are equally easy."""

from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from idp import accounts, audit, consents, identifiers, mandates
from idp.context import Context
from idp.errors import InteractionExpired
from idp.http.request import Request
from idp.http.response import redirect
from idp.models import Account, Mandate, Organization
from idp.oidc.interaction import Interaction, begin_for
from idp.pages.values import ConsentItem, ConsentPage
from idp.pages.visitor import meet_with_request, next_step, requester, save


def get_consent(context: Context, request: Request, db: Session) -> Response:
    visitor, asked = meet_with_request(context, request)
    session, account = visitor.must_be_signed_in(db)
    if asked.session != session.id:  # the first page of this person: remember whose progress begins
        begin_for(asked, session.id)
        save(visitor, asked)
    who, party = requester(visitor, asked, db)
    metadata = party.metadata
    page = ConsentPage(
        requester=who,
        policy_uri=str(metadata.get("policy_uri", "")),
        tos_uri=str(metadata.get("tos_uri", "")),
        acting=_capacity(context, db, account, asked),
        can_switch=asked.acting_chosen,
        items=_items(context, db, account, asked),
        valid_days=consents.LIFE_SECONDS // 86_400,
        return_host=urlsplit(asked.redirect_uri).netloc or urlsplit(asked.redirect_uri).scheme,
    )
    return visitor.show("consent.html", leads_to_client=True, page=page)


def post_consent(context: Context, request: Request, db: Session) -> Response:
    """Exactly what was shown is agreed to: the scope of the paused request, never one from the form."""
    visitor, asked = meet_with_request(context, request)
    visitor.require_own_form()
    session, account = visitor.must_be_signed_in(db)
    if asked.session != session.id:
        raise InteractionExpired(detail="another person's request")
    if request.value("decision") == "approve":
        consents.record(context, db, account.id, asked.client_id, asked.consent_scope)
        asked.consented = asked.consent_scope
    else:
        asked.denied = True
        audit.record(context, db, "consent:scope:refused", account=account.id, client=asked.client_id, result="refused")
    save(visitor, asked)
    return redirect(next_step(context, asked))


def _capacity(context: Context, db: Session, account: Account, asked: Interaction) -> str:
    """In whose name: the organization's name, "" for oneself."""
    if asked.mandate_id is None:
        return ""
    return _organization_name(context, db, account, asked.mandate_id)


def _organization_name(context: Context, db: Session, account: Account, mandate_id: UUID) -> str:
    mandate = mandates.get_in_force(db, mandate_id, account.id, context.now())
    if mandate is None:
        raise InteractionExpired(detail="the mandate ended")
    found = db.scalars(
        select(Organization).join(Mandate, Mandate.organization_id == Organization.id).where(Mandate.id == mandate.id)
    ).one()
    return context.vault.unseal("organizations", "sealed_name", found.id, found.sealed_name)


def _items(context: Context, db: Session, account: Account, asked: Interaction) -> list[ConsentItem]:
    person = accounts.reveal(context, db, account)
    masked = {
        "profile": identifiers.mask_name_own(person.name),
        "email": _mask_email(person.email),
        "phone": identifiers.mask_phone(person.phone) if person.phone else "",
        "identity": identifiers.mask_name_own(person.name),
        "identity_number": identifiers.mask_number_own(person.number) if person.number else "",
        "organization": _capacity(context, db, account, asked),
    }
    return [
        ConsentItem(scope=word, value=masked.get(word, "")) for word in asked.consent_scope.split() if word != "openid"
    ]


def _mask_email(address: str) -> str:
    name, separator, host = address.partition("@")
    return f"{name[:1]}***{separator}{host}" if separator else ""
