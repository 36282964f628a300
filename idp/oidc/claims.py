"""Claims: what a client may learn about a person, by the scopes that were granted."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from idp import identifiers
from idp.context import Context
from idp.oidc import profiles
from idp.oidc.store import ActingRow, GrantRow, SubjectRow


@dataclass(frozen=True, slots=True)
class Subject:
    """A person as far as claims go, unsealed."""

    name: str
    level: int
    updated_at: int
    number: str = ""
    type: str = ""
    phone: str = ""
    phone_verified: bool = False
    email: str = ""
    email_verified: bool = False
    claims: Mapping[str, Any] = field(default_factory=dict)


_PLACES = {
    "identifiers": ("identifiers", "sealed_number"),
    "mentions": ("mentions", "sealed_number"),
    "contacts": ("contacts", "sealed_value"),
}


def unseal(context: Context, rows: Sequence[SubjectRow]) -> Subject:
    """From the rows of store.SUBJECT; the first identifier is the one by which the person is known."""
    first, vault = rows[0], context.vault
    values: dict[str, Any] = {}
    for row in rows:
        if row.kind is None or row.row_id is None or row.sealed_value is None:
            continue  # nothing is known of this person but the name
        table, column = _PLACES[row.kind]
        text = vault.unseal(table, column, row.row_id, row.sealed_value)
        if row.kind == "identifiers" and "number" not in values:
            values |= {"number": text, "type": row.type}
        elif row.kind == "contacts" and row.type in ("phone", "email") and row.type not in values:
            values |= {row.type: text, f"{row.type}_verified": row.verified_at is not None}
    sealed = first.sealed_claims
    stored = vault.unseal("accounts", "sealed_claims", first.account_id, sealed) if sealed else "{}"
    name = vault.unseal("accounts", "sealed_name", first.account_id, first.sealed_name)
    return Subject(name=name, level=first.level, updated_at=first.updated_at, claims=json.loads(stored), **values)


def of_scopes(subject: Subject, scope: str) -> dict[str, Any]:
    """The claims of the granted scopes, without empty members (OIDC Core section 5.3.2)."""
    return of_names(subject, [name for word in scope.split() for name in profiles.SCOPES.get(word, ())])


def of_names(subject: Subject, names: Iterable[str]) -> dict[str, Any]:
    """These claims, as far as they are known of the person."""
    known: dict[str, Any] = {
        **subject.claims,
        "name": subject.name,
        "updated_at": subject.updated_at,
        "legal_name": subject.name,
        "masked_number": identifiers.mask_number(subject.number) if subject.number else "",
        "identifier_type": subject.type,
        "identity_number": subject.number,
        "assurance_level": subject.level,
    }
    if subject.email:
        known |= {"email": subject.email, "email_verified": subject.email_verified}
    if subject.phone:
        known |= {"phone_number": "+86" + subject.phone, "phone_number_verified": subject.phone_verified}
    return {name: known[name] for name in names if known.get(name) not in (None, "", {}, [])}


def of_capacity(context: Context, grant: GrantRow, acting: ActingRow | None) -> dict[str, Any]:
    """`acting_for` (contract section 6): the organization, the mandate and its end; nothing for oneself."""
    if grant.mandate_id is None or acting is None:
        return {}
    vault = context.vault
    claim: dict[str, Any] = {
        "type": "organization",
        "id": str(acting.organization_id),
        "uscc": vault.unseal("organizations", "sealed_uscc", acting.organization_id, acting.sealed_uscc),
        "name": vault.unseal("organizations", "sealed_name", acting.organization_id, acting.sealed_name),
        "role": acting.role,
        "mandate": str(acting.mandate_id),
        "scope": "all" if acting.scope == "*" else acting.scope.split(),
    }
    if acting.valid_until is not None:
        claim["mandate_expires_at"] = acting.valid_until
    return {"acting_for": claim}
