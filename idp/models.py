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


class LoginFailure(Base):
    """Consecutive failed sign-ins for one subject from one place (see lockout.py); truth that no restart forgets."""

    __tablename__ = "login_failures"
    subject: Mapped[bytes] = mapped_column(primary_key=True)
    place: Mapped[str] = mapped_column(primary_key=True)  # "*", a network, or a known device
    failures: Mapped[int]  # in a row, those during a lock included
    strikes: Mapped[int]  # of them towards the next lock
    locks: Mapped[int] = mapped_column(default=0)  # so far; each is longer than the one before
    locked_until: Mapped[int] = mapped_column(default=0)
    last_at: Mapped[int] = mapped_column(index=True)


class Message(Base):
    """Something that a person is told by phone or mail; whom it goes to is looked up when it is sent."""

    __tablename__ = "messages"
    __table_args__ = (
        _one_of("state", "waiting", "done", "failed"),
        Index("ix_messages_due", "state", "next_at"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    purpose: Mapped[str]
    detail: Mapped[str]  # a JSON object, never a number, name or secret
    state: Mapped[str] = mapped_column(default="waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[int]
    last_result: Mapped[str | None]
    created_at: Mapped[int]
    updated_at: Mapped[int]


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


class ClientPermission(Base):
    """What an operator permitted a client beyond its profile, and why."""

    __tablename__ = "client_permissions"
    __table_args__ = (_one_of("permission", "introspection", "token_endpoint_audience"),)
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    permission: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    created_at: Mapped[int]


class ClientKeySet(Base):
    """The public keys that a client publishes at its `jwks_uri`, as they were fetched last. Made at registration."""

    __tablename__ = "client_key_sets"
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    uri: Mapped[str]
    keys_json: Mapped[str | None]  # usable public keys only, in JWK form
    fetched_at: Mapped[int | None]
    fresh_until: Mapped[int] = mapped_column(default=0)
    tried_at: Mapped[int] = mapped_column(default=0)  # the last attempt to fetch, whatever came of it
    searched_at: Mapped[int] = mapped_column(default=0)  # the last attempt because of an unknown key
    fetch_id: Mapped[UUID | None]  # the attempt under way; nobody else's result counts
    result: Mapped[str | None]  # of the last attempt, in words for operators


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
    claims: Mapped[str | None]  # claims named one by one (OIDC Core 5.5): a JSON object of names
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
    grant_id: Mapped[UUID | None] = mapped_column(ForeignKey("grants.id"), index=True)  # None: a client's own token
    expires_at: Mapped[int] = mapped_column(index=True)


class Spent(Base):
    """What may be used once and was used: one insert under its key decides. The row may go when it has expired."""

    __tablename__ = "spent"
    key: Mapped[bytes] = mapped_column(primary_key=True)  # SHA-256 of the kind of thing and its name
    use_id: Mapped[UUID]  # the request that used it
    expires_at: Mapped[int] = mapped_column(index=True)  # from then on the thing is refused for its age


class Consent(Base):
    """What a person agreed that a client may know, until withdrawn; one row for each pair, read on the hot path.

    `version` names the terms that were shown (`ConsentText`), NULL for an agreement older than those records.
    """

    __tablename__ = "consents"
    __table_args__ = (UniqueConstraint("account_id", "client_id"),)
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), index=True)
    scope: Mapped[str]
    granted_at: Mapped[int]
    expires_at: Mapped[int]
    version: Mapped[bytes | None]
    withdrawn_at: Mapped[int | None]


class ConsentText(Base):
    """Terms that somebody was shown, once for all who were shown the same; `version` is the SHA-256 of `document`."""

    __tablename__ = "consent_texts"
    version: Mapped[bytes] = mapped_column(primary_key=True)
    document: Mapped[str]
    created_at: Mapped[int]


class Agreement(Base):
    """One act of consent, kept as evidence after its end (PIPL articles 14 and 15): what was shown, when it ended."""

    __tablename__ = "agreements"
    __table_args__ = (
        Index(
            "uq_agreements_open",
            "account_id",
            "client_id",
            unique=True,
            sqlite_where=text("ended_at is null"),
            postgresql_where=text("ended_at is null"),
        ),
        Index("ix_agreements_account_id", "account_id", "granted_at"),
        _one_of("end_reason", "withdrawn", "replaced"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), index=True)
    version: Mapped[bytes] = mapped_column(ForeignKey("consent_texts.version"))
    scope: Mapped[str]
    locale: Mapped[str]  # in which language it was shown
    channel: Mapped[str]
    mandate_id: Mapped[UUID | None] = mapped_column(ForeignKey("mandates.id"))
    granted_at: Mapped[int]
    expires_at: Mapped[int]
    ended_at: Mapped[int | None]
    end_reason: Mapped[str | None]


class Delivery(Base):
    """Something that must reach a relying party: kept, tried again with growing pauses, and shown to operators."""

    __tablename__ = "deliveries"
    __table_args__ = (
        _one_of("state", "waiting", "done", "failed"),
        Index("ix_deliveries_due", "state", "next_at"),
        Index("ix_deliveries_lane", "state", "client_id", "next_at"),
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
    error_class: Mapped[str | None]  # of the last attempt, NULL when it arrived
    leased_until: Mapped[int | None]  # a worker is sending it
    give_up_at: Mapped[int | None]
    created_at: Mapped[int]
    updated_at: Mapped[int]


class DeliveryLane(Base):
    """The way to one relying party: how often in a row it did not answer, and until when nothing is sent to it."""

    __tablename__ = "delivery_lanes"
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    failures: Mapped[int] = mapped_column(default=0)
    paused_until: Mapped[int] = mapped_column(default=0)
    updated_at: Mapped[int]


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
    __table_args__ = (_one_of("kind", "anchor", "checkpoint"),)
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
