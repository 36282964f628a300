"""What a relying party must do in OpenID Connect: discover, ask, redeem, check; and hear of a logout."""

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import httpx2
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, import_key

ALGORITHMS = ["RS256", "ES256"]
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
CLOCK_SECONDS = 60  # how far two clocks may be apart
KEYS_SECONDS = 60  # how often unknown keys make us look again


class LoginFailed(Exception):
    """The login did not come to a good end; `error` is the provider's code or our own word."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True)
class Attempt:
    """A login under way: what its answer must fit."""

    state: str
    nonce: str
    verifier: str
    silent: bool


@dataclass
class RelyingParty:
    """One client at one issuer."""

    issuer: str
    client_id: str
    client_secret: str
    redirect_uri: str
    _metadata: dict[str, Any] = field(default_factory=dict)
    _keys: KeySet | None = None
    _keys_read: float = 0.0
    _notices_seen: dict[str, float] = field(default_factory=dict)

    async def metadata(self) -> dict[str, Any]:
        """The provider's metadata, once. The issuer must be exactly the one we know (Discovery section 4.3)."""
        if not self._metadata:
            found = await self._get(f"{self.issuer}/.well-known/openid-configuration")
            if found.get("issuer") != self.issuer:
                raise LoginFailed("wrong_issuer")
            self._metadata = found
        return self._metadata

    async def start(self, scope: str, **extra: str) -> tuple[Attempt, str]:
        """An attempt and the address to send the browser to: code flow with PKCE, state and nonce."""
        attempt = Attempt(
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            silent=extra.get("prompt") == "none",
        )
        endpoint = (await self.metadata())["authorization_endpoint"]
        async with self._client(scope) as client:
            url, _ = client.create_authorization_url(
                endpoint, state=attempt.state, nonce=attempt.nonce, code_verifier=attempt.verifier, **extra
            )
        return attempt, str(url)

    async def finish(self, attempt: Attempt, answer: dict[str, str]) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """The ID token, its claims and the userinfo. Raises LoginFailed for anything that does not fit."""
        if answer.get("state") != attempt.state:
            raise LoginFailed("wrong_state")
        if answer.get("iss") != self.issuer:  # RFC 9207: an answer of another provider
            raise LoginFailed("wrong_issuer")
        if "error" in answer:
            raise LoginFailed(answer["error"])
        metadata = await self.metadata()
        async with self._client("") as client:
            tokens = await client.fetch_token(
                metadata["token_endpoint"], code=answer.get("code", ""), code_verifier=attempt.verifier
            )
            if "id_token" not in tokens:
                raise LoginFailed(str(tokens.get("error", "no_id_token")))
            claims = await self._verify(tokens["id_token"], "JWT")
            self._check_id_token(claims, attempt, tokens["access_token"])
            userinfo = (await client.get(metadata["userinfo_endpoint"])).json()
        if userinfo.get("sub") != claims["sub"]:
            raise LoginFailed("wrong_subject")
        return tokens["id_token"], claims, userinfo

    def _check_id_token(self, claims: dict[str, Any], attempt: Attempt, access_token: str) -> None:
        """OIDC Core section 3.1.3.7."""
        now = time.time()
        audience = claims.get("aud")
        half = hashlib.sha256(access_token.encode()).digest()[:16]
        right = {
            "iss": claims.get("iss") == self.issuer,
            "aud": audience == self.client_id or audience == [self.client_id],
            "exp": claims.get("exp", 0) > now - CLOCK_SECONDS,
            "iat": claims.get("iat", 0) < now + CLOCK_SECONDS,
            "nonce": claims.get("nonce") == attempt.nonce,
            "at_hash": claims.get("at_hash") in (None, base64.urlsafe_b64encode(half).rstrip(b"=").decode()),
        }
        wrong = [name for name, fits in right.items() if not fits]
        if wrong:
            raise LoginFailed(f"id_token_{wrong[0]}")

    async def check_logout_token(self, token: str) -> tuple[str, str]:
        """`sub` and `sid` of a genuine logout notice (Back-Channel Logout section 2.6). Raises LoginFailed."""
        claims = await self._verify(token, "logout+jwt")
        now = time.time()
        fits = (
            claims.get("iss") == self.issuer
            and claims.get("aud") in (self.client_id, [self.client_id])
            and now - 86_400 < claims.get("iat", 0) < now + CLOCK_SECONDS
            and claims.get("exp", 0) > now - CLOCK_SECONDS
            and claims.get("events") == {LOGOUT_EVENT: {}}
            and "nonce" not in claims
            and ("sub" in claims or "sid" in claims)
            and claims.get("jti")
            and claims["jti"] not in self._notices_seen
        )
        if not fits:
            raise LoginFailed("logout_token")
        self._notices_seen = {jti: end for jti, end in self._notices_seen.items() if end > now}
        self._notices_seen[claims["jti"]] = claims["exp"] + CLOCK_SECONDS
        return str(claims.get("sub", "")), str(claims.get("sid", ""))

    async def _verify(self, token: str, typ: str) -> dict[str, Any]:
        """The claims of a JWT signed by the provider. An unknown key makes us look at its keys once more."""
        for fresh in (False, True):
            keys = await self._provider_keys(fresh)
            try:
                found = jwt.decode(token, keys, algorithms=ALGORITHMS)
            except (JoseError, ValueError):
                continue
            if found.header.get("typ") != typ:
                raise LoginFailed("token_type")
            return dict(found.claims)
        raise LoginFailed("signature")

    async def _provider_keys(self, fresh: bool) -> KeySet:
        old = time.monotonic() - self._keys_read > KEYS_SECONDS
        if self._keys is None or (fresh and old):
            found = await self._get((await self.metadata())["jwks_uri"])
            self._keys = KeySet([import_key(key) for key in found["keys"] if key.get("kty") in ("RSA", "EC")])
            self._keys_read = time.monotonic()
        return self._keys

    def _client(self, scope: str) -> AsyncOAuth2Client:
        return AsyncOAuth2Client(
            self.client_id,
            self.client_secret,
            scope=scope or None,
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
            trust_env=False,
        )

    async def _get(self, url: str) -> dict[str, Any]:
        async with httpx2.AsyncClient(trust_env=False) as client:
            found: dict[str, Any] = (await client.get(url)).raise_for_status().json()
        return found
