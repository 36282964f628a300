"""Grants at the token endpoint: authorization code, refresh token and client credentials, on loaded facts."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from authlib.oauth2.rfc6749.errors import InvalidScopeError
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, ClientCredentialsGrant, RefreshTokenGrant

from idp import audit
from idp.oidc import claims, profiles, store, tokens
from idp.oidc.client import RelyingParty
from idp.oidc.provider import Pkce, Provider
from idp.oidc.store import ActingRow, GrantRow


@dataclass(frozen=True, slots=True)
class Credential:
    """A grant row in the form that Authlib asks its questions."""

    row: GrantRow
    code_challenge_method: str = "S256"

    @property
    def code_challenge(self) -> str | None:
        return self.row.code_challenge

    def get_redirect_uri(self) -> str:
        return self.row.redirect_uri

    def get_scope(self) -> str:
        return self.row.scope

    def check_client(self, client: RelyingParty) -> bool:
        return self.row.client_id == client.client_id


def in_force(row: GrantRow, acting: ActingRow | None) -> bool:
    """Whether a grant may still give anything: not revoked, account and client active, consent not withdrawn, session
    or offline, and the mandate that it was given under (`acting`, loaded now) still in force."""
    if row.revoked_at is not None or row.consent_expires_at == 0:
        return False
    if row.account_status != "active" or row.client_status != "active":
        return False
    if row.mandate_id is not None and acting is None:
        return False
    return row.session_ended_at is None or "offline_access" in row.scope.split()


class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
    """RFC 6749 section 4.1.3. The code is spent by the commit, never by a read before it."""

    TOKEN_ENDPOINT_AUTH_METHODS = profiles.AUTHENTICATION_METHODS
    server: Provider

    def query_authorization_code(self, code: str, client: RelyingParty) -> Credential | None:
        row, now = self.server.grant, self.server.context.now()
        if row is None or row.client_id != client.client_id:
            return None  # another client's code stays usable by its owner
        if row.code_spent_at is not None:
            if row.revoked_at is None:
                self.server.revoke_family("code_replay")
            return None
        if row.code_expires_at <= now or not in_force(row, self.server.acting):
            return None
        return Credential(row)

    def authenticate_user(self, authorization_code: Credential) -> UUID:
        return authorization_code.row.account_id

    def delete_authorization_code(self, authorization_code: Credential) -> None:
        """The answer holds only if this request is the one that spends the code."""
        row, now = authorization_code.row, self.server.context.now()
        offline = self.server.decision.body.get("refresh_token") is not None
        self.server.decide(
            store.SPEND_CODE,
            "grant:code:redeemed",
            must_win=True,
            id=row.id,
            at=now,
            generation=1 if offline else 0,
            refresh_expires_at=now + profiles.REFRESH_SECONDS if offline else None,
        )

    def save_token(self, token: dict[str, Any]) -> None:
        self.server.decision.body = token


class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]
    """RFC 6749 section 6 with rotation, reuse detection and the window of security.md section 3.2."""

    TOKEN_ENDPOINT_AUTH_METHODS = profiles.AUTHENTICATION_METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True
    server: Provider

    def authenticate_refresh_token(self, refresh_token: str) -> Credential | None:
        row, presented, now = self.server.grant, self.server.presented, self.server.context.now()
        client: RelyingParty = self.request.client
        if row is None or presented is None or row.client_id != client.client_id:
            return None
        if not in_force(row, self.server.acting) or (row.refresh_expires_at or 0) <= now:
            return None
        if row.consent_expires_at is not None and row.consent_expires_at <= now:
            return None  # the person was told how long it lasts
        if presented.generation == row.generation or self._repeated(row, presented.generation, now):
            return Credential(row)
        if presented.generation < row.generation:
            self.server.revoke_family("refresh_reuse")
        return None

    @staticmethod
    def _repeated(row: GrantRow, generation: int, now: int) -> bool:
        """Whether the parent of an unused child comes again in time: an honest client that lost the answer."""
        recent = row.rotated_at is not None and now - row.rotated_at < profiles.REFRESH_WINDOW_SECONDS
        return generation == row.generation - 1 and recent

    def authenticate_user(self, refresh_token: Credential) -> UUID:
        return refresh_token.row.account_id

    def revoke_old_credential(self, refresh_token: Credential) -> None:
        """The answer holds only if this request is the one that rotates; a repeated parent changes nothing."""
        row, presented = refresh_token.row, self.server.presented
        if presented is not None and presented.generation == row.generation:
            self.server.decide(
                store.ROTATE,
                "grant:token:refreshed",
                must_win=True,
                id=row.id,
                at=self.server.context.now(),
                old=row.generation,
            )

    def save_token(self, token: dict[str, Any]) -> None:
        self.server.decision.body = token


class ServiceGrant(ClientCredentialsGrant):  # type: ignore[misc]
    """RFC 6749 section 4.4: a token of the client itself. It concerns no person, and no refresh token comes with it."""

    TOKEN_ENDPOINT_AUTH_METHODS = profiles.CONFIDENTIAL_METHODS
    server: Provider

    def validate_token_request(self) -> None:
        super().validate_token_request()
        if self.client.service_scope(self.request.payload.scope) is None:
            raise InvalidScopeError()

    def save_token(self, token: dict[str, Any]) -> None:
        self.server.decide(audit.RECORD, "client:token:issued", must_win=True)
        self.server.decision.body = token


def service_answer(server: Provider, scope: str | None) -> dict[str, Any]:
    """The members of a token response without a person (RFC 6749 section 4.4.3)."""
    context, client = server.context, server.client
    if client is None:
        raise RuntimeError("a token without a client")
    granted = client.service_scope(scope) or ""
    expires_at = context.now() + profiles.ACCESS_SECONDS
    access_token = tokens.seal_service(context.vault, client.client_id, expires_at, granted)
    answer = {"access_token": access_token, "token_type": "Bearer", "expires_in": profiles.ACCESS_SECONDS}
    return answer | ({"scope": granted} if granted else {})


def token_answer(server: Provider, scope: str, *, refresh_generation: int | None) -> dict[str, Any]:
    """The members of a token response (RFC 6749 section 5.1, OIDC Core section 3.1.3.3)."""
    context, client, row = server.context, server.client, server.grant
    if client is None or row is None:
        raise RuntimeError("a token without a client or a grant")
    access_token, _ = tokens.seal_access(context.vault, row.id, context.now() + profiles.ACCESS_SECONDS, scope)
    answer: dict[str, Any] = {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": profiles.ACCESS_SECONDS,
        "scope": scope,
    }
    if refresh_generation is not None:
        answer["refresh_token"] = tokens.seal_refresh(context.vault, row.id, refresh_generation)
    if "openid" in scope.split():
        capacity = claims.of_capacity(context, row, server.acting) if "organization" in scope.split() else {}
        answer["id_token"] = tokens.id_token(context, client, row, access_token, {**server.named, **capacity})
    return answer


def with_grants(server: Provider) -> Provider:
    """The server with every grant of this product registered: the one place that names them all."""
    server.register_grant(CodeGrant, [Pkce(required=True)])
    server.register_grant(RefreshGrant)
    server.register_grant(ServiceGrant)
    server.register_token_generator("authorization_code", _generator(server, first=True))
    server.register_token_generator("refresh_token", _generator(server, first=False))
    server.register_token_generator("client_credentials", lambda scope, **_: service_answer(server, scope))
    return server


def _generator(server: Provider, *, first: bool) -> Any:
    def generate(*, scope: str, include_refresh_token: bool, **_: Any) -> dict[str, Any]:
        offline = server.grant is not None and "offline_access" in server.grant.scope.split()
        generation = None
        if include_refresh_token and offline:
            generation = 1 if first or server.presented is None else server.presented.generation + 1
        once = " ".join(dict.fromkeys(scope.split()))  # a client may name a scope many times; a token never does
        return token_answer(server, once, refresh_generation=generation)

    return generate
