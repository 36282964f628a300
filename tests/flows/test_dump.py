"""A stolen database (U02, U05): no personal value, key or usable token is in it, and what is in it opens no door."""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from sqlalchemy import MetaData, inspect, select

from idp.encryption import read_masters
from idp.models import ClientSecret, DataKey, Grant, SigningKey, SignOn
from tests.flows.test_master_key import key_file, ok
from tests.support.citizen import PASSWORD, add_client
from tests.support.context import citizen_number, credit_code, opened
from tests.support.servers import YimenServer
from tests.support.visitor import REDIRECT_URI, Rp, Visitor, answer_of, sign_in

NAME, PHONE, EMAIL = "欧阳密封", "17498761234", "sealed.person@dump.example.test"
ORGANIZATION, CLAIM = "密封示例有限公司", "Sealed Street 77"


@dataclass
class Person:
    """What a thief would like to find, and the relying party that the person uses."""

    rp: Rp
    tokens: dict[str, str]
    visitor: Visitor
    secrets: dict[str, str]


@pytest.fixture(scope="module")
def person(server: YimenServer, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """A person with everything: number, contacts, claims, a represented organization, tokens, a code not used yet."""
    number, code, claims = citizen_number(), credit_code(), tmp_path_factory.mktemp("dump") / "claims.json"
    claims.write_text(f'{{"address": {{"street_address": "{CLAIM}"}}}}')
    options = ("--name", NAME, "--phone", PHONE, "--email", EMAIL, "--claims", str(claims))
    account = server.cli("person", "add", "--id-number", number, *options, "--password-stdin", stdin=PASSWORD)
    representative = ("--legal-representative", account["account"])
    server.cli("organization", "add", "--uscc", code, "--name", ORGANIZATION, *representative)
    rp, visitor = add_client(server, "公积金"), Visitor(server.url)
    spent = sign_in(visitor, rp.authorize_url(), number, PASSWORD)["code"]
    first = ok(rp.redeem(spent))
    tokens = ok(rp.refresh(first["refresh_token"]))
    unspent = sign_in(visitor, rp.authorize_url(), number, PASSWORD)["code"]
    known = {"number": number, "name": NAME, "phone": PHONE, "email": EMAIL, "claim": CLAIM, "password": PASSWORD}
    known |= {"organization": ORGANIZATION, "credit code": code, "client secret": rp.client_secret}
    known |= {f"first {name}": first[name] for name in ("access_token", "refresh_token", "id_token")}
    known |= {name: tokens[name] for name in ("access_token", "refresh_token", "id_token")}
    known |= {"spent code": spent, "unspent code": unspent}
    known |= {f"cookie {name}": value for name, value in visitor.cookies.items() if len(value) > 10}
    return Person(rp, tokens, visitor, known)


def rows_of(server: YimenServer) -> Iterator[tuple[str, str, Any]]:
    """Table, column and value of everything in the database, as the database itself lists its tables."""
    with opened(server.environment) as context, context.database.engine.connect() as connection:
        found = MetaData()
        found.reflect(connection)
        assert len(found.tables) > 15
        for table in found.tables.values():
            for row in connection.execute(select(table)):
                yield from ((table.name, column.name, value) for column, value in zip(table.columns, row, strict=True))


def dump_of(server: YimenServer) -> bytes:
    """Everything in one piece; on SQLite the files too, with what was deleted but not overwritten."""
    parts = [value if isinstance(value, bytes) else str(value).encode() for _, _, value in rows_of(server)]
    if server.environment["YIMEN_DATABASE_URL"].startswith("sqlite"):
        parts += [path.read_bytes() for path in server.data_dir.glob("yimen.db*")]
    return b"\n".join(parts)


def spellings(secret: bytes) -> set[bytes]:
    """Raw, hexadecimal, Base64 at each of its three offsets and in both alphabets, URL-encoded, escaped as JSON."""
    found = {secret, binascii.hexlify(secret), binascii.hexlify(secret).upper(), quote(secret, safe="").encode()}
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret)
        inner = encoded[
            4 if offset else 0 : (len(bytes(offset) + secret) // 3) * 4
        ]  # what its neighbours do not change
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return found
    return found | {text.encode("unicode_escape"), text.encode("utf-16-le"), text.encode("utf-16-be")}


def test_spellings_find_a_secret_in_whatever_surrounds_it() -> None:
    for secret in (b"449901199001010013", NAME.encode(), bytes(range(200, 232))):
        for before in (b"", b"a", b"ab", b"abc"):
            for text in (base64.b64encode, base64.urlsafe_b64encode, binascii.hexlify):
                assert any(spelling in text(before + secret + b"tail") for spelling in spellings(secret))


def test_dump_holds_no_personal_value_and_no_token(server: YimenServer, person: Person) -> None:
    dump = dump_of(server)
    assert person.rp.client_id.encode() in dump, "the dump is no dump"
    for name, secret in person.secrets.items():
        for spelling in spellings(secret.encode()):
            assert spelling not in dump, f"{name} is in the database"


def test_dump_holds_no_key(server: YimenServer) -> None:
    dump = dump_of(server)
    secrets = {f"master key {n}": key for n, key in read_masters(key_file(server.environment)).items()}
    with opened(server.environment) as context:
        secrets["root key"] = context.vault._root
        for kid, key in context.keys._keys.items():
            private = key.signer.private  # type: ignore[attr-defined]
            numbers = private.private_numbers()
            value = getattr(numbers, "private_value", 0) or numbers.d
            secrets[f"signing key {kid}"] = value.to_bytes((value.bit_length() + 7) // 8, "big")
            der = private.private_bytes(
                serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            secrets[f"signing key file {kid}"] = der[40:]
    assert len(secrets) >= 10
    for name, secret in secrets.items():
        for spelling in spellings(secret):
            assert spelling not in dump, f"{name} is in the database"
    assert b"PRIVATE KEY" not in dump


def test_dumped_values_open_no_door(server: YimenServer, person: Person) -> None:
    """Every value of the rows that belong to these tokens, as it is and in the spellings of a token, at every door."""
    unspent = answer_of(person.visitor.walk(person.rp.authorize_url()))["code"]
    tried = sorted({text for value in rows_behind(server, person.rp.client_id) for text in as_tokens(value)})
    assert len(tried) > 40
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=20) as client:
        for text in tried:
            assert_useless(client, person, text)
    assert "access_token" in ok(person.rp.redeem(unspent)), "the true code works all the same"


def rows_behind(server: YimenServer, client_id: str) -> list[Any]:
    """All values of a client's grants with their sessions, of its secrets, and of keys."""
    with opened(server.environment) as context, context.database.session(write=False) as session:
        grants = session.scalars(select(Grant).where(Grant.client_id == client_id)).all()
        assert grants
        rows = [
            *grants,
            *session.scalars(select(SignOn).where(SignOn.id.in_([grant.session_id for grant in grants]))),
            *session.scalars(select(ClientSecret).where(ClientSecret.client_id == client_id)),
            *session.scalars(select(SigningKey)),
            *session.scalars(select(DataKey)),
        ]
        return [getattr(row, column.key) for row in rows for column in inspect(type(row)).columns]


def as_tokens(value: Any) -> set[str]:
    if isinstance(value, UUID):
        return {str(value), *as_tokens(value.bytes)}
    if not isinstance(value, bytes | str) or len(value) < 16 or value == REDIRECT_URI:
        return set()
    if isinstance(value, str):
        return {value} if value.isascii() and value.isprintable() else set()
    return {value.hex(), base64.urlsafe_b64encode(value).rstrip(b"=").decode(), base64.b64encode(value).decode()}


def assert_useless(client: httpx2.Client, person: Person, text: str) -> None:
    rp = person.rp
    assert client.get("/userinfo", headers={"authorization": f"Bearer {text}"}).status_code in (400, 401), text
    auth = (rp.client_id, rp.client_secret)
    for data in (
        {"grant_type": "refresh_token", "refresh_token": text},
        {"grant_type": "authorization_code", "code": text, "redirect_uri": rp.redirect_uri, "code_verifier": "v" * 43},
    ):
        assert client.post("/token", data=data, auth=auth).status_code == 400, text
    data = {"grant_type": "refresh_token", "refresh_token": person.tokens["refresh_token"]}
    assert client.post("/token", data=data, auth=(rp.client_id, text)).status_code == 401, text
    [cookie] = [name for name in person.visitor.cookies if "session" in name]
    if text.isascii() and not set(text) & set(' ;,"\\'):
        answer = client.get("/account", headers={"cookie": f"{cookie}={text}"})
        assert answer.status_code in (303, 400), text
        assert NAME not in answer.text
