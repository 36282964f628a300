"""A Context on fresh stores for tests that call the subjects directly, and made-up people and organizations."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from idp import accounts, consents, organizations
from idp.config import load_config
from idp.context import Context
from idp.models import Account, AuditRecord, Organization
from idp.oidc import terms
from idp.oidc.logout import find_client
from server import close, open_context
from tests.support import spill

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_SIGNS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_order = itertools.count(1)


@contextmanager
def opened(environment: dict[str, str]) -> Iterator[Context]:
    """The context of an installation, closed afterwards."""
    context = open_context(load_config(environment))
    try:
        yield context
    finally:
        asyncio.run(close(context))


@pytest.fixture
def context(stores: dict[str, str]) -> Iterator[Context]:
    """A context on fresh stores, once for each kind of them."""
    with opened(stores) as found:
        yield found


@pytest.fixture
def db(context: Context) -> Iterator[Session]:
    """A transaction that is open for the whole test."""
    with context.database.session() as session:
        yield session


def citizen_number(order: int | None = None) -> str:
    """A test number, born in the 20th century, with a division code that does not exist (GB 11643)."""
    order = next(_order) if order is None else order
    body = f"449901{1960 + order % 40}0{1 + order % 9}{10 + order % 18}{1 + order % 998:03d}"
    number = body + "10X98765432"[sum(int(digit) * weight for digit, weight in zip(body, _WEIGHTS, strict=True)) % 11]
    spill.remember("number", number)
    return number


def credit_code(order: int | None = None) -> str:
    """A well-formed unified social credit code (GB 32100)."""
    organ = f"MA{next(_order) if order is None else order:06d}"
    weights = (3, 7, 9, 10, 5, 8, 4, 2)
    digit = (11 - sum(int(sign, 36) * weight for sign, weight in zip(organ, weights, strict=True)) % 11) % 11
    body = f"91449901{organ}{'X' if digit == 10 else digit}"
    code = body + _SIGNS[(31 - sum(_SIGNS.index(sign) * pow(3, i, 31) for i, sign in enumerate(body)) % 31) % 31]
    spill.remember("credit code", code)
    return code


def new_person(context: Context, session: Session, **changes: Any) -> Account:
    """A person of level 3 with a number of their own."""
    values: dict[str, Any] = {"name": "张三例", "number": citizen_number(), **changes}
    return accounts.register(context, session, **values)


def new_organization(context: Context, session: Session, **changes: Any) -> Organization:
    values: dict[str, Any] = {"uscc": credit_code(), "name": "示例科技有限公司", **changes}
    return organizations.register(context, session, **values)


def agree(context: Context, session: Session, account_id: UUID, client_id: str, scope: str) -> bytes:
    """A person's consent to what a client has registered now; the version of its terms."""
    party = find_client(context, session, client_id)
    assert party is not None
    shown = terms.of(party, scope)
    agreed = consents.Agreed(scope, shown.version, shown.document, "zh-CN")
    consents.record(context, session, account_id, client_id, agreed)
    return shown.version


def events(session: Session) -> list[str]:
    """The audit events so far."""
    return list(session.scalars(select(AuditRecord.event).order_by(AuditRecord.at)))
