"""Organizations: legal persons named by their unified social credit code, and who represents them by law."""

from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from idp import accounts, audit, identifiers, mandates
from idp.context import Context
from idp.errors import Conflict, InvalidInput, NotFound
from idp.models import Mandate, Organization
from idp.refusals import NumberRefused, canonical

NAME_LIMIT = 200


class OrganizationExists(Conflict):
    """This credit code is registered already."""

    code = "organization_exists"


def register(
    context: Context,
    session: Session,
    *,
    uscc: str,
    name: str,
    legal_representative: UUID | None = None,
    level: int = 3,
) -> Organization:
    """A new organization, and a mandate without end for the account that represents it by law.

    `level` is what is known about the organization, 1 to 5 (domain.md section 6). Raises NumberRefused,
    InvalidInput, OrganizationExists, NotFound (no such account) and accounts.WrongState (it is locked).
    """
    if level not in range(1, 6):
        raise InvalidInput("the level must be 1 to 5")
    code, shown = canonical(identifiers.check_uscc(uscc)), accounts.as_issued(name)
    if not shown:
        raise NumberRefused("NAME_EMPTY")
    if len(shown) > NAME_LIMIT:
        raise NumberRefused("NAME_LENGTH")
    row = uuid4()
    organization = Organization(
        id=row,
        uscc_index=uscc_index(context, code),
        sealed_uscc=context.vault.seal("organizations", "sealed_uscc", row, code),
        sealed_name=context.vault.seal("organizations", "sealed_name", row, shown),
        level=level,
        created_at=context.now(),
    )
    try:
        with session.begin_nested():
            session.add(organization)
    except IntegrityError:
        raise OrganizationExists("an organization with this credit code is registered") from None
    audit.record(context, session, "organization:registration:created", detail={"organization": str(row)})
    if legal_representative is not None:
        account = accounts.get(session, legal_representative)
        mandates.grant(context, session, organization, account, role="legal_representative", source="command")
    return organization


def uscc_index(context: Context, uscc: str) -> bytes:
    """What a canonical credit code is found by."""
    return context.vault.blind_index("number uscc", uscc)


def find_by_uscc(context: Context, session: Session, uscc: str) -> Organization | None:
    """The organization of a canonical credit code."""
    return session.scalar(select(Organization).where(Organization.uscc_index == uscc_index(context, uscc)))


def get(session: Session, organization_id: UUID) -> Organization:
    """Raises NotFound."""
    found = session.get(Organization, organization_id)
    if found is None:
        raise NotFound("there is no such organization")
    return found


def uscc_of(context: Context, organization: Organization) -> str:
    return context.vault.unseal("organizations", "sealed_uscc", organization.id, organization.sealed_uscc)


def name_of(context: Context, organization: Organization) -> str:
    return context.vault.unseal("organizations", "sealed_name", organization.id, organization.sealed_name)


def describe(context: Context, session: Session, organization: Organization) -> dict[str, Any]:
    """An organization with its mandates, the holders named by their accounts only. Credit codes are public."""
    held = session.scalars(
        select(Mandate).where(Mandate.organization_id == organization.id).order_by(Mandate.created_at, Mandate.id)
    )
    return {
        "organization": str(organization.id),
        "uscc": uscc_of(context, organization),
        "name": name_of(context, organization),
        "status": organization.status,
        "level": organization.level,
        "mandates": [mandates.describe(mandate) for mandate in held],
        "created_at": organization.created_at,
    }
