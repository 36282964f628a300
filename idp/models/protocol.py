"""What is given out: sign-on sessions, grants, spent things, consents."""

from uuid import UUID, uuid4

from sqlalchemy import (
    ForeignKey,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from idp.models.base import Base, one_of


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
        one_of("end_reason", "withdrawn", "replaced"),
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
