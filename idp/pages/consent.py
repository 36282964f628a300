"""Consent: which client wants to know what, with the values masked; agree and refuse are equally easy.

Exactly what is shown is agreed to: the form carries the version of its terms, and when these changed meanwhile the
page comes again.
"""

from collections.abc import Set
from dataclasses import dataclass
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
from idp.oidc import terms
from idp.oidc.client import RelyingParty
from idp.oidc.interaction import Interaction, begin_for
from idp.oidc.terms import Changed, Terms
from idp.pages.values import ConsentItem, ConsentPage, TermsChange
from idp.pages.visitor import Visitor, meet_with_request, next_step, requester, save


@dataclass(frozen=True, slots=True)
class _Offer:
    """What the page proposes: the scope of the agreement, its terms, and how they differ from the ones before."""

    scope: str
    terms: Terms
    kept: tuple[str, ...]  # agreed to before under these very terms: they go on
    changes: tuple[Changed, ...]
    since: int  # when the agreement before was made, 0 when there is none in force


def get_consent(context: Context, request: Request, db: Session) -> Response:
    visitor, asked = meet_with_request(context, request)
    session, account = visitor.must_be_signed_in(db)
    if asked.session != session.id:  # the first page of this person: remember whose progress begins
        begin_for(asked, session.id)
        save(visitor, asked)
    return _show(visitor, asked, db, account)


def _show(visitor: Visitor, asked: Interaction, db: Session, account: Account, *, again: bool = False) -> Response:
    context, (who, party) = visitor.context, requester(visitor, asked, db)
    offer, metadata = _offer(visitor, asked, db, account, party), party.metadata
    more = {change.after for change in offer.changes if change.what in ("scope", "wider")}
    page = ConsentPage(
        requester=who,
        purpose=party.shown("purpose", visitor.locale),
        policy_uri=str(metadata.get("policy_uri", "")),
        tos_uri=str(metadata.get("tos_uri", "")),
        acting=_capacity(context, db, account, asked),
        can_switch=asked.acting_chosen,
        items=_items(context, db, account, asked, more),
        kept=offer.kept,
        changes=[_told(one) for one in offer.changes],
        since=offer.since,
        version=offer.terms.version.hex(),
        again=again,
        valid_days=consents.LIFE_SECONDS // 86_400,
        return_host=urlsplit(asked.redirect_uri).netloc or urlsplit(asked.redirect_uri).scheme,
    )
    return visitor.show("consent.html", status=409 if again else 200, leads_to_client=True, page=page)


def _told(change: Changed) -> TermsChange:
    """A registered value that appears or goes is told in other words than one that changes."""
    what = change.what
    if what in terms.SHOWN and not change.after:
        what += "_gone"
    elif what == "purpose" and not change.before:
        what += "_new"
    return TermsChange(what=what, before=change.before, after=change.after)


def post_consent(context: Context, request: Request, db: Session) -> Response:
    """The scope is that of the paused request and never one from the form; the terms are those of the page."""
    visitor, asked = meet_with_request(context, request)
    visitor.require_own_form()
    session, account = visitor.must_be_signed_in(db)
    if asked.session != session.id:
        raise InteractionExpired(detail="another person's request")
    if request.value("decision") == "approve":
        offer = _offer(visitor, asked, db, account, requester(visitor, asked, db)[1])
        if request.value("version") != offer.terms.version.hex():
            return _show(visitor, asked, db, account, again=True)
        agreed = consents.Agreed(
            offer.scope, offer.terms.version, offer.terms.document, visitor.locale, asked.mandate_id
        )
        consents.record(context, db, account.id, asked.client_id, agreed)
        asked.consented = asked.consent_scope
    else:
        asked.denied = True
        audit.record(context, db, "consent:scope:refused", account=account.id, client=asked.client_id, result="refused")
    save(visitor, asked)
    return redirect(next_step(context, asked))


def _offer(visitor: Visitor, asked: Interaction, db: Session, account: Account, party: RelyingParty) -> _Offer:
    """Where the terms are still those of the agreement before, it is extended; else what is shown stands alone."""
    earlier = consents.find(db, account.id, asked.client_id)
    if earlier is None or not consents.in_force(earlier, visitor.context.now()):
        return _Offer(asked.consent_scope, terms.of(party, asked.consent_scope), (), (), 0)
    wanted, agreed = asked.consent_scope.split(), earlier.scope.split()
    holds = terms.hold(party, earlier.scope, earlier.version)
    kept = [word for word in agreed if holds and word not in wanted]
    kept = party.get_allowed_scope(" ".join(kept)).split()
    scope = " ".join([*wanted, *kept])
    current, before = terms.of(party, scope), consents.text_of(db, earlier.version)
    if before is None:
        changes = [Changed("scope", after=word) for word in wanted if word not in agreed]
    else:
        changes = terms.changes(before, current.document, visitor.locale)
    return _Offer(scope, current, tuple(kept), tuple(changes), earlier.granted_at)


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


def _items(context: Context, db: Session, account: Account, asked: Interaction, more: Set[str]) -> list[ConsentItem]:
    person = accounts.reveal(context, db, account)
    masked = {
        "profile": identifiers.mask_name_own(person.name),
        "email": _mask_email(person.email),
        "phone": identifiers.mask_phone(person.phone) if person.phone else "",
        "identity": identifiers.mask_name_own(person.name),
        "identity_number": identifiers.mask_number_own(person.number) if person.number else "",
        "organization": _capacity(context, db, account, asked),
    }
    words = [word for word in asked.consent_scope.split() if word != "openid"]
    return [ConsentItem(scope=word, value=masked.get(word, ""), more=word in more) for word in words]


def _mask_email(address: str) -> str:
    name, separator, host = address.partition("@")
    return f"{name[:1]}***{separator}{host}" if separator else ""
