"""Growth: millions of accounts with numbers, contacts, sessions and grants, made by PostgreSQL itself.

Everybody's sealed fields are the same dummy bytes, but for a sample of people spread evenly over the tables, who can
sign in. Keys of rows are hashes of a counter, so the indexes are filled in random order as real ones are.
"""

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from idp import accounts
from idp.authn import password
from idp.context import Context
from tests.bench import people as persons
from tests.bench.people import NAME, SCOPE, SECRET, STORED_CLAIMS

TABLES = ("accounts", "identifiers", "contacts", "passwords", "consents", "sessions", "grants")
BYTES_EACH = 2_500  # of disk for an account with its rows and indexes, and as much log as the fill needs


class TooLittleDisk(Exception):
    """The disk would not hold the rows."""


def require_disk(folder: str, count: int) -> None:
    """Raise TooLittleDisk unless twice what is needed is free."""
    status = os.statvfs(folder)
    free, needed = status.f_bavail * status.f_frsize, 2 * BYTES_EACH * count
    if free < needed:
        raise TooLittleDisk(f"{count:,} accounts need {needed / 1e9:.0f} GB of free disk, there are {free / 1e9:.0f}")


def fill(context: Context, count: int, clients: int, people: int, client_ids: Sequence[str]) -> list[dict[str, str]]:
    """Fill the tables; the sample of people, as `people.make` describes them."""
    conninfo = context.database.url.replace("+psycopg", "", 1)
    values = {"last": count - 1, "now": context.now(), "clients": clients, "scope": SCOPE}
    with _connect(conninfo) as connection:
        _clients(connection, clients, context.now())
        made = _sample(context, connection, count, people)
        removed = _without_indexes(connection)
        _side_by_side(conninfo, [[(statement, values)] for statement in STATEMENTS])
        for client_id in client_ids:
            connection.execute(CONSENTS, values | {"client": client_id})
        connection.execute("drop table sample")
        _side_by_side(conninfo, [[(text, None) for text in removed.of(table)] for table in TABLES])
        for statement in removed.foreign_keys:
            connection.execute(statement)
        connection.execute("checkpoint")
    return made


def _connect(conninfo: str) -> psycopg.Connection[Any]:
    connection = psycopg.connect(conninfo, autocommit=True)
    connection.execute("set maintenance_work_mem = '1GB'; set synchronous_commit = off")
    connection.execute("set session_replication_role = replica")  # no checks of keys that are right by making
    return connection


def _side_by_side(conninfo: str, works: Sequence[Sequence[tuple[str, Mapping[str, Any] | None]]]) -> None:
    """Each work in its own connection, two at a time; a table is looked over when its work is done."""

    def do(work: Sequence[tuple[str, Mapping[str, Any] | None]]) -> None:
        with _connect(conninfo) as connection:
            for statement, values in work:
                connection.execute(statement, values)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(do, work) for work in works]:
            done.result()


def _clients(connection: psycopg.Connection[Any], count: int, now: int) -> None:
    """Clients that nobody measures; each with a secret."""
    connection.execute(
        """insert into clients (id, profile, status, metadata_json, sector, version, created_at, updated_at)
        select 'filler' || i, profile, status, metadata_json, 'filler' || i || '.example.test', 1, %(now)s, %(now)s
          from generate_series(0, %(last)s) as i, (select * from clients limit 1) as pattern""",
        {"now": now, "last": count - 1},
    )
    connection.execute(
        """insert into client_secrets (hash, client_id, last_four, created_at)
        select sha256(('secret ' || i)::bytea), 'filler' || i, 'xxxx', %(now)s
          from generate_series(0, %(last)s) as i""",
        {"now": now, "last": count - 1},
    )


