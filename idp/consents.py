"""Consents: what a person agreed that a client may know; remembered and extended."""

from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from idp import audit
from idp.context import Context
from idp.database import insert_into
from idp.models import Account, Consent

LIFE_SECONDS = 180 * 86_400


def find(db: Session, account_id: UUID, client_id: str) -> Consent | None:
    """The consent that a person gave a client, expired or not."""
    return db.scalar(select(Consent).where(Consent.account_id == account_id, Consent.client_id == client_id))


def record(context: Context, db: Session, account_id: UUID, client_id: str, scope: str) -> None:
    """Remember an agreement. What was agreed to before stays; the time begins anew."""
    now = context.now()
    one_at_a_time = select(Account.id).where(Account.id == account_id)
    db.execute(one_at_a_time.with_for_update(key_share=True))  # without holding up codes, which only name the account
    earlier = find(db, account_id, client_id)
    kept = earlier.scope.split() if earlier is not None and earlier.expires_at > now else []
    values = {
        "scope": " ".join(dict.fromkeys([*kept, *scope.split()])),
        "granted_at": now,
        "expires_at": now + LIFE_SECONDS,
    }
    statement = insert_into(db, Consent.__table__).values(
        id=uuid4(), account_id=account_id, client_id=client_id, **values
    )
    db.execute(statement.on_conflict_do_update(index_elements=["account_id", "client_id"], set_=values))
    audit.record(context, db, "consent:scope:granted", account=account_id, client=client_id, detail={"scope": scope})
