"""What a relying party must do in OpenID Connect: discover, ask, redeem, check; and hear of a logout."""

import asyncio
import base64
import hashlib
import secrets
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import ClaimError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

ENDPOINTS = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "end_session_endpoint", "jwks_uri")
ALGORITHMS = ["RS256", "ES256"]
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
CLOCK_SECONDS = 60  # how far two clocks may be apart
NOTICE_SECONDS = 300  # how old a logout notice may be
KEYS_SECONDS = 1.0  # the least time between two looks at the provider's keys


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
    scope: str
    silent: bool


@dataclass(frozen=True)
class Login:
    """A login that came to a good end, everything in it checked."""

    scope: str
    id_token: str
    access_token: str
    claims: Mapping[str, Any]  # of the ID token
    userinfo: Mapping[str, Any]


@dataclass
class RelyingParty:
    """One client at one issuer. All methods raise LoginFailed."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    _tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)  # costly to make, and the same for all
    _metadata: dict[str, Any] = field(default_factory=dict)
    _keys: KeySet | None = None
    _keys_read: float = float("-inf")
    _keys_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _notices_seen: dict[str, int] = field(default_factory=dict)

    async def metadata(self) -> dict[str, Any]:
        """The provider's metadata, once. The issuer must be exactly the one we know (Discovery section 4.3)."""
        if not self._metadata:
            found = await self._get(f"{self.issuer}/.well-known/openid-configuration")
            if found.get("issuer") != self.issuer:
                raise LoginFailed("wrong_issuer")
            if not all(isinstance(found.get(name), str) for name in ENDPOINTS):
                raise LoginFailed("bad_metadata")
            self._metadata = found
        return self._metadata

    async def start(self, scope: str, **extra: str) -> tuple[Attempt, str]:
        """An attempt and the address to send the browser to: code flow with PKCE, state and nonce."""
        attempt = Attempt(
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            scope=scope,
            silent=extra.get("prompt") == "none",
        )
        endpoint = (await self.metadata())["authorization_endpoint"]
        async with self._client() as client:
            url, _ = client.create_authorization_url(
                endpoint,
                state=attempt.state,
                nonce=attempt.nonce,
                code_verifier=attempt.verifier,
                scope=scope,
                **extra,
            )
        return attempt, str(url)

    async def finish(self, attempt: Attempt, answer: Mapping[str, str]) -> Login:
        """Redeem the answer. Nothing is believed that does not fit the attempt."""
        if answer.get("state") != attempt.state:
            raise LoginFailed("wrong_state")
        if answer.get("iss") != self.issuer:  # RFC 9207: an answer of another provider
            raise LoginFailed("wrong_issuer")
        if "error" in answer or "code" not in answer:
            raise LoginFailed(answer.get("error", "no_code"))
        endpoint = (await self.metadata())["token_endpoint"]
        with _reported():
            async with self._client() as client:
                tokens = await client.fetch_token(endpoint, code=answer["code"], code_verifier=attempt.verifier)
            id_token, access_token = str(tokens["id_token"]), str(tokens["access_token"])
        claims = await self._verify(id_token, "JWT")
        self._check_id_token(claims, attempt, access_token)
        userinfo = await self.userinfo(access_token, claims["sub"])
        return Login(attempt.scope, id_token, access_token, claims, userinfo)

    async def userinfo(self, access_token: str, subject: str) -> dict[str, Any]:
        """What the provider says about the person; it must be the person of the ID token (OIDC Core section 5.3.2)."""
        endpoint = (await self.metadata())["userinfo_endpoint"]
        found = await self._get(endpoint, {"Authorization": f"Bearer {access_token}"})
        if found.get("sub") != subject:
            raise LoginFailed("wrong_subject")
        return found

    async def logout_url(self, id_token: str, return_to: str, state: str) -> str:
        """Where to send the browser so that the provider ends everything (RP-Initiated Logout section 2)."""
        query = {"id_token_hint": id_token, "post_logout_redirect_uri": return_to, "state": state}
        return f"{(await self.metadata())['end_session_endpoint']}?{urlencode(query)}"

    async def check_logout_token(self, token: str) -> tuple[str, str]:
        """`sub` and `sid` of a genuine logout notice, "" for one it lacks (Back-Channel Logout section 2.6)."""
        claims = await self._verify(token, "logout+jwt")
        self._check_claims(claims, "logout_token", jti={"essential": True})
        now = int(time.time())
        fits = (
            claims["iat"] > now - NOTICE_SECONDS
            and claims.get("events") == {LOGOUT_EVENT: {}}
            and "nonce" not in claims
            and ("sub" in claims or "sid" in claims)
            and claims["jti"] not in self._notices_seen
        )
        if not fits:
            raise LoginFailed("logout_token")
        self._notices_seen = {jti: end for jti, end in self._notices_seen.items() if end > now}
        self._notices_seen[claims["jti"]] = now + NOTICE_SECONDS + CLOCK_SECONDS  # it is too old by then
        return str(claims.get("sub", "")), str(claims.get("sid", ""))

    def _check_id_token(self, claims: Mapping[str, Any], attempt: Attempt, access_token: str) -> None:
        """OIDC Core section 3.1.3.7."""
        wanted = {"essential": True, "value": attempt.nonce}
        self._check_claims(claims, "id_token", sub={"essential": True}, nonce=wanted)
        half = hashlib.sha256(access_token.encode()).digest()[:16]
        at_hash = base64.urlsafe_b64encode(half).rstrip(b"=").decode()
        if claims.get("at_hash", at_hash) != at_hash:
            raise LoginFailed("id_token_at_hash")

    def _check_claims(self, claims: Mapping[str, Any], kind: str, **more: Any) -> None:
        """What every token of the provider must say: from whom, for us alone, and when."""
        registry = jwt.JWTClaimsRegistry(
            leeway=CLOCK_SECONDS,
            iss={"essential": True, "value": self.issuer},
            exp={"essential": True},
            iat={"essential": True},
            **more,
        )
        try:
            registry.validate(dict(claims))
        except ClaimError as error:
            raise LoginFailed(f"{kind}_{error.claim}") from error
        if claims.get("aud") not in (self.client_id, [self.client_id]):
            raise LoginFailed(f"{kind}_aud")

    async def _verify(self, token: str, typ: str) -> dict[str, Any]:
        """The claims of a JWT signed by the provider. An unknown key makes us look at its keys once more."""
        for fresh in (False, True):
            keys = await self._provider_keys(fresh)
            try:
                found = jwt.decode(token, keys, algorithms=ALGORITHMS)
            except InvalidKeyIdError:
                continue
            except (JoseError, ValueError) as error:
                raise LoginFailed("signature") from error
            if found.header.get("typ") != typ or "kid" not in found.header:
                raise LoginFailed("token_type")
            return dict(found.claims)
        raise LoginFailed("unknown_key")

    async def _provider_keys(self, fresh: bool) -> KeySet:
        """The provider's keys; with `fresh` as they are now. All who wait at once share one look."""
        asked = time.monotonic()
        async with self._keys_lock:
            if self._keys is None or (fresh and self._keys_read < asked):
                await asyncio.sleep(self._keys_read + KEYS_SECONDS - time.monotonic())
                found = await self._get((await self.metadata())["jwks_uri"])
                with _reported():
                    self._keys = KeySet.import_key_set({"keys": [key for key in found["keys"] if _is_usable(key)]})
                self._keys_read = time.monotonic()
            return self._keys

    def _client(self) -> AsyncOAuth2Client:
        return AsyncOAuth2Client(
            self.client_id,
            self.client_secret,
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
            verify=self._tls,
            trust_env=False,
        )

    async def _get(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        with _reported():
            async with httpx2.AsyncClient(verify=self._tls, trust_env=False) as client:
                found = (await client.get(url, headers=headers)).raise_for_status().json()
            return dict(found)


def _is_usable(key: Mapping[str, Any]) -> bool:
    """A signature key of a kind that we know: one strange key must not spoil the whole set."""
    kind = key.get("kty"), key.get("crv")
    return key.get("use", "sig") == "sig" and kind in (("RSA", None), ("EC", "P-256"))


@contextmanager
def _reported() -> Iterator[None]:
    """Whatever goes wrong between us and the provider, as LoginFailed."""
    try:
        yield
    except OAuthError as error:
        raise LoginFailed(str(error.error)) from error
    except httpx2.HTTPError as error:
        raise LoginFailed("no_answer") from error
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise LoginFailed("bad_answer") from error
