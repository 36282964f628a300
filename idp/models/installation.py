"""The installation itself: facts, keys, the audit with its chain, leases of background work."""

from uuid import UUID, uuid4

from sqlalchemy import (
    CheckConstraint,
    Index,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from idp.models.base import Base, one_of


class Fact(Base):
    """What the installation remembers about itself: the fingerprint of its master key."""

    __tablename__ = "facts"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class MasterKey(Base):
    """A version of the master key, known by a fingerprint: who is about to seal, seals, still opens, or may go."""

    __tablename__ = "master_keys"
    __table_args__ = (
        one_of("state", "announced", "sealing", "opening", "retired"),
        Index(
            "uq_master_keys_sealing",
            "state",
            unique=True,
            sqlite_where=text("state = 'sealing'"),
            postgresql_where=text("state = 'sealing'"),
        ),
    )
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    fingerprint: Mapped[str]
    state: Mapped[str]
    missing_at: Mapped[int | None]  # when a process last said that it does not have it
    created_at: Mapped[int]
    sealing_since: Mapped[int | None]
    retired_at: Mapped[int | None]


class DataKey(Base):
    """A key of its own, sealed like a field: the root of everything derived outlives every master key."""

    __tablename__ = "data_keys"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(unique=True)
    sealed_key: Mapped[bytes]
    created_at: Mapped[int]


class Reseal(Base):
    """How far one sealed column has come on its way to another version of the master key."""

    __tablename__ = "reseals"
    place: Mapped[str] = mapped_column(primary_key=True)  # table.column
    version: Mapped[int]  # on the way to this one
    round: Mapped[int]
    position: Mapped[UUID]  # every row up to this id was looked at in this round
    total: Mapped[int]  # rows at the beginning of the round
    seen: Mapped[int]
    found: Mapped[int]  # values under another version, sealed anew or changed by somebody meanwhile
    broken: Mapped[int]  # values that no version opens
    started_at: Mapped[int]
    updated_at: Mapped[int]
    finished_at: Mapped[int | None]


class SigningKey(Base):
    """A key pair that signs tokens; the private part is sealed, and empty once the key is gone."""

    __tablename__ = "signing_keys"
    __table_args__ = (
        one_of("state", "next", "active", "retired", "gone"),
        Index(
            "uq_signing_keys_active",
            "algorithm",
            unique=True,
            sqlite_where=text("state = 'active'"),
            postgresql_where=text("state = 'active'"),
        ),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    kid: Mapped[str] = mapped_column(unique=True)
    algorithm: Mapped[str]
    state: Mapped[str]
    sealed_private: Mapped[bytes]
    public_jwk: Mapped[str]
    created_at: Mapped[int]
    activated_at: Mapped[int | None]
    retired_at: Mapped[int | None]
    gone_at: Mapped[int | None]
    signatures: Mapped[int] = mapped_column(default=0, server_default="0")
    last_signed_at: Mapped[int | None]


class AuditRecord(Base):
    """One security act. The columns of the chain are filled by the sealer.

    Its order is that of sealing: a record that commits late is sealed late, whatever its time says.
    """

    __tablename__ = "audit"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    at: Mapped[int] = mapped_column(index=True)
    event: Mapped[str]  # subject:object:action
    result: Mapped[str]
    actor: Mapped[str | None]  # account, client or command that acted
    account_id: Mapped[UUID | None] = mapped_column(index=True)  # the person concerned
    client_id: Mapped[str | None]
    channel: Mapped[str]
    address: Mapped[str]
    request_id: Mapped[str]
    detail: Mapped[str | None]  # a JSON object, never a number, name, token or secret
    sequence: Mapped[int | None] = mapped_column(unique=True)
    previous_hash: Mapped[bytes | None]
    hash: Mapped[bytes | None]
    key_version: Mapped[int | None]  # version of the master key whose chain key made `hash`
    mark: Mapped[bytes | None]  # proves that the product wrote the record, from the moment of writing on


class AuditHead(Base):
    """Where the chain ends; one row. Each sealing moves it by compare-and-set."""

    __tablename__ = "audit_head"
    __table_args__ = (CheckConstraint("id = 1", name="id"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sequence: Mapped[int]
    hash: Mapped[bytes]
    key_version: Mapped[int]
    mac: Mapped[bytes]  # binds number and hash, so that nobody without the key sets the end back unseen
    at: Mapped[int]
    unmarked_until: Mapped[int]  # records from before this time may be without mark: they are older than marks


class AuditAnchor(Base):
    """A signed statement that record `sequence` has this hash; a checkpoint says so of the last purged record."""

    __tablename__ = "audit_anchors"
    __table_args__ = (one_of("kind", "anchor", "checkpoint"),)
    kind: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hash: Mapped[bytes]
    at: Mapped[int]
    key_version: Mapped[int]
    mac: Mapped[bytes]
    statement: Mapped[str]  # a JWS by the signing keys, for those who do not have the master key
    filed_at: Mapped[int | None]  # appended to the file of anchors
    stored_at: Mapped[int | None]  # taken by the outside store
    receipt: Mapped[str | None]  # what the store answered, such as a time stamp
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[int] = mapped_column(default=0)
    last_result: Mapped[str | None]


class Lease(Base):
    """Background work that one process at a time does; who holds it, and until when unless renewed."""

    __tablename__ = "leases"
    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    expires_at: Mapped[int]
