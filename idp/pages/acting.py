"""Choose whom to act for: oneself or an organization under a mandate in force. Nothing is preselected."""

from uuid import UUID

from sqlalchemy.orm import Session
from starlette.responses import Response

from idp import accounts, audit, identifiers, mandates
from idp.context import Context
from idp.http.request import Request
from idp.http.response import redirect
from idp.models import Account
from idp.oidc.interaction import Interaction, begin_for
from idp.pages.values import ActingPage, OrganizationChoice, SelfChoice
from idp.pages.visitor import Visitor, meet_with_request, next_step, requester, save


def get_acting(context: Context, request: Request, db: Session) -> Response:
    visitor, asked = meet_with_request(context, request)
    return _show(visitor, asked, db, visitor.must_be_signed_in(db)[1])


def post_acting(context: Context, request: Request, db: Session) -> Response:
    visitor, asked = meet_with_request(context, request)
    visitor.require_own_form()
    session, account = visitor.must_be_signed_in(db)
    chosen = request.value("acting_for")
    mandate = _mandate(context, db, account, chosen)
    if chosen != "self" and mandate is None:
        return _show(visitor, asked, db, account, error="acting_missing")
    begin_for(asked, session.id)
    asked.acting_chosen, asked.mandate_id = True, mandate
    save(visitor, asked)
    detail = {"mandate": str(mandate) if mandate else "self"}
    audit.record(context, db, "session:capacity:chosen", account=account.id, client=asked.client_id, detail=detail)
    return redirect(next_step(context, asked))


def _mandate(context: Context, db: Session, account: Account, chosen: str) -> UUID | None:
    try:
        mandate_id = UUID(chosen)
    except ValueError:
        return None
    found = mandates.get_in_force(db, mandate_id, account.id, context.now())
    return found.id if found else None


def _show(visitor: Visitor, asked: Interaction, db: Session, account: Account, error: str = "") -> Response:
    context = visitor.context
    person = accounts.reveal(context, db, account)
    choices = mandates.choices(context, db, account.id)
    page = ActingPage(
        requester=requester(visitor, asked, db)[0],
        self_choice=SelfChoice(
            name=identifiers.mask_name_own(person.name),
            number=identifiers.mask_number_own(person.number) if person.number else "",
            type=person.type,
        ),
        organizations=[
            OrganizationChoice(
                id=str(choice.mandate_id),
                name=choice.name,
                uscc=choice.uscc,
                role=choice.role,
                scope=choice.scope,
                until=choice.valid_until,
                expired=choice.expired,
                chosen=choice.mandate_id == asked.preferred_mandate,
            )
            for choice in choices
        ],
        error=error,
    )
    return visitor.show("acting.html", status=400 if error else 200, leads_to_client=True, page=page)
