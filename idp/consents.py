"""Consents: what a person agreed that a client may know; under which terms, until when, and how it ended.

`consents` holds what is in force and is read on the hot path. `agreements` keeps each act with the version of the
terms that were shown, as evidence after its end (PIPL articles 14 and 15).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from idp import audit
from idp.context import Context
from idp.database import insert_into
from idp.models import Account, Agreement, Consent, ConsentText
from idp.statements import Change, Done

LIFE_SECONDS = 180 * 86_400


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a person was shown and agreed to. `version` is the SHA-256 of `document`, the terms that were agreed."""

    scope: str
    version: bytes
    document: str
    locale: str
    mandate_id: UUID | None = None


END_AGREEMENT = Change(
    "agreement ended",
    wanted={"agreed_by": "uuid", "agreed_with": "text", "agreement_end": "bigint"},
    row=Done,
    sql="""
    update agreements set ended_at = wanted.agreement_end, end_reason = 'withdrawn' from wanted {when}
     where agreements.account_id = wanted.agreed_by and agreements.client_id = wanted.agreed_with
       and agreements.ended_at is null
    returning {ordinal}""",
)

REVOKE_GRANTS = Change(
    "grants of a person for a client revoked",
    wanted={"granted_by": "uuid", "granted_to": "text", "grants_end": "bigint"},
    row=Done,
    sql="""
    update grants set revoked_at = wanted.grants_end, revoke_reason = 'consent_withdrawn' from wanted {when}
     where grants.account_id = wanted.granted_by and grants.client_id = wanted.granted_to
       and grants.revoked_at is null
    returning {ordinal}""",
)

WITHDRAW = Change(
    "consent withdrawn",
    wanted={"account": "uuid", "client": "text", "at": "bigint"},
    row=Done,
    then=(END_AGREEMENT, REVOKE_GRANTS, audit.RECORD),
    sql="""
    update consents set expires_at = wanted.at,
           withdrawn_at = case when consents.granted_at > wanted.at then consents.granted_at else wanted.at end
      from wanted
     where consents.account_id = wanted.account and consents.client_id = wanted.client
       and (consents.withdrawn_at is null or consents.withdrawn_at < consents.granted_at)
    returning {ordinal}""",
)


def find(db: Session, account_id: UUID, client_id: str) -> Consent | None:
    """The consent that a person gave a client, in force or not."""
    return db.scalar(select(Consent).where(Consent.account_id == account_id, Consent.client_id == client_id))


def is_withdrawn(consent: Consent) -> bool:
    """Whether the last word was a withdrawal; an agreement through the version before leaves `withdrawn_at` alone."""
    return consent.withdrawn_at is not None and consent.withdrawn_at >= consent.granted_at


def in_force(consent: Consent | None, now: int) -> bool:
    """Whether a consent was given, has not been withdrawn and has not expired."""
    return consent is not None and not is_withdrawn(consent) and consent.expires_at > now


def text_of(db: Session, version: bytes | None) -> str | None:
    """The document of terms that somebody was shown, None when that was not recorded."""
    found = db.get(ConsentText, version) if version is not None else None
    return found.document if found else None


def record(context: Context, db: Session, account_id: UUID, client_id: str, agreed: Agreed) -> Agreement:
    """Remember an agreement with the terms that were agreed. It replaces the one before, which stays as a row."""
    now = context.now()
    _one_at_a_time(db, account_id)
    _keep_text(db, agreed, now)
    replaced = (
        update(Agreement)
        .where(Agreement.account_id == account_id, Agreement.client_id == client_id, Agreement.ended_at.is_(None))
        .values(ended_at=now, end_reason="replaced")
    )
    db.execute(replaced.execution_options(synchronize_session=False))
    agreement = Agreement(
        id=uuid4(),
        account_id=account_id,
        client_id=client_id,
        version=agreed.version,
        scope=agreed.scope,
        locale=agreed.locale,
        channel=context.channel,
        mandate_id=agreed.mandate_id,
        granted_at=now,
        expires_at=now + LIFE_SECONDS,
    )
    db.add(agreement)
    values = {
        "scope": agreed.scope,
        "granted_at": now,
        "expires_at": agreement.expires_at,
        "version": agreed.version,
        "withdrawn_at": None,
    }
    statement = insert_into(db, Consent.__table__).values(
        id=uuid4(), account_id=account_id, client_id=client_id, **values
    )
    db.execute(statement.on_conflict_do_update(index_elements=["account_id", "client_id"], set_=values))
    detail = {"scope": agreed.scope, "agreement": str(agreement.id), "version": agreed.version.hex()}
    audit.record(context, db, "consent:scope:granted", account=account_id, client=client_id, detail=detail)
    return agreement


def _one_at_a_time(db: Session, account_id: UUID) -> None:
    """A withdrawal that met an agreement halfway would see the old rows and leave the new ones open."""
    one = select(Account.id).where(Account.id == account_id)
    db.execute(one.with_for_update(key_share=True))  # without holding up codes, which only name the account


def _keep_text(db: Session, agreed: Agreed, now: int) -> None:
    values = {"version": agreed.version, "document": agreed.document, "created_at": now}
    db.execute(insert_into(db, ConsentText.__table__).values(**values).on_conflict_do_nothing())


def withdraw(context: Context, db: Session, account_id: UUID, client_id: str) -> bool:
    """End a consent, its agreement, and every grant of the client for this person: one commit with its record.

    Codes, refresh families and access tokens are dead with their grants. False when there was nothing to end.
    """
    _one_at_a_time(db, account_id)
    held = select(Consent.id).where(Consent.account_id == account_id, Consent.client_id == client_id)
    db.execute(held.with_for_update())  # a code that is being issued is waited for, and then its grant is seen
    now = context.now()
    record_values = audit.values(context, "consent:scope:withdrawn", account=account_id, client=client_id)
    grants = {"granted_by": account_id, "granted_to": client_id, "grants_end": now}
    won = WITHDRAW.one(
        db,
        account=account_id,
        client=client_id,
        at=now,
        agreed_by=account_id,
        agreed_with=client_id,
        agreement_end=now,
        **grants,
        **record_values,
    )
    if won is None and REVOKE_GRANTS.run(db, **grants):  # something was given that no consent stands for
        audit.RECORD.run(db, **record_values)
        return True
    return won is not None


def list_agreements(db: Session, account_id: UUID, *, ended: bool, limit: int = 200) -> Sequence[Agreement]:
    """A person's agreements, the newest first: those that stand, or those that have ended."""
    open_or_not = Agreement.ended_at.is_not(None) if ended else Agreement.ended_at.is_(None)
    found = select(Agreement).where(Agreement.account_id == account_id, open_or_not)
    return db.scalars(found.order_by(Agreement.granted_at.desc(), Agreement.id).limit(limit)).all()
