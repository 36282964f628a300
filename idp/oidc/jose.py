"""Signatures of clients: public keys out of JWK sets (RFC 7517) and compact JWS (RFC 7515), read strictly.

The caller names the algorithms it takes; the key must be made for the algorithm, whatever a header says.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from idp.keys import unb64

TOKEN_LIMIT = 8_192  # characters
KEYS_LIMIT = 50  # keys of one set that are looked at
RSA_BITS = range(2_048, 8_193)
PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_KINDS = {"RSA": ("RS256", "PS256"), "EC": ("ES256",), "OKP": ("EdDSA",)}
_KEPT = ("kty", "crv", "x", "y", "n", "e", "kid", "alg", "use")


class Malformed(ValueError):
    """Text that is no JSON object, no key set or no compact JWS."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One usable key: its name, what it may verify, and how it is published."""

    kid: str | None
    algorithms: tuple[str, ...]
    key: Any
    jwk: Mapping[str, str]

    def verify(self, algorithm: str, signature: bytes, data: bytes) -> bool:
        """Whether the signature was made by this key with this algorithm (RFC 7518 section 3, RFC 8037 section 3.1)."""
        if algorithm not in self.algorithms:
            return False
        try:
            _VERIFIERS[algorithm](self.key, signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signed:
    """A compact JWS taken apart. Nothing in it is true before its signature was verified."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    data: bytes
    signature: bytes

    def text(self, name: str) -> str:
        """A claim that is a text, "" otherwise."""
        value = self.claims.get(name)
        return value if isinstance(value, str) else ""

    def seconds(self, name: str) -> float | None:
        """A claim that is a NumericDate (RFC 7519 section 2). Raises Malformed for any other value."""
        value = self.claims.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
            raise Malformed(f"{name} is no number of seconds")
        return float(value)


def read_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object: no member twice, no NaN. Raises Malformed."""
    try:
        found = json.loads(text, object_pairs_hook=_members, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Malformed("no proper JSON") from None
    if not isinstance(found, dict):
        raise Malformed("no JSON object")
    return found


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member twice")
    return found


def _refuse(text: str) -> None:
    raise ValueError(text)


def take_apart(token: str) -> Signed:
    """The parts of a compact JWS whose payload is a JSON object. Raises Malformed."""
    if len(token) > TOKEN_LIMIT or token.count(".") != 2 or not token.isascii():
        raise Malformed("no compact JWS")
    data, _, signature = token.rpartition(".")
    head, _, payload = data.partition(".")
    try:
        header, claims = read_object(unb64(head)), read_object(unb64(payload))
        raw = unb64(signature)
    except ValueError:
        raise Malformed("no compact JWS") from None
    if "crit" in header or not isinstance(header.get("alg"), str):
        raise Malformed("a header that is not understood")
    return Signed(header, claims, data.encode(), raw)


def is_signed(token: Signed, key: PublicKey | None) -> bool:
    return key is not None and key.verify(str(token.header["alg"]), token.signature, token.data)


# --- key sets


@functools.lru_cache(maxsize=1_024)
def known_set(text: str) -> tuple[PublicKey, ...]:
    """`read_set` of a text that is asked for again and again."""
    return read_set(text)


def read_set(text: str | bytes) -> tuple[PublicKey, ...]:
    """The usable keys of a JWK set; others (another curve, for encryption, private, too short) are passed over.

    Raises Malformed for what is no key set.
    """
    members = read_object(text).get("keys")
    if not isinstance(members, list):
        raise Malformed("no member keys")
    found = (read_key(jwk) for jwk in members[:KEYS_LIMIT] if isinstance(jwk, dict))
    return tuple(key for key in found if key is not None)


def write_set(keys: Iterable[PublicKey]) -> str:
    """The keys as a JWK set that holds nothing else."""
    return json.dumps({"keys": [dict(key.jwk) for key in keys]}, sort_keys=True)


def read_key(jwk: Mapping[str, Any]) -> PublicKey | None:
    """A public key for signatures that this server can verify, else None."""
    kind, kid = jwk.get("kty"), jwk.get("kid")
    if not isinstance(kind, str) or kind not in _KINDS or PRIVATE & set(jwk) or jwk.get("use", "sig") != "sig":
        return None
    if "key_ops" in jwk and (not isinstance(jwk["key_ops"], list) or "verify" not in jwk["key_ops"]):
        return None
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= 200 and kid.isprintable()):
        return None
    algorithms = tuple(name for name in _KINDS[kind] if jwk.get("alg", name) == name)
    try:
        key = _READERS[kind](jwk) if algorithms else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if key is None:
        return None
    return PublicKey(kid, algorithms, key, {name: jwk[name] for name in _KEPT if name in jwk})


def choose(keys: Iterable[PublicKey], token: Signed) -> PublicKey | None:
    """The key that a token names, or without a name the only one of its algorithm (OIDC Core section 10.1)."""
    fitting = [key for key in keys if token.header["alg"] in key.algorithms]
    if "kid" in token.header:
        fitting = [key for key in fitting if key.kid == token.header["kid"]]
    return fitting[0] if len(fitting) == 1 else None


def _read_rsa(jwk: Mapping[str, Any]) -> rsa.RSAPublicKey | None:
    n, e = (int.from_bytes(unb64(jwk[name]), "big") for name in ("n", "e"))
    if n.bit_length() not in RSA_BITS or not 65_537 <= e < 2**32:
        return None
    return rsa.RSAPublicNumbers(e, n).public_key()


def _read_ec(jwk: Mapping[str, Any]) -> ec.EllipticCurvePublicKey | None:
    x, y = unb64(jwk["x"]), unb64(jwk["y"])
    if jwk["crv"] != "P-256" or (len(x), len(y)) != (32, 32):
        return None
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
    return numbers.public_key()


def _read_okp(jwk: Mapping[str, Any]) -> ed25519.Ed25519PublicKey | None:
    return ed25519.Ed25519PublicKey.from_public_bytes(unb64(jwk["x"])) if jwk["crv"] == "Ed25519" else None


_READERS: Mapping[str, Any] = {"RSA": _read_rsa, "EC": _read_ec, "OKP": _read_okp}


def _verify_rs256(key: rsa.RSAPublicKey, signature: bytes, data: bytes) -> None:
    key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())


def _verify_ps256(key: rsa.RSAPublicKey, signature: bytes, data: bytes) -> None:
    key.verify(signature, data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


def _verify_es256(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> None:
    if len(signature) != 64:
        raise InvalidSignature
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))


def _verify_eddsa(key: ed25519.Ed25519PublicKey, signature: bytes, data: bytes) -> None:
    key.verify(signature, data)


_VERIFIERS: Mapping[str, Any] = {
    "RS256": _verify_rs256,
    "PS256": _verify_ps256,
    "ES256": _verify_es256,
    "EdDSA": _verify_eddsa,
}
