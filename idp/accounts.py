"""Accounts: people, the numbers that name them, and how they are reached; register, find, lock, describe."""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import select, tuple_, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from idp import audit, identifiers, sessions, standard_claims
from idp.context import Context
from idp.errors import Conflict, InvalidInput, NotFound
from idp.logs import mask_free_text
from idp.models import Account, Contact, Grant, Identifier, Mention, Password
from idp.refusals import canonical

IDENTIFIER_LEVEL = 3  # from here on a number is an identifier; below it is a mention (domain.md section 6)
DEADLOCK, DEADLOCK_ATTEMPTS = "40P01", 3  # sqlstate of PostgreSQL
SIGNS_IN = ("active", "superseded")
_EMAIL = re.compile(r"[^@\s\"<>(),;:\\\[\]]{1,64}@[^@\s\"<>(),;:\\\[\]]{1,189}\.[^@\s\"<>(),;:\\\[\].]{1,63}")


class IdentifierTaken(Conflict):
    """Another account holds this number."""

    code = "identifier_taken"


class WrongState(Conflict):
    """The account is not in the state from which this change starts."""

    code = "wrong_state"


class _Facts(NamedTuple):
    """A person to be registered, checked."""

    name: str
    type: str
    number: str
    phone: str
    email: str
    claims: dict[str, Any]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What is known about a person, unsealed. Never log one. `number` is "" when there is none, as are contacts."""

    account_id: UUID
    name: str
    number: str = ""
    type: str = ""
    level: int
    phone: str = ""
    phone_verified: bool = False
    email: str = ""
    email_verified: bool = False
    claims: Mapping[str, Any] = field(default_factory=dict)
    updated_at: int

    @property
    def birth(self) -> date | None:
        """The birth date that an 18-digit number carries, else that of the claims when it is a whole one."""
        found = identifiers.check_citizen_id(self.number, synthetic_allowed=True).birth if self.number else None
        if found is not None:
            return found
        try:
            return date.fromisoformat(str(self.claims.get("birthdate", "")))
        except ValueError:
            return None


# --- register


def register(
    context: Context,
    session: Session,
    *,
    name: str,
    number: str,
    type: str = "cid",
    level: int = 3,
    phone: str = "",
    email: str = "",
    claims: Mapping[str, Any] | None = None,
) -> Account:
    """A new account. `level` is what the caller has proved about the person, 1 to 5 (domain.md section 6).

    From level 3 on the number becomes an identifier, which one account at most holds; below it is a mention.
    `claims` are standard claims of OpenID Connect; `email_verified` and `phone_number_verified` among them say
    that the contact was proved. Raises InvalidInput, NumberRefused, IdentifierTaken.
    """
    if level not in range(1, 6):
        raise InvalidInput("the level must be 1 to 5")
    facts = _check(context, name, number, type, phone, email, claims or {})
    now, row = context.now(), uuid4()
    updated_at = int(facts.claims.pop("updated_at", now))
    proved = {
        "phone": facts.claims.pop("phone_number_verified", False),
        "email": facts.claims.pop("email_verified", False),
    }
    account = Account(id=row, level=level, created_at=now, updated_at=updated_at)
    account.sealed_name = context.vault.seal("accounts", "sealed_name", row, facts.name)
    if facts.claims:
        text = json.dumps(facts.claims, ensure_ascii=False, sort_keys=True)
        account.sealed_claims = context.vault.seal("accounts", "sealed_claims", row, text)
    session.add(account)
    session.flush()
    if level >= IDENTIFIER_LEVEL:
        _identify(context, session, account, facts.type, facts.number)
    else:
        _mention(context, session, account, facts.type, facts.number)
    for kind, value in (("phone", facts.phone), ("email", facts.email)):
        if value:
            _reach(context, session, account, kind, value, verified=proved[kind])
    session.flush()
    detail = {"type": facts.type, "level": level, "warnings": list(facts.warnings)}
    audit.record(context, session, "account:person:created", account=account.id, detail=detail)
    return account


def _check(
    context: Context, name: str, number: str, type: str, phone: str, email: str, claims: Mapping[str, Any]
) -> _Facts:
    if type not in identifiers.PERSON_TYPES:
        raise InvalidInput(f"the type of the number must be one of {', '.join(identifiers.PERSON_TYPES)}")
    canonical(identifiers.normalize_name(name))
    checked = identifiers.PERSON_TYPES[type](number, synthetic_allowed=context.config.allow_synthetic_ids)
    return _Facts(
        name=as_issued(name),
        type=type,
        number=canonical(checked),
        phone=canonical(identifiers.check_phone(phone)) if phone else "",
        email=_email(email) if email else "",
        claims=standard_claims.check(claims),
        warnings=checked.warnings,
    )


def as_issued(name: str) -> str:
    """A name for display: as it was given, without signs that nobody sees and with single blanks."""
    kept = (sign for sign in unicodedata.normalize("NFC", name) if unicodedata.category(sign) not in ("Cf", "Cs"))
    return " ".join("".join(sign if sign.isprintable() else " " for sign in kept).split())


def _email(text: str) -> str:
    address = unicodedata.normalize("NFC", text.strip())
    if len(address) > 254 or not _EMAIL.fullmatch(address) or not address.isprintable():
        raise InvalidInput("this is not a mail address")
    return address


def number_index(context: Context, type: str, number: str) -> bytes:
    """What a canonical number of this type is found by, as an identifier and as a mention."""
    return context.vault.blind_index(f"number {type}", number)


def contact_index(context: Context, type: str, value: str) -> bytes:
    """What a contact is found by: mail addresses and user names in any case and width."""
    folded = value if type == "phone" else unicodedata.normalize("NFKC", value).casefold()
    return context.vault.blind_index(f"contact {type}", folded)


def _identify(context: Context, session: Session, account: Account, type: str, number: str) -> None:
    """Give the account a number in force. The unique index decides between rivals. Raises IdentifierTaken."""
    index, row = number_index(context, type, number), uuid4()
    held = select(Identifier.id).where(
        Identifier.type == type,
        Identifier.blind_index == index,
        Identifier.state.in_(("superseded", "contested")),  # only a review gives these to somebody else
    )
    if session.scalar(held.limit(1)) is not None:
        raise IdentifierTaken("this number belongs to an account and needs a review")
    identifier = Identifier(
        id=row,
        account_id=account.id,
        type=type,
        blind_index=index,
        sealed_number=context.vault.seal("identifiers", "sealed_number", row, number),
        created_at=context.now(),
    )
    try:
        with session.begin_nested():
            session.add(identifier)
    except IntegrityError:
        raise IdentifierTaken("this number belongs to another account") from None


def _mention(context: Context, session: Session, account: Account, type: str, number: str) -> None:
    row = uuid4()
    session.add(
        Mention(
            id=row,
            account_id=account.id,
            type=type,
            blind_index=number_index(context, type, number),
            sealed_number=context.vault.seal("mentions", "sealed_number", row, number),
            created_at=context.now(),
        )
    )


def _reach(context: Context, session: Session, account: Account, type: str, value: str, *, verified: bool) -> None:
    row, now = uuid4(), context.now()
    session.add(
        Contact(
            id=row,
            account_id=account.id,
            type=type,
            blind_index=contact_index(context, type, value),
            sealed_value=context.vault.seal("contacts", "sealed_value", row, value),
            verified_at=now if verified else None,
            created_at=now,
        )
    )


# --- find


def get(session: Session, account_id: UUID) -> Account:
    """Raises NotFound."""
    found = session.get(Account, account_id)
    if found is None:
        raise NotFound("there is no such account")
    return found


def find_for_login(context: Context, session: Session, typed: str) -> Account | None:
    """The one account that a text in the login field can mean, whatever its status.

    Every reading of the text is tried: document numbers in force or superseded, and contacts that were verified.
    None when nobody or more than one person is meant. Two queries in every case, so that time tells nothing.
    """
    readings = identifiers.read_typed(typed, synthetic_allowed=context.config.allow_synthetic_ids)
    numbers = [(type, number_index(context, type, value)) for type, value in readings if type != "phone"]
    contacts = [(type, contact_index(context, type, value)) for type, value in _contacts_of(typed, readings)]
    held = session.execute(
        select(Identifier.account_id, Identifier.state).where(
            tuple_(Identifier.type, Identifier.blind_index).in_(numbers), Identifier.state.in_(SIGNS_IN)
        )
    ).all()
    reached = session.scalars(
        select(Contact.account_id).where(
            tuple_(Contact.type, Contact.blind_index).in_(contacts), Contact.verified_at.is_not(None)
        )
    ).all()
    active = {account_id for account_id, state in held if state == "active"}
    meant = (active or {account_id for account_id, _ in held}) | set(reached)
    return session.get(Account, meant.pop()) if len(meant) == 1 else None


def _contacts_of(typed: str, readings: list[tuple[str, str]]) -> list[tuple[str, str]]:
    text = unicodedata.normalize("NFC", typed.strip()[:254])
    phones = [(type, value) for type, value in readings if type == "phone"]
    return [*phones, ("email" if "@" in text else "username", text)]


# --- lock


def lock(context: Context, session: Session, account: Account, reason: str) -> None:
    """Lock an active account and end its sessions and tokens at once. Raises WrongState."""
    _change_status(context, session, account, "active", "locked", reason)
    end_access(context, session, account.id, reason="account_locked")


def unlock(context: Context, session: Session, account: Account, reason: str) -> None:
    """Make a locked account active again. What was ended stays ended. Raises WrongState."""
    _change_status(context, session, account, "locked", "active", reason)


def _change_status(context: Context, session: Session, account: Account, old: str, new: str, reason: str) -> None:
    changed = session.execute(
        update(Account)
        .where(Account.id == account.id, Account.status == old)
        .values(status=new)
        .returning(Account.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if changed is None:
        raise WrongState(f"the account is not {old}")
    session.refresh(account)
    event = "account:person:locked" if new == "locked" else "account:person:unlocked"
    audit.record(context, session, event, account=account.id, detail={"reason": mask_free_text(reason)})


def end_access(context: Context, session: Session, account_id: UUID, *, reason: str) -> None:
    """End every session of a person, and every grant, those of offline access included."""
    sessions.end_all(context, session, account_id, reason=reason)
    change = (
        update(Grant)
        .where(Grant.account_id == account_id, Grant.revoked_at.is_(None))
        .values(revoked_at=context.now(), revoke_reason=reason)
        .execution_options(synchronize_session=False)
    )
    for attempt in range(DEADLOCK_ATTEMPTS):  # a batch of a worker may hold grants of this person in another order
        try:
            with session.begin_nested():
                session.execute(change)
            return
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", "") != DEADLOCK or attempt == DEADLOCK_ATTEMPTS - 1:
                raise


# --- show


def reveal(context: Context, session: Session, account: Account) -> Person:
    """The person of an account, unsealed: the oldest number in force or mention; contacts proved first."""
    vault = context.vault
    values: dict[str, Any] = {}
    numbers = session.scalars(
        select(Identifier)
        .where(Identifier.account_id == account.id, Identifier.state == "active")
        .order_by(Identifier.created_at, Identifier.id)
        .limit(1)
    ).all()
    for row in numbers or _mentions(session, account.id)[:1]:
        values |= {"number": _number(context, row), "type": row.type}
    for contact in _contacts(session, account.id):
        if contact.type in ("phone", "email") and contact.type not in values:
            values[contact.type] = vault.unseal("contacts", "sealed_value", contact.id, contact.sealed_value)
            values[f"{contact.type}_verified"] = contact.verified_at is not None
    sealed = account.sealed_claims
    claims = json.loads(vault.unseal("accounts", "sealed_claims", account.id, sealed)) if sealed else {}
    return Person(
        account_id=account.id,
        name=vault.unseal("accounts", "sealed_name", account.id, account.sealed_name),
        level=account.level,
        claims=claims,
        updated_at=account.updated_at,
        **values,
    )


def _number(context: Context, row: Identifier | Mention) -> str:
    return context.vault.unseal(row.__tablename__, "sealed_number", row.id, row.sealed_number)


def _masked(context: Context, row: Identifier | Mention) -> dict[str, str]:
    return {"type": row.type, "number": identifiers.mask_number(_number(context, row))}


def _mentions(session: Session, account_id: UUID) -> list[Mention]:
    found = select(Mention).where(Mention.account_id == account_id).order_by(Mention.created_at, Mention.id)
    return list(session.scalars(found))


def _contacts(session: Session, account_id: UUID) -> list[Contact]:
    found = session.scalars(
        select(Contact).where(Contact.account_id == account_id).order_by(Contact.created_at, Contact.id)
    )
    return sorted(found, key=lambda contact: contact.verified_at is None)


def describe(context: Context, session: Session, account: Account) -> dict[str, Any]:
    """An account for operators: everything masked (domain.md section 7, the public)."""
    person = reveal(context, session, account)
    held = session.scalars(
        select(Identifier).where(Identifier.account_id == account.id).order_by(Identifier.created_at, Identifier.id)
    )
    return {
        "account": str(account.id),
        "status": account.status,
        "level": account.level,
        "name": identifiers.mask_name(person.name),
        "identifiers": [{**_masked(context, row), "state": row.state} for row in held],
        "mentions": [_masked(context, row) for row in _mentions(session, account.id)],
        "phone": identifiers.mask_phone(person.phone) if person.phone else None,
        "phone_verified": person.phone_verified,
        "email": mask_email(person.email) if person.email else None,
        "email_verified": person.email_verified,
        "claims": sorted(person.claims),
        "has_password": session.get(Password, account.id) is not None,
        "sessions": len(sessions.list_live(context, session, account.id)),
        "created_at": account.created_at,
        "updated_at": account.updated_at,
    }


def mask_email(address: str) -> str:
    """The first sign and the domain."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"
