"""Clients and what reaches them: registration, secrets, permissions, keys, deliveries."""

from uuid import UUID, uuid4

from sqlalchemy import (
    ForeignKey,
    Index,
)
from sqlalchemy.orm import Mapped, mapped_column

from idp.models.base import Base, one_of


class Client(Base):
    """A relying party. `metadata_json` holds its registration in the registered OAuth and OpenID names."""

    __tablename__ = "clients"
    __table_args__ = (
        one_of("status", "active", "suspended"),
        one_of("profile", "classic", "baseline"),
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
    __table_args__ = (one_of("permission", "introspection", "token_endpoint_audience"),)
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


class Delivery(Base):
    """Something that must reach a relying party: kept, tried again with growing pauses, and shown to operators."""

    __tablename__ = "deliveries"
    __table_args__ = (
        one_of("state", "waiting", "done", "failed"),
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
