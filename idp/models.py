"""The provider's tables. Times are epoch seconds, hashes are SHA-256, `sealed_` columns hold Vault blobs."""

from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        UUID: Uuid(),
        str: Text(),
        int: BigInteger(),
        bytes: LargeBinary(),
    }


def _one_of(column: str, *words: str) -> CheckConstraint:
    allowed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} in ({allowed})", name=column)


class Fact(Base):
    """What the installation remembers about itself: the fingerprint of its master key."""

    __tablename__ = "facts"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class MasterKey(Base):
    """A version of the master key, known by a fingerprint: who is about to seal, seals, still opens, or may go."""

    __tablename__ = "master_keys"
    __table_args__ = (
        _one_of("state", "announced", "sealing", "opening", "retired"),
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


class Account(Base):
    """A person. `level` is the assurance level 1 to 5 that the account has reached."""

    __tablename__ = "accounts"
    __table_args__ = (
        _one_of("status", "active", "locked", "closed"),
        CheckConstraint("level between 1 and 5", name="level"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    status: Mapped[str] = mapped_column(default="active")
    level: Mapped[int]
    sealed_name: Mapped[bytes]
    sealed_claims: Mapped[bytes | None]  # further standard claims, one JSON object
    created_at: Mapped[int]
    updated_at: Mapped[int]


class Identifier(Base):
    """A number that names a person from level 3 on; at most one account holds it in force (domain.md section 5)."""

    __tablename__ = "identifiers"
    __table_args__ = (
        _one_of("state", "active", "superseded", "contested", "revoked", "sealed"),
        Index(
            "uq_identifiers_in_force",
            "type",
            "blind_index",
            unique=True,
            sqlite_where=text("state in ('active', 'sealed')"),
            postgresql_where=text("state in ('active', 'sealed')"),
        ),
        Index("ix_identifiers_blind_index", "blind_index"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    type: Mapped[str]
    blind_index: Mapped[bytes]
    sealed_number: Mapped[bytes]
    state: Mapped[str] = mapped_column(default="active")
    created_at: Mapped[int]


class Mention(Base):
    """A number that was merely typed (level 2 and below): it blocks nobody and signs nobody in."""

    __tablename__ = "mentions"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    type: Mapped[str]
    blind_index: Mapped[bytes] = mapped_column(index=True)
    sealed_number: Mapped[bytes]
    created_at: Mapped[int]


class Contact(Base):
    """A phone, mail address or user name. A contact is never an identity: several accounts may share a phone."""

    __tablename__ = "contacts"
    __table_args__ = (_one_of("type", "phone", "email", "username"),)
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    type: Mapped[str]
    blind_index: Mapped[bytes] = mapped_column(index=True)
    sealed_value: Mapped[bytes]
    verified_at: Mapped[int | None]
    created_at: Mapped[int]


class Password(Base):
    __tablename__ = "passwords"
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    hash: Mapped[str]
    changed_at: Mapped[int]


class Organization(Base):
    """A legal person or other organization, named by its unified social credit code (GB 32100)."""

    __tablename__ = "organizations"
    __table_args__ = (
        _one_of("status", "active", "suspended", "closed"),
        CheckConstraint("level between 1 and 5", name="level"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    uscc_index: Mapped[bytes] = mapped_column(unique=True)
    sealed_uscc: Mapped[bytes]
    sealed_name: Mapped[bytes]
    status: Mapped[str] = mapped_column(default="active")
    level: Mapped[int]
    created_at: Mapped[int]


class Mandate(Base):
    """Who may act for which organization, for what, until when."""

    __tablename__ = "mandates"
    __table_args__ = (
        _one_of("role", "legal_representative", "administrator", "agent"),
        _one_of("state", "offered", "active", "revoked"),
        Index(
            "uq_mandates_legal_representative",
            "organization_id",
            unique=True,
            sqlite_where=text("role = 'legal_representative' and state = 'active'"),
            postgresql_where=text("role = 'legal_representative' and state = 'active'"),
        ),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    role: Mapped[str]
    scope: Mapped[str] = mapped_column(default="*")  # "*" for all matters, else item codes parted by blanks
    state: Mapped[str] = mapped_column(default="active")
    valid_from: Mapped[int]
    valid_until: Mapped[int | None]
    source: Mapped[str]
    granted_by: Mapped[UUID | None]
    created_at: Mapped[int]
    ended_at: Mapped[int | None]


class Client(Base):
    """A relying party. `metadata_json` holds its registration in the registered OAuth and OpenID names."""

    __tablename__ = "clients"
    __table_args__ = (
        _one_of("status", "active", "suspended"),
        _one_of("profile", "classic", "baseline"),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    profile: Mapped[str]
    status: Mapped[str] = mapped_column(default="active")
    metadata_json: Mapped[str]
    sector: Mapped[str]  # host that pairwise subjects are made for (OIDC Core 8.1)
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[int]
    updated_at: Mapped[int]


class ClientSecret(Base):
    """SHA-256 of a secret of 256 bits. Two may live at once while a client changes over."""

    __tablename__ = "client_secrets"
    hash: Mapped[bytes] = mapped_column(primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), index=True)
    last_four: Mapped[str]
    created_at: Mapped[int]
    expires_at: Mapped[int | None]


class LegalBasis(Base):
    """The recorded ground on which a client may receive a guarded scope such as `identity_number`."""

    __tablename__ = "legal_bases"
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)
    basis: Mapped[str]
    created_at: Mapped[int]


class SigningKey(Base):
    """A key pair that signs tokens; the private part is sealed, and empty once the key is gone."""

    __tablename__ = "signing_keys"
    __table_args__ = (
        _one_of("state", "next", "active", "retired", "gone"),
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


class SignOn(Base):
    """A sign-on session of a browser (contract: session). The cookie's value is known only by its hash."""

    __tablename__ = "sessions"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    handle_hash: Mapped[bytes] = mapped_column(unique=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    auth_time: Mapped[int]
    level: Mapped[int]  # what this authentication proved, at most the account's level
    amr: Mapped[str]  # RFC 8176 values parted by blanks
    channel: Mapped[str]
    address: Mapped[str]
    user_agent: Mapped[str]
    created_at: Mapped[int]
    last_seen_at: Mapped[int]
    expires_at: Mapped[int] = mapped_column(index=True)
    ended_at: Mapped[int | None]
    end_reason: Mapped[str | None]


class Grant(Base):
    """One row for each authorization: its code, its login context, and the state of its refresh family.

    Nothing in it is usable as a token: the code is a hash, refresh and access tokens are sealed handles made from
    the row's id, its generation and a key outside the database.
    """

    __tablename__ = "grants"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), index=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id"), index=True)
    scope: Mapped[str]
    code_hash: Mapped[bytes] = mapped_column(unique=True)
    code_expires_at: Mapped[int]
    code_spent_at: Mapped[int | None]
    redirect_uri: Mapped[str]
    code_challenge: Mapped[str | None]
    nonce: Mapped[str | None]
    auth_time: Mapped[int]
    level: Mapped[int]
    amr: Mapped[str]
    channel: Mapped[str]
    mandate_id: Mapped[UUID | None] = mapped_column(ForeignKey("mandates.id"), index=True)
    generation: Mapped[int] = mapped_column(default=0)  # number of the refresh token in force; 0 before the first
    rotated_at: Mapped[int | None]
    refresh_expires_at: Mapped[int | None]
    created_at: Mapped[int]
    revoked_at: Mapped[int | None]
    revoke_reason: Mapped[str | None]


class RevokedToken(Base):
    """A single access token that was revoked before its time; the row may go when the token has expired."""

    __tablename__ = "revoked_tokens"
    token_id: Mapped[UUID] = mapped_column(primary_key=True)
    grant_id: Mapped[UUID] = mapped_column(ForeignKey("grants.id"), index=True)
    expires_at: Mapped[int] = mapped_column(index=True)


class Consent(Base):
    """What a person agreed that a client may know, until withdrawn; one living row for each pair and capacity."""

    __tablename__ = "consents"
    __table_args__ = (UniqueConstraint("account_id", "client_id"),)
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), index=True)
    scope: Mapped[str]
    granted_at: Mapped[int]
    expires_at: Mapped[int]


class Delivery(Base):
    """Something that must reach a relying party: kept, tried again with growing pauses, and shown to operators."""

    __tablename__ = "deliveries"
    __table_args__ = (
        _one_of("state", "waiting", "done", "failed"),
        Index("ix_deliveries_due", "state", "next_at"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    kind: Mapped[str]
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), index=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id"), index=True)
    url: Mapped[str]
    state: Mapped[str] = mapped_column(default="waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[int]
    last_result: Mapped[str | None]
    created_at: Mapped[int]
    updated_at: Mapped[int]


class AuditRecord(Base):
    """One security act. The columns of the chain are filled by the sealer, in the order of commits."""

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