def _sample(context: Context, connection: psycopg.Connection[Any], count: int, people: int) -> list[dict[str, str]]:
    """The table `sample`: what is not dummy, by the place of the person among all."""
    hashed = str(password._HASHER.hash(password.prepare(SECRET)))
    connection.execute(SAMPLE)
    made = []
    with connection.cursor().copy("copy sample from stdin") as copy:
        for order in range(people):
            place, handle = order * (count // people), secrets.token_urlsafe(32)
            number, phone = persons.number_and_phone(order)
            copy.write_row((place, *_sealed(context, place, number, phone), _sha256(handle), hashed))
            made.append(persons.described(number, handle))
    return made


def _sealed(context: Context, place: int, number: str, phone: str) -> tuple[bytes, ...]:
    seal, account = context.vault.seal, _key("account", place)
    return (
        seal("accounts", "sealed_name", account, NAME),
        seal("accounts", "sealed_claims", account, STORED_CLAIMS),
        seal("identifiers", "sealed_number", _key("identifier", place), number),
        accounts.number_index(context, "cid", number),
        seal("contacts", "sealed_value", _key("contact", place), phone),
        accounts.contact_index(context, "phone", phone),
    )


def _key(kind: str, place: int) -> UUID:
    """The key of a row, as the statements below make it."""
    return UUID(hashlib.md5(f"{kind} {place}".encode()).hexdigest())


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Removed:
    """What brings indexes and constraints back: (table, statement) in order, and at last the foreign keys."""

    keys: list[tuple[str, str]]
    foreign_keys: list[str]

    def of(self, table: str) -> list[str]:
        return [*(statement for owner, statement in self.keys if owner == table), f"vacuum analyze {table}"]


def _without_indexes(connection: psycopg.Connection[Any]) -> Removed:
    """Take indexes and constraints of the tables away: building them afterwards is far faster."""
    constraints = connection.execute(
        """select conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) from pg_constraint
        where contype in ('p', 'u', 'f')
          and (conrelid = any(%(tables)s::regclass[]) or confrelid = any(%(tables)s::regclass[]))
        order by array_position(array['f', 'u', 'p'], contype::text)""",
        {"tables": list(TABLES)},
    ).fetchall()
    for table, name, _ in constraints:
        connection.execute(f"alter table {table} drop constraint {name}")
    indexes = connection.execute(
        "select tablename, indexname, indexdef from pg_indexes where schemaname = 'public' and tablename = any(%s)",
        (list(TABLES),),
    ).fetchall()
    for _, name, _ in indexes:
        connection.execute(f'drop index "{name}"')
    foreign = [found for found in constraints if found[2].startswith("FOREIGN")]
    keys = [(table, definition) for table, _, definition in indexes]
    keys += [(found[0], _again(*found)) for found in constraints if found not in foreign]
    return Removed(keys, [f"{_again(*found)} not valid" for found in foreign])


def _again(table: str, name: str, definition: str) -> str:
    return f"alter table {table} add constraint {name} {definition}"


SAMPLE = """create table sample (i bigint primary key, sealed_name bytea, sealed_claims bytea, sealed_number bytea,
    number_index bytea, sealed_phone bytea, phone_index bytea, handle_hash bytea, hash text)"""
_PLACES = "generate_series(0::bigint, %(last)s::bigint) as i left join sample using (i)"
_DUMMY = "decode(repeat('5e', {}), 'hex')"

STATEMENTS = (
    f"""insert into accounts (id, status, level, sealed_name, sealed_claims, created_at, updated_at)
    select md5('account ' || i)::uuid, 'active', 3, coalesce(sealed_name, {_DUMMY.format(39)}), sealed_claims,
           %(now)s - 864000, %(now)s - 864000 from {_PLACES}""",
    f"""insert into identifiers (id, account_id, type, blind_index, sealed_number, state, created_at)
    select md5('identifier ' || i)::uuid, md5('account ' || i)::uuid, 'cid',
           coalesce(number_index, sha256(('number ' || i)::bytea)), coalesce(sealed_number, {_DUMMY.format(48)}),
           'active', %(now)s - 864000 from {_PLACES}""",
    f"""insert into contacts (id, account_id, type, blind_index, sealed_value, verified_at, created_at)
    select md5('contact ' || i)::uuid, md5('account ' || i)::uuid, 'phone',
           coalesce(phone_index, sha256(('phone ' || i)::bytea)), coalesce(sealed_phone, {_DUMMY.format(41)}),
           %(now)s - 864000, %(now)s - 864000 from {_PLACES}""",
    f"""insert into passwords (account_id, hash, changed_at)
    select md5('account ' || i)::uuid, coalesce(hash, '$argon2id$v=19$m=19456,t=2,p=1$' || repeat('x', 66)),
           %(now)s - 864000 from {_PLACES}""",
    f"""insert into sessions (id, handle_hash, account_id, auth_time, level, amr, channel, address, user_agent,
           created_at, last_seen_at, expires_at)
    select md5('session ' || i)::uuid, coalesce(handle_hash, sha256(('handle ' || i)::bytea)),
           md5('account ' || i)::uuid, %(now)s, 3, 'pwd', 'web_hall', '127.0.0.1', repeat('agent ', 15),
           %(now)s, %(now)s + 3600, %(now)s + 43200 from {_PLACES}""",
    """insert into grants (id, client_id, account_id, session_id, scope, code_hash, code_expires_at, code_spent_at,
           redirect_uri, nonce, auth_time, level, amr, channel, generation, refresh_expires_at, created_at)
    select md5('grant ' || i)::uuid, 'filler' || i %% %(clients)s, md5('account ' || i)::uuid,
           md5('session ' || i)::uuid, 'openid profile offline_access', sha256(('code ' || i)::bytea),
           %(now)s - 863940, %(now)s - 863999, 'https://filler.example.test/cb', 'nonce', %(now)s - 864000, 3, 'pwd',
           'web_hall', 1, %(now)s + 1728000, %(now)s - 864000
      from generate_series(0::bigint, %(last)s::bigint) as i""",
)
CONSENTS = """insert into consents (id, account_id, client_id, scope, granted_at, expires_at)
    select md5(%(client)s || i)::uuid, md5('account ' || i)::uuid, %(client)s, %(scope)s, %(now)s, %(now)s + 8640000
      from sample"""
