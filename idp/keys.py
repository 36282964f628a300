"""Signing keys: made, sealed, rotated and published (RFC 7517); JWTs signed and checked (RFC 7519).

A key is `next` (published, unused), `active` (signs), `retired` (published until its last token has expired) or
`gone` (its private part is deleted). Every signed token names its `kid`.

    next → active    by `rotate`; clients have had JWKS_SECONDS to learn of it, or `rotate` warns
    active → retired by `rotate`; a worker signs with it for as long as it has not read the change, and it verifies
    retired → gone   RETIRED_SECONDS later, by any worker: by then nothing that it signed is valid

Workers read the keys every two seconds. One that is behind does no harm: what it signs with is published, and what
the others sign with was published before.
"""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from idp.encryption import Vault
from idp.models import SigningKey

ALGORITHMS = ("ES256", "RS256")
JWKS_SECONDS = 300  # how long a client may keep the key set
RETIRED_SECONDS = 86_400  # how long a retired key is published: far above the longest life of a signed token and caches
_TABLE, _COLUMN = SigningKey.__tablename__, "sealed_private"
TOKEN_LIMIT = 8_192  # characters; our own tokens are far smaller


def b64(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """The bytes of base64url text. Raises ValueError for anything that is not its one canonical spelling."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if b64(data) != text:
        raise ValueError("not canonical base64url")
    return data


class Signer(Protocol):
    """A key pair of one algorithm."""

    def sign(self, data: bytes) -> bytes: ...

    def verify(self, signature: bytes, data: bytes) -> bool: ...

    def public_jwk(self) -> dict[str, str]: ...


class Es256:
    """ECDSA on P-256 with SHA-256 (RFC 7518 section 3.4)."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self.private = private
        self._public = private.public_key()
        self._ecdsa = ec.ECDSA(hashes.SHA256())

    @staticmethod
    def generate() -> "Es256":
        return Es256(ec.generate_private_key(ec.SECP256R1()))

    def sign(self, data: bytes) -> bytes:
        r, s = decode_dss_signature(self.private.sign(data, self._ecdsa))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def verify(self, signature: bytes, data: bytes) -> bool:
        if len(signature) != 64:
            return False
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        try:
            self._public.verify(encode_dss_signature(r, s), data, self._ecdsa)
        except InvalidSignature:
            return False
        return True

    def public_jwk(self) -> dict[str, str]:
        numbers = self._public.public_numbers()
        x, y = b64(numbers.x.to_bytes(32, "big")), b64(numbers.y.to_bytes(32, "big"))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


class Rs256:
    """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 section 3.3), what OpenID Connect demands of everybody."""

    def __init__(self, private: rsa.RSAPrivateKey) -> None:
        self.private = private
        self._public = private.public_key()

    @staticmethod
    def generate() -> "Rs256":
        return Rs256(rsa.generate_private_key(65537, 2048))

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def verify(self, signature: bytes, data: bytes) -> bool:
        try:
            self._public.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    def public_jwk(self) -> dict[str, str]:
        numbers = self._public.public_numbers()
        n = b64(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"))
        return {"kty": "RSA", "n": n, "e": b64(numbers.e.to_bytes(3, "big"))}


def thumbprint(jwk: Mapping[str, str]) -> str:
    """RFC 7638 with SHA-256."""
    members = {name: jwk[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in jwk}
    return b64(hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest())


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the ring."""

    kid: str
    algorithm: str
    state: str
    signer: Signer
    jwk: dict[str, str]
    retired_at: int | None


class KeyRing:
    """The keys of this process; `reload` picks up what another process rotated."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._active: dict[str, Key] = {}
        self._uses: Counter[str] = Counter()
        self.jwks = b'{"keys":[]}'

    def reload(self, session: Session, vault: Vault, now: int) -> None:
        """Read the published keys. A key already known is not unsealed again."""
        rows = session.scalars(select(SigningKey).where(SigningKey.state != "gone").order_by(SigningKey.created_at))
        keys = {}
        for row in rows:
            if row.state == "retired" and (row.retired_at or 0) + RETIRED_SECONDS < now:
                continue
            known = self._keys.get(row.kid)
            signer = known.signer if known else _unseal(vault, row)
            keys[row.kid] = Key(row.kid, row.algorithm, row.state, signer, json.loads(row.public_jwk), row.retired_at)
        self._keys = keys
        self._active = {key.algorithm: key for key in keys.values() if key.state == "active"}
        self.jwks = json.dumps({"keys": [key.jwk for key in keys.values()]}).encode()

    def sign(self, claims: Mapping[str, Any], *, typ: str, algorithm: str) -> str:
        """A compact JWS by the active key of the algorithm. Raises KeyError when there is none."""
        key = self._active[algorithm]
        header = json.dumps({"alg": algorithm, "kid": key.kid, "typ": typ}, separators=(",", ":"))
        payload = json.dumps(claims, separators=(",", ":"), ensure_ascii=False)
        signed = f"{b64(header.encode())}.{b64(payload.encode())}"
        self._uses[key.kid] += 1
        return f"{signed}.{b64(key.signer.sign(signed.encode()))}"

    def take_uses(self) -> dict[str, int]:
        """How often each key has signed since this was asked last."""
        uses, self._uses = self._uses, Counter()
        return dict(uses)

    def verify(self, token: str, *, typ: str) -> dict[str, Any] | None:
        """The claims of a JWT that this server signed and that has this type; None for anything else.

        Neither expiry nor audience is looked at: that is the caller's rule. The key decides the algorithm.
        """
        if len(token) > TOKEN_LIMIT or token.count(".") != 2:
            return None
        signed, _, signature = token.rpartition(".")
        try:
            header = json.loads(unb64(signed.partition(".")[0]))
            key = self._keys.get(str(header.get("kid")))
            if key is None or header.get("alg") != key.algorithm or header.get("typ") != typ or "crit" in header:
                return None
            if not key.signer.verify(unb64(signature), signed.encode()):
                return None
            claims = json.loads(unb64(signed.partition(".")[2]))
        except (ValueError, AttributeError, RecursionError):
            return None
        return claims if isinstance(claims, dict) else None


def _unseal(vault: Vault, row: SigningKey) -> Signer:
    pem = vault.unseal(_TABLE, _COLUMN, row.id, row.sealed_private).encode()
    private = serialization.load_pem_private_key(pem, None)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return Es256(private)
    if isinstance(private, rsa.RSAPrivateKey):
        return Rs256(private)
    raise TypeError(f"signing key {row.kid} is of an unknown kind")


def _new_row(vault: Vault, algorithm: str, state: str, now: int) -> SigningKey:
    signer = Es256.generate() if algorithm == "ES256" else Rs256.generate()
    pem = signer.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    jwk = signer.public_jwk()
    kid = thumbprint(jwk)
    row_id = uuid4()
    return SigningKey(
        id=row_id,
        kid=kid,
        algorithm=algorithm,
        state=state,
        sealed_private=vault.seal(_TABLE, _COLUMN, row_id, pem.decode()),
        public_jwk=json.dumps({**jwk, "kid": kid, "alg": algorithm, "use": "sig"}),
        created_at=now,
        activated_at=now if state == "active" else None,
    )


def ensure(session: Session, vault: Vault, now: int) -> None:
    """Make the first active and next key of each algorithm where they are missing."""
    for algorithm in ALGORITHMS:
        for state in ("active", "next"):
            found = session.scalar(
                select(SigningKey.id).where(SigningKey.algorithm == algorithm, SigningKey.state == state).limit(1)
            )
            if found is None:
                session.add(_new_row(vault, algorithm, state, now))
    session.flush()


def rotate(session: Session, vault: Vault, now: int) -> list[str]:
    """For each algorithm: active becomes retired, next becomes active, a new next is made. The new active kids.

    Clients have seen the key before it signs, because `next` was published all along.
    """
    hold(session)
    active = [_move_on(session, vault, algorithm, now) for algorithm in ALGORITHMS]
    bury(session, now)
    return active


def hold(session: Session) -> None:
    """One rotation after the other: lock the rows, the oldest first, until the transaction ends."""
    session.execute(select(SigningKey.id).order_by(SigningKey.created_at, SigningKey.id).with_for_update()).all()
    session.expire_all()


def _move_on(session: Session, vault: Vault, algorithm: str, now: int) -> str:
    ensure(session, vault, now)
    of = (SigningKey.algorithm == algorithm,)
    session.execute(update(SigningKey).where(*of, SigningKey.state == "active").values(state="retired", retired_at=now))
    successor = session.scalars(
        select(SigningKey).where(*of, SigningKey.state == "next").order_by(SigningKey.created_at).limit(1)
    ).one()
    successor.state, successor.activated_at = "active", now
    session.flush()
    session.add(_new_row(vault, algorithm, "next", now))
    session.flush()
    return successor.kid


def bury(session: Session, now: int) -> list[str]:
    """Delete the private parts of keys that were retired RETIRED_SECONDS ago. The kids that are gone now."""
    return sorted(
        session.scalars(
            update(SigningKey)
            .where(SigningKey.state == "retired", SigningKey.retired_at < now - RETIRED_SECONDS)
            .values(state="gone", gone_at=now, sealed_private=b"")
            .returning(SigningKey.kid)
        )
    )


def unknown_to_caches(session: Session, now: int) -> int:
    """Seconds until every client's cached key set holds the next keys; 0 when it does.

    A set is kept for JWKS_SECONDS. Before the first rotation no set can lack the next keys: they are as old as the
    active ones.
    """
    rotated = session.scalar(
        select(func.count()).select_from(SigningKey).where(SigningKey.state.in_(("retired", "gone")))
    )
    newest = session.scalar(select(func.max(SigningKey.created_at)).where(SigningKey.state == "next"))
    return max(0, (newest or 0) + JWKS_SECONDS - now) if rotated else 0


def record_uses(session: Session, uses: Mapping[str, int], now: int) -> None:
    """Add up how often keys have signed, for `doctor`."""
    for kid, number in sorted(uses.items()):
        session.execute(
            update(SigningKey)
            .where(SigningKey.kid == kid)
            .values(signatures=SigningKey.signatures + number, last_signed_at=now)
            .execution_options(synchronize_session=False)
        )


def listing(session: Session, *, gone: bool = False) -> list[dict[str, Any]]:
    """All keys, those that are gone only on demand, oldest first, with the time at which each state began."""
    wanted = select(SigningKey).order_by(SigningKey.created_at, SigningKey.kid)
    rows = session.scalars(wanted if gone else wanted.where(SigningKey.state != "gone"))
    return [
        {
            "kid": row.kid,
            "algorithm": row.algorithm,
            "state": row.state,
            "created_at": row.created_at,
            "activated_at": row.activated_at,
            "retired_at": row.retired_at,
            "gone_at": row.gone_at,
            "signatures": row.signatures,
            "last_signed_at": row.last_signed_at,
        }
        for row in rows
    ]
