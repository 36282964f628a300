"""RelyingParty: a client as its registration describes it, in the form that Authlib asks its questions."""

import functools
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from idp.oidc.profiles import GUARDED_SCOPES, PERMISSIONS, PROFILES, SCOPES, Profile, known_scopes

LOOPBACK = ("127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """One version of a client's registration with what rides in every load: status, secrets, legal basis."""

    client_id: str
    status: str
    profile: Profile
    sector: str
    metadata: dict[str, Any]
    secret_hashes: tuple[bytes, ...]
    guarded: frozenset[str]  # guarded scopes with a recorded legal basis
    permissions: frozenset[str] = frozenset()  # of profiles.PERMISSIONS

    @property
    def active(self) -> bool:
        return self.status == "active"

    @property
    def authentication_method(self) -> str:
        return str(self.metadata.get("token_endpoint_auth_method", "client_secret_basic"))

    @property
    def public(self) -> bool:
        return self.authentication_method == "none"

    @property
    def pkce_required(self) -> bool:
        return self.public or self.profile.pkce_required

    @property
    def algorithm(self) -> str:
        return str(self.metadata.get("id_token_signed_response_alg", "RS256"))

    def name(self, locale: str) -> str:
        """client_name in the language asked for; the client_id when there is none."""
        return self.shown("client_name", locale) or self.client_id

    def shown(self, member: str, locale: str) -> str:
        """A text for people in the language asked for, else the one without a language (OIDC Registration 2.1)."""
        tagged = (f"{member}#{locale}", f"{member}#{locale[:2]}", member)
        return next((str(self.metadata[name]) for name in tagged if self.metadata.get(name)), "")

    # --- what Authlib asks (its ClientMixin)

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        """Never: the parameter is required (certification: ensure-redirect-uri-in-authorization-request)."""

    def get_allowed_scope(self, scope: str | None) -> str:
        allowed = str(self.metadata.get("scope") or " ".join(SCOPES))
        granted = known_scopes(scope or "", allowed)
        withheld = GUARDED_SCOPES - self.guarded
        if not self.check_grant_type("refresh_token"):
            withheld |= {"offline_access"}  # without refresh tokens it would only outlive a logout
        return " ".join(word for word in granted.split() if word not in withheld)

    def service_scope(self, asked: str | None) -> str | None:
        """The scope of a token of its own (RFC 6749 section 4.4.2): what it asks, else all that it has; never a scope
        that tells of a person. None when it asks for more than it may have."""
        allowed = [word for word in str(self.metadata.get("scope") or "").split() if word not in SCOPES]
        words = list(dict.fromkeys((asked or "").split())) or allowed
        return " ".join(words) if set(words) <= set(allowed) else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Byte equality; only the port of a URI registered on loopback may vary (RFC 8252 section 7.3)."""
        registered: Sequence[str] = self.metadata.get("redirect_uris", ())
        return redirect_uri in registered or any(_same_but_port(uri, redirect_uri) for uri in registered)

    def check_client_secret(self, client_secret: str) -> bool:
        given = hashlib.sha256(client_secret.encode()).digest()
        matches = [hmac.compare_digest(given, known) for known in self.secret_hashes]  # all, in equal time
        return any(matches)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """One method per client, the same at every endpoint."""
        return method == self.authentication_method and method in self.profile.authentication_methods

    def check_response_type(self, response_type: str) -> bool:
        return response_type in self.metadata.get("response_types", ["code"])

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.metadata.get("grant_types", ["authorization_code"])


def _same_but_port(registered: str, given: str) -> bool:
    """Whether both are the same http address on loopback except for the port."""
    mine = urlsplit(registered)
    if mine.scheme != "http" or (mine.netloc.rpartition(":")[0] not in LOOPBACK and mine.netloc not in LOOPBACK):
        return False
    try:
        theirs = urlsplit(given)
        port = theirs.port
    except ValueError:
        return False
    if theirs.scheme != "http" or (port is not None and not 0 < port < 65_536):
        return False
    host = mine.netloc.removesuffix(f":{mine.port}") if mine.port else mine.netloc
    spelled = host if port is None else f"{host}:{port}"
    rest = registered.removeprefix(f"http://{mine.netloc}")
    return given == f"http://{spelled}{rest}"


@functools.lru_cache(maxsize=20_000)
def _parse(client_id: str, version: int, metadata_json: str) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(metadata_json)
    return metadata


def build(rows: Sequence[Any], now: int) -> RelyingParty | None:
    """From the rows of store.CLIENT (one for each secret), None when there is no such client."""
    if not rows:
        return None
    first = rows[0]
    living = tuple(
        row.secret_hash
        for row in rows
        if row.secret_hash is not None and (row.secret_expires_at is None or row.secret_expires_at > now)
    )
    return RelyingParty(
        client_id=first.id,
        status=first.status,
        profile=PROFILES[first.profile],
        sector=first.sector,
        metadata=_parse(first.id, first.version, first.metadata_json),
        secret_hashes=living,
        guarded=frozenset({"identity_number"} if first.identity_number_basis else ()),
        permissions=frozenset(name for bit, name in enumerate(PERMISSIONS) if first.permissions >> bit & 1),
    )
