"""People and whom they act for: accounts, their numbers and contacts, organizations, mandates."""

from uuid import UUID, uuid4

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from idp.models.base import Base, one_of


class Account(Base):
    """A person. `level` is the assurance level 1 to 5 that the account has reached."""

    __tablename__ = "accounts"
    __table_args__ = (
        one_of("status", "active", "locked", "closed"),
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
        one_of("state", "active", "superseded", "contested", "revoked", "sealed"),
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
    __table_args__ = (one_of("type", "phone", "email", "username"),)
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
        one_of("state", "waiting", "done", "failed"),
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
        one_of("status", "active", "suspended", "closed"),
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
        one_of("role", "legal_representative", "administrator", "agent"),
        one_of("state", "offered", "active", "revoked"),
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
