"""People and clients for the flow tests, made beside a running server."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from clients import registry
from idp import accounts
from idp.authn import password
from idp.context import Context
from tests.support import spill
from tests.support.context import opened
from tests.support.servers import YimenServer
from tests.support.visitor import REDIRECT_URI, Rp

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
T = TypeVar("T")
GRANTS = ["authorization_code", "refresh_token"]
_counter = itertools.count(1)
PASSWORD = "correct horse 电池 staple"
PHONE, EMAIL = "17412345678", "zhang@example.test"
spill.remember("password", PASSWORD)
spill.remember("contact", PHONE, EMAIL)


@dataclass(frozen=True)
class Citizen:
    server: YimenServer
    account: str
    number: str
    name: str
    password: str


def synthetic_number(order: int) -> str:
    """A test number with a division code that does not exist and a right check sign (GB 11643)."""
    body = f"449901{1960 + order % 40}0{1 + order % 9}{10 + order % 18}{order % 1000:03d}"
    number = body + "10X98765432"[sum(int(digit) * weight for digit, weight in zip(body, _WEIGHTS, strict=True)) % 11]
    spill.remember("number", number)
    return number


def add_citizen(server: YimenServer, *, name: str = "张三例") -> Citizen:
    """A new person of level 3 with a password."""
    number = synthetic_number(next(_counter))

    def register(context: Context, db: Session) -> str:
        account = accounts.register(context, db, name=name, number=number, phone=PHONE, email=EMAIL)
        password.set_password(context, db, account, PASSWORD)
        return str(account.id)

    return Citizen(server, beside(server, register), number, name, PASSWORD)


def add_client(server: YimenServer, name: str, *arguments: str, redirect_uri: str = REDIRECT_URI) -> Rp:
    """A confidential client of profile baseline, or as the `arguments` of the command line say."""
    if arguments:
        made = server.cli("client", "add", "--name", name, "--redirect-uri", redirect_uri, *arguments)
        client_id, secret = made["client_id"], made["client_secret"]
    else:
        metadata = {"client_name": name, "redirect_uris": [redirect_uri], "grant_types": GRANTS}
        client_id, secret = beside(server, lambda context, db: _create(context, db, metadata))
    spill.remember("secret", secret)
    return Rp(server.url, client_id, secret, redirect_uri)


def _create(context: Context, db: Session, metadata: dict[str, Any]) -> tuple[str, str]:
    made = registry.create(context, db, metadata=metadata)
    return made.client.id, made.secret or ""


def beside(server: YimenServer, work: Callable[[Context, Session], T]) -> T:
    """What a command would do beside the running server, without the second that a process takes to start.

    In a thread of its own: a test in the browser has a loop running in this one.
    """

    def run() -> T:
        with opened(server.environment) as context, context.database.session() as db:
            return work(context, db)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()
