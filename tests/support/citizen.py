"""People, organizations and clients for the flow tests, made by the command line of a running server."""

import itertools
from dataclasses import dataclass

from tests.support import spill
from tests.support.servers import YimenServer
from tests.support.visitor import REDIRECT_URI, Rp

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
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
    made = server.cli(
        "person", "add", "--id-number", number, "--name", name, "--phone", PHONE,
        "--email", EMAIL, "--password-stdin", stdin=PASSWORD,
    )  # fmt: skip
    return Citizen(server, made["account"], number, name, PASSWORD)


def add_client(server: YimenServer, name: str, *arguments: str, redirect_uri: str = REDIRECT_URI) -> Rp:
    """A confidential client of the profile that `arguments` names, else baseline."""
    made = server.cli("client", "add", "--name", name, "--redirect-uri", redirect_uri, *arguments)
    spill.remember("secret", made["client_secret"])
    return Rp(server.url, made["client_id"], made["client_secret"], redirect_uri)
