"""Client assertions (RFC 7523 section 3, RFC 10070): who made this one, for whom, when, and that it is used once.

What is wrong is said for the audit only; the client hears the same refusal whatever it was.
"""

import hashlib
import math
from dataclasses import dataclass

from idp.oidc import jose
from idp.oidc.client import RelyingParty
from idp.oidc.jose import Malformed, PublicKey, Signed

TYPE = "client-authentication+jwt"
LIFE_SECONDS = 300
AHEAD_SECONDS = 30  # a clock may be 10 s ahead (FAPI 2.0 section 5.3.2), and must not be 60 s ahead
JTI_LIMIT = 512


class Rejected(Exception):
    """An assertion that proves nothing; the reason is one word for the audit."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a good assertion: the mark that it spends, and until when the mark must be kept."""

    key: bytes
    expires_at: int


def check(
    token: Signed, party: RelyingParty, key: PublicKey | None, *, issuer: str, endpoints: frozenset[str], now: int
) -> Use:
    """What this assertion spends. Raises Rejected.

    `endpoints` are the addresses that the profile may admit as audience beside the issuer (protocol.md section 4).
    """
    _check_header(token, party)
    if token.text("iss") != party.client_id or token.text("sub") != party.client_id:
        raise Rejected("issuer")
    _check_audience(token, party, issuer, endpoints)
    expires_at = _check_times(token, now)
    jti = token.text("jti")
    if not 0 < len(jti) <= JTI_LIMIT:
        raise Rejected("jti")
    if key is None:
        raise Rejected("key")
    if not jose.is_signed(token, key):
        raise Rejected("signature")
    name = "\0".join(("client assertion", party.client_id, jti))
    return Use(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest(), expires_at)


def _check_header(token: Signed, party: RelyingParty) -> None:
    algorithm = token.header["alg"]
    registered = party.metadata.get("token_endpoint_auth_signing_alg", algorithm)
    if algorithm not in party.profile.assertion_algorithms or algorithm != registered:
        raise Rejected("algorithm")
    given = token.header.get("typ")
    kind = given.lower().removeprefix("application/") if isinstance(given, str) else given
    if kind != TYPE and not (party.profile.untyped_assertions and kind in (None, "jwt")):
        raise Rejected("type")


def _check_audience(token: Signed, party: RelyingParty, issuer: str, endpoints: frozenset[str]) -> None:
    """Every audience must be this server: one more would let somebody pass the assertion on."""
    rule = party.profile.endpoint_audience
    wide = rule == "always" or (rule == "permitted" and "token_endpoint_audience" in party.permissions)
    admitted = {issuer} | (endpoints if wide else set())
    given = token.claims.get("aud")
    named = [given] if isinstance(given, str) else given if isinstance(given, list) and rule != "never" else []
    if not named or not all(isinstance(name, str) and name in admitted for name in named):
        raise Rejected("audience")


def _check_times(token: Signed, now: int) -> int:
    """When the assertion ends, rounded up; it must not live longer than five minutes."""
    try:
        expires, issued, begins = (token.seconds(name) for name in ("exp", "iat", "nbf"))
    except Malformed:
        raise Rejected("time") from None
    if expires is None or expires <= now:
        raise Rejected("expired")
    if expires - now > LIFE_SECONDS + AHEAD_SECONDS or (issued is not None and expires - issued > LIFE_SECONDS):
        raise Rejected("life")
    if any(moment is not None and moment > now + AHEAD_SECONDS for moment in (issued, begins)):
        raise Rejected("future")
    return math.ceil(expires)
