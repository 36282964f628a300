"""Seed: people with passwords, consents and living sessions, and clients, made by the product's own subjects."""

import asyncio
import json
import sys
from typing import Any

from sqlalchemy.orm import Session

from clients import registry
from idp import accounts, consents, sessions
from idp.authn import password
from idp.config import load_config
from idp.context import Context
from idp.models import Account, Password
from idp.oidc import profiles
from server import close, open_context
from tests.support.context import citizen_number

SECRET = "correct horse 电池 staple"
REDIRECT_URI = "https://rp.example.test/cb"
SCOPE = "openid profile email phone identity offline_access"
CLAIMS = {
    "family_name": "张",
    "given_name": "三例",
    "gender": "female",
    "birthdate": "1990-01-01",
    "locale": "zh-CN",
    "zoneinfo": "Asia/Shanghai",
    "email_verified": True,
    "phone_number_verified": True,
}


def main(people: int) -> None:
    """Print one JSON object: the clients by algorithm, and each person's number, password and session cookie."""
    context = open_context(load_config())
    try:
        with context.database.session() as session:
            clients = {algorithm: _client(context, session, algorithm) for algorithm in profiles.ALGORITHMS}
            made = persons(context, session, 0, people, [client["id"] for client in clients.values()])
        print(json.dumps({"clients": clients, "people": made}))
    finally:
        asyncio.run(close(context))


def persons(context: Context, session: Session, first: int, count: int, client_ids: list[str]) -> list[dict[str, str]]:
    """People with all that a sign-in needs; the numbers follow from `first`."""
    hashed = str(password._HASHER.hash(password.prepare(SECRET)))  # one for all: a check costs the same
    return [_person(context, session, first + order, hashed, client_ids) for order in range(count)]


def _person(context: Context, session: Session, order: int, hashed: str, client_ids: list[str]) -> dict[str, str]:
    number = citizen_number(order)
    account: Account = accounts.register(
        context,
        session,
        name="张三例",
        number=number,
        phone=f"174{(12_345_678 + 7_919_003 * order) % 100_000_000:08d}",
        email=f"p{order}@example.test",
        claims=dict(CLAIMS),
    )
    session.add(Password(account_id=account.id, hash=hashed, changed_at=context.now()))
    for client_id in client_ids:
        consents.record(context, session, account.id, client_id, SCOPE)
    _, handle = sessions.start(context, session, account, sessions.Proof(3, ("pwd",)))
    return {"number": number, "password": SECRET, "cookie": f"__Host-yimen_session={handle}"}


def _client(context: Context, session: Session, algorithm: str) -> dict[str, Any]:
    grant_types = ["authorization_code", "refresh_token"]
    if "client_credentials" in profiles.GRANT_TYPES:
        grant_types.append("client_credentials")
    metadata = {
        "client_name": f"测速 {algorithm}",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": grant_types,
        "id_token_signed_response_alg": algorithm,
    }
    made = registry.create(context, session, metadata=metadata)
    return {"id": made.client.id, "secret": made.secret}


if __name__ == "__main__":
    main(int(sys.argv[1]))
