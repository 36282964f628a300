"""People who can sign in, made by the product's own subjects."""

import json

from sqlalchemy.orm import Session

from idp import accounts, sessions
from idp.authn import password
from idp.context import Context
from idp.models import Password
from tests.support.context import agree, citizen_number

SECRET = "correct horse 电池 staple"
SCOPE = "openid profile email phone identity offline_access"
NAME = "张三例"
CLAIMS = {
    "family_name": "张",
    "given_name": "三例",
    "gender": "female",
    "birthdate": "1990-01-01",
    "locale": "zh-CN",
    "zoneinfo": "Asia/Shanghai",
}
STORED_CLAIMS = json.dumps(CLAIMS, ensure_ascii=False, sort_keys=True)


def make(context: Context, session: Session, count: int, client_ids: list[str]) -> list[dict[str, str]]:
    """New people with password, consents and a living session: number, password and cookie of each."""
    hashed = str(password._HASHER.hash(password.prepare(SECRET)))  # one for all: a check costs the same
    return [_person(context, session, order, hashed, client_ids) for order in range(count)]


def number_and_phone(order: int) -> tuple[str, str]:
    return citizen_number(order), f"174{(12_345_678 + 7_919_003 * order) % 100_000_000:08d}"


def described(number: str, handle: str) -> dict[str, str]:
    """What the load has to know of a person."""
    return {"number": number, "password": SECRET, "cookie": f"__Host-yimen_session={handle}"}


def _person(context: Context, session: Session, order: int, hashed: str, client_ids: list[str]) -> dict[str, str]:
    number, phone = number_and_phone(order)
    account = accounts.register(
        context, session, name=NAME, number=number, phone=phone, claims={**CLAIMS, "phone_number_verified": True}
    )
    session.add(Password(account_id=account.id, hash=hashed, changed_at=context.now()))
    for client_id in client_ids:
        agree(context, session, account.id, client_id, SCOPE)
    _, handle = sessions.start(context, session, account, sessions.Proof(3, ("pwd",)))
    return described(number, handle)
