"""One link of the chain: what of a record is hashed, under which key, and what binds a number to a hash.

    hash(n) = HMAC-SHA256(chain key, hash(n-1) || canonical record)        hash(0) = 32 zero bytes

The chain key comes from the root key, so a thief of the database cannot make the chain anew. Each record names the
version of the root key that it was sealed under. The number of a record is not hashed: it is its place, and
`mac_of` binds places to hashes at the head, at anchors and at checkpoints. So a record that was moved is known to be
whole, and to be in the wrong place.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, Select, select

from idp.encryption import ROOT_VERSION, Vault
from idp.models import AuditRecord

GENESIS = bytes(32)
FIELDS = (
    "id", "at", "event", "result", "actor", "account_id", "client_id", "channel", "address", "request_id", "detail",
)  # fmt: skip
_FORMAT = "yimen-audit-1"
_encode: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


class Record(NamedTuple):
    """A row of the audit as it is hashed, and its columns of the chain."""

    id: UUID
    at: int
    event: str
    result: str
    actor: str | None
    account_id: UUID | None
    client_id: str | None
    channel: str
    address: str
    request_id: str
    detail: str | None
    sequence: int | None
    previous_hash: bytes | None
    hash: bytes | None
    key_version: int | None
    mark: bytes | None


class Place(NamedTuple):
    """A number in the chain and the hash of the record that stands there."""

    sequence: int
    hash: bytes


START = Place(0, GENESIS)


def select_records() -> "Select[Any]":
    """All columns of `Record` in their order."""
    return select(*(getattr(AuditRecord, name) for name in Record._fields))


def as_record(row: "Row[Any]") -> Record:
    return Record._make(row)


def canonical(values: Sequence[Any]) -> bytes:
    """A JSON array in UTF-8: the name of the format, then the values in the order of FIELDS; UUIDs as 36 signs."""
    return _encode((_FORMAT, *values[: len(FIELDS)])).encode("utf-8", "surrogatepass")


def mark(vault: Vault, values: Sequence[Any]) -> bytes:
    """What proves that a holder of the master key wrote a record: the root key's version (2 bytes), HMAC-SHA256.

    The chain begins with sealing. The mark begins with writing: what somebody puts into the table has none.
    """
    return _mark(vault, ROOT_VERSION, canonical(values))


def _mark(vault: Vault, version: int, told: bytes) -> bytes:
    key = vault.derive_at(version, "audit record")
    return version.to_bytes(2, "big") + hmac.digest(key, told, hashlib.sha256)


def is_marked(vault: Vault, found: bytes, told: bytes) -> bool:
    """Whether a mark is the one of this canonical record. Raises MasterKeyError when its version is missing."""
    return hmac.compare_digest(_mark(vault, int.from_bytes(found[:2], "big"), told), found)


Hasher = Callable[[bytes, bytes], bytes]
"""The hash of a canonical record that follows this hash."""


def hasher(vault: Vault, version: int) -> Hasher:
    """Hashes under one root key. Raises MasterKeyError when it is not known."""
    return partial(_hash, vault.derive_at(version, "audit chain"))


def _hash(key: bytes, previous: bytes, told: bytes) -> bytes:
    return hmac.digest(key, previous + told, hashlib.sha256)


def mac_of(vault: Vault, version: int, kind: str, place: Place, at: int, *more: int) -> bytes:
    """HMAC-SHA256 that binds a number to a hash; `kind` is head, anchor or checkpoint."""
    told = _encode((_FORMAT, kind, place.sequence, place.hash.hex(), at, *more)).encode()
    return hmac.digest(vault.derive_at(version, "audit anchor"), told, hashlib.sha256)
