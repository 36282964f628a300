"""Many people at once: rows that are sealed and indexed as `accounts.register` does it, in bulk."""

from uuid import uuid4

from sqlalchemy import insert

from idp.context import Context
from idp.models import Account, Contact, Identifier


def add_crowd(context: Context, number: int, *, batch: int = 2_000) -> None:
    """So many people of level 3, each with an identifier and a verified phone; their numbers are no real ones."""
    for first in range(0, number, batch):
        _add(context, range(first, min(first + batch, number)))


def _add(context: Context, order: range) -> None:
    vault, now = context.vault, context.now()
    accounts, identifiers, contacts = [], [], []
    for one in order:
        account, identifier, contact = uuid4(), uuid4(), uuid4()
        number, phone = f"crowd-{one:012d}", f"199{one:08d}"
        accounts.append(
            {
                **{"id": account, "level": 3, "status": "active", "created_at": now, "updated_at": now},
                "sealed_name": vault.seal("accounts", "sealed_name", account, "张三例"),
            }
        )
        identifiers.append(
            {
                **{"id": identifier, "account_id": account, "type": "cid", "state": "active", "created_at": now},
                "blind_index": vault.blind_index("number cid", number),
                "sealed_number": vault.seal("identifiers", "sealed_number", identifier, number),
            }
        )
        contacts.append(
            {
                **{"id": contact, "account_id": account, "type": "phone", "verified_at": now, "created_at": now},
                "blind_index": vault.blind_index("contact phone", phone),
                "sealed_value": vault.seal("contacts", "sealed_value", contact, phone),
            }
        )
    with context.database.session() as session:
        session.execute(insert(Account), accounts)
        session.execute(insert(Identifier), identifiers)
        session.execute(insert(Contact), contacts)
