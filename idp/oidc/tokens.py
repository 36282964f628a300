"""Tokens: sealed handles that name their grant, subjects that name nobody, hashes that tie them together.

Access and refresh tokens hold their facts under a key outside the database: issuing stores nothing, and a stolen
database yields no usable token. The database decides whether what a handle names is still in force.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

from idp.context import Context
from idp.encryption import Vault
from idp.keys import b64, unb64
from idp.oidc import profiles
from idp.oidc.client import RelyingParty
from idp.oidc.store import GrantRow

HANDLE_LIMIT = 2_048  # characters


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What an access token says: its grant, its own id, its end, and the scope it was narrowed to."""

    grant_id: UUID
    token_id: UUID
    expires_at: int
    scope: str


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What a refresh token says: its grant and its place in the family."""

    grant_id: UUID
    generation: int


def new_code() -> str:
    """An authorization code: 256 random bits that say nothing (RFC 6749 section 10.10)."""
    return secrets.token_urlsafe(32)


def hash_of(secret: str) -> bytes:
    """How codes and session handles are known to the database."""
    return hashlib.sha256(secret.encode()).digest()


def seal_access(vault: Vault, grant_id: UUID, expires_at: int, scope: str) -> tuple[str, UUID]:
    """An opaque access token and its own id."""
    token_id = uuid4()
    facts = grant_id.bytes + token_id.bytes + expires_at.to_bytes(8, "big") + scope.encode()
    nonce = secrets.token_bytes(12)
    sealed = AESGCM(vault.derive("access token")).encrypt(nonce, facts, b"access")
    return b64(nonce + sealed), token_id


def open_access(vault: Vault, token: str) -> AccessToken | None:
    """The facts of an access token that this server sealed, expired or not; None for anything else."""
    raw = _unb64(token)
    if raw is None or len(raw) < 12 + 40 + 16:
        return None
    try:
        facts = AESGCM(vault.derive("access token")).decrypt(raw[:12], raw[12:], b"access")
    except InvalidTag:
        return None
    grant_id, token_id = UUID(bytes=facts[:16]), UUID(bytes=facts[16:32])
    return AccessToken(grant_id, token_id, int.from_bytes(facts[32:40], "big"), facts[40:].decode())


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """What a client's own access token says: the client, its own id, its end and its scope. It has no grant."""

    client_id: str
    token_id: UUID
    expires_at: int
    scope: str


def seal_service(vault: Vault, client_id: str, expires_at: int, scope: str) -> str:
    """An opaque access token of a client itself. Another key than a person's token: neither passes for the other."""
    facts = uuid4().bytes + expires_at.to_bytes(8, "big") + f"{client_id}\0{scope}".encode()
    nonce = secrets.token_bytes(12)
    return b64(nonce + AESGCM(vault.derive("service token")).encrypt(nonce, facts, b"service"))


def open_service(vault: Vault, token: str) -> ServiceToken | None:
    """The facts of a client's own token that this server sealed, expired or not; None for anything else."""
    raw = _unb64(token)
    if raw is None or len(raw) < 12 + 24 + 16:
        return None
    try:
        facts = AESGCM(vault.derive("service token")).decrypt(raw[:12], raw[12:], b"service")
    except InvalidTag:
        return None
    client_id, _, scope = facts[24:].decode().partition("\0")
    return ServiceToken(client_id, UUID(bytes=facts[:16]), int.from_bytes(facts[16:24], "big"), scope)


def seal_refresh(vault: Vault, grant_id: UUID, generation: int) -> str:
    """The refresh token of one generation. It is always the same text, so a repeated parent gets the same child
    (security.md section 3.2) though nothing of it is stored; AES-SIV makes it unforgeable (RFC 5297)."""
    facts = grant_id.bytes + generation.to_bytes(8, "big")
    return b64(AESSIV(vault.derive("refresh token")).encrypt(facts, [b"refresh"]))


def open_refresh(vault: Vault, token: str) -> RefreshToken | None:
    """The facts of a refresh token that this server sealed; None for anything else."""
    raw = _unb64(token)
    if raw is None or len(raw) != 16 + 24:
        return None
    try:
        facts = AESSIV(vault.derive("refresh token")).decrypt(raw, [b"refresh"])
    except InvalidTag:
        return None
    return RefreshToken(UUID(bytes=facts[:16]), int.from_bytes(facts[16:], "big"))


def _unb64(text: str) -> bytes | None:
    if len(text) > HANDLE_LIMIT or not text.isascii():
        return None
    try:
        return unb64(text)
    except ValueError:
        return None


def subject(vault: Vault, client: RelyingParty, account_id: UUID) -> str:
    """`sub` of a person at a client: pairwise by sector (OIDC Core section 8.1), the account's own if `public`.

    It is derived from the account's UUID and a key, never from a number, so it survives every change of number.
    """
    sector = client.sector if client.metadata.get("subject_type", "pairwise") == "pairwise" else "public"
    return _keyed(vault, "subject", sector.encode() + b"\0" + account_id.bytes)


def session_id(vault: Vault, client_id: str, session: UUID) -> str:
    """`sid` of a session at a client; two clients cannot compare theirs."""
    return _keyed(vault, "sid", client_id.encode() + b"\0" + session.bytes)


def _keyed(vault: Vault, purpose: str, message: bytes) -> str:
    return b64(hmac.new(vault.derive(purpose), message, hashlib.sha256).digest()[:24])


def half_hash(value: str) -> str:
    """`at_hash` for RS256 and ES256: the left half of SHA-256 (OIDC Core section 3.1.3.6)."""
    return b64(hashlib.sha256(value.encode()).digest()[:16])


def id_token(
    context: Context, client: RelyingParty, grant: GrantRow, access_token: str, extra: Mapping[str, Any]
) -> str:
    """An ID token (OIDC Core section 2) with the login context of the grant: the same at login and at refresh."""
    now = context.now()
    claims: dict[str, Any] = {
        **extra,
        "iss": context.config.issuer,
        "sub": subject(context.vault, client, grant.account_id),
        "aud": client.client_id,
        "iat": now,
        "exp": now + profiles.ID_TOKEN_SECONDS,
        "auth_time": grant.auth_time,
        "acr": profiles.acr(grant.level),
        "amr": grant.amr.split(),
        "sid": session_id(context.vault, client.client_id, grant.session_id),
        "at_hash": half_hash(access_token),
    }
    if grant.nonce is not None:
        claims["nonce"] = grant.nonce
    return context.keys.sign(claims, typ="JWT", algorithm=client.algorithm)
