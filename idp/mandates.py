"""Mandates: who may act for which organization, for what, until when."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from idp import audit
from idp.context import Context
from idp.errors import Conflict, InvalidInput
from idp.models import Account, Mandate, Organization

ROLES = ("legal_representative", "administrator", "agent")
SHOWN_AFTER_END = 90 * 86_400  # seconds for which a mandate that has run out is still shown to its holder


class RepresentativeExists(Conflict):
    """An organization has one legal representative."""

    code = "legal_representative_exists"


class HolderLocked(Conflict):
    """A locked or closed account can be given nothing."""

    code = "wrong_state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An organization as the holder of a mandate sees it. `valid_until`: epoch seconds, None for no end."""

    mandate_id: UUID
    organization_id: UUID
    name: str
    uscc: str
    role: str
    scope: str
    valid_until: int | None
    expired: bool


def _of(account_id: UUID, now: int) -> tuple[ColumnElement[bool], ...]:
    """Given, begun, and for an organization that exists: all that makes a mandate count but its end."""
    return (
        Mandate.account_id == account_id,
        Mandate.state == "active",
        Mandate.valid_from <= now,
        Organization.status == "active",
    )


def in_force(session: Session, account_id: UUID, now: int) -> list[tuple[Mandate, Organization]]:
    """The mandates by which a person may act at `now` (epoch seconds), the oldest first."""
    found = session.execute(
        select(Mandate, Organization)
        .join(Organization, Organization.id == Mandate.organization_id)
        .where(*_of(account_id, now), or_(Mandate.valid_until.is_(None), Mandate.valid_until > now))
        .order_by(Mandate.created_at, Mandate.id)
    )
    return [(mandate, organization) for mandate, organization in found]


def get_in_force(session: Session, mandate_id: UUID, account_id: UUID, now: int) -> Mandate | None:
    """A mandate of this person when it is in force, else None."""
    held = (mandate for mandate, _ in in_force(session, account_id, now))
    return next((mandate for mandate in held if mandate.id == mandate_id), None)


def choices(context: Context, session: Session, account_id: UUID) -> list[Choice]:
    """What a person may choose from: mandates in force, then those that ran out lately, which cannot be chosen."""
    now = context.now()
    found = session.execute(
        select(Mandate, Organization)
        .join(Organization, Organization.id == Mandate.organization_id)
        .where(
            *_of(account_id, now),
            or_(Mandate.valid_until.is_(None), Mandate.valid_until > now - SHOWN_AFTER_END),
        )
        .order_by(Mandate.created_at, Mandate.id)
    )
    chosen = [_choice(context, mandate, organization, now) for mandate, organization in found]
    return sorted(chosen, key=lambda choice: choice.expired)


def _choice(context: Context, mandate: Mandate, organization: Organization, now: int) -> Choice:
    vault, row = context.vault, organization.id
    return Choice(
        mandate_id=mandate.id,
        organization_id=row,
        name=vault.unseal("organizations", "sealed_name", row, organization.sealed_name),
        uscc=vault.unseal("organizations", "sealed_uscc", row, organization.sealed_uscc),
        role=mandate.role,
        scope=mandate.scope,
        valid_until=mandate.valid_until,
        expired=mandate.valid_until is not None and mandate.valid_until <= now,
    )


def grant(
    context: Context,
    session: Session,
    organization: Organization,
    account: Account,
    *,
    role: str,
    source: str,
    scope: Sequence[str] = (),
    valid_from: int | None = None,
    valid_until: int | None = None,
    granted_by: UUID | None = None,
) -> Mandate:
    """A mandate that needs no acceptance. `scope` names items, none means all matters; times are epoch seconds.

    Raises InvalidInput, HolderLocked, and RepresentativeExists for a second legal representative.
    """
    now = context.now()
    begin = now if valid_from is None else valid_from
    if role not in ROLES:
        raise InvalidInput(f"the role must be one of {', '.join(ROLES)}")
    if valid_until is not None and valid_until <= begin:
        raise InvalidInput("the mandate would end before it begins")
    if account.status != "active":
        raise HolderLocked("the account is not active")
    mandate = Mandate(
        id=uuid4(),
        organization_id=organization.id,
        account_id=account.id,
        role=role,
        scope=" ".join(scope) or "*",
        valid_from=begin,
        valid_until=valid_until,
        source=source,
        granted_by=granted_by,
        created_at=now,
    )
    try:
        with session.begin_nested():
            session.add(mandate)
    except IntegrityError:
        raise RepresentativeExists("the organization has a legal representative") from None
    detail = {"mandate": str(mandate.id), "organization": str(organization.id), "role": role, "source": source}
    audit.record(context, session, "mandate:holder:granted", account=account.id, detail=detail)
    return mandate


def describe(mandate: Mandate) -> dict[str, Any]:
    """A mandate for operators, its holder by account."""
    return {
        "mandate": str(mandate.id),
        "account": str(mandate.account_id),
        "role": mandate.role,
        "scope": mandate.scope,
        "state": mandate.state,
        "source": mandate.source,
        "valid_from": mandate.valid_from,
        "valid_until": mandate.valid_until,
    }
