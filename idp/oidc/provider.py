"""Provider: Authlib's server core on facts that were loaded before, for one request, without any input or output.

Authlib validates; what it decides lands in `decision`, which the endpoint commits (house.md section 1, two speeds).
Each of its known traps has its home here or in `guard`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from authlib.oauth2.base import OAuth2Error
from authlib.oauth2.rfc6749 import AuthorizationServer, OAuth2Request
from authlib.oauth2.rfc6749.errors import InvalidClientError
from authlib.oauth2.rfc6749.requests import OAuth2Payload
from authlib.oauth2.rfc7636 import CodeChallenge

from idp import audit
from idp.context import Context
from idp.oidc import store
from idp.oidc.client import RelyingParty
from idp.oidc.store import ActingRow, GrantRow
from idp.oidc.tokens import RefreshToken
from idp.statements import Change


class Payload(OAuth2Payload):  # type: ignore[misc]
    """Parameters that the guard has seen: each name once."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = parameters

    @property
    def data(self) -> Mapping[str, str]:
        return self._parameters

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        return defaultdict(list, {name: [value] for name, value in self._parameters.items()})

    @property
    def response_type(self) -> str | None:
        """As sent: Authlib's own would take `code code` for something else."""
        return self._parameters.get("response_type")


class ProviderRequest(OAuth2Request):  # type: ignore[misc]
    """Authlib's request, from the issuer's address and the guarded parameters."""

    def __init__(self, method: str, uri: str, parameters: Mapping[str, str], authorization: str | None = None) -> None:
        super().__init__(method, uri, headers={"Authorization": authorization} if authorization else {})
        self.payload = Payload(parameters)

    @property
    def args(self) -> Mapping[str, str]:
        """Parameters of the address: never used, so that body and address cannot be mixed."""
        return {}

    @property
    def form(self) -> Mapping[str, str]:
        data: Mapping[str, str] = self.payload.data
        return data


@dataclass(slots=True)
class Decision:
    """What a request comes to: an answer, and the one change that makes it true.

    With `must_win` the answer holds only if the change's compare-and-set succeeds; otherwise it holds anyway.
    """

    status: int = 500
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    change: Change[Any] | None = None
    values: dict[str, Any] = field(default_factory=dict)
    must_win: bool = False
    mark: dict[str, Any] | None = None  # of store.SPEND: the client assertion that this request uses up


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of a client assertion: the client that made it and the mark that it spends, or why it is refused."""

    client_id: str = ""
    reason: str = ""
    mark: dict[str, Any] = field(default_factory=dict)


class Provider(AuthorizationServer):  # type: ignore[misc]
    """One request's server: it knows one client and at most one grant."""

    def __init__(
        self,
        context: Context,
        client: RelyingParty | None,
        grant: GrantRow | None = None,
        *,
        acting: ActingRow | None = None,
        presented: RefreshToken | None = None,
        named: Mapping[str, Any] | None = None,
        proof: Proof | None = None,
    ) -> None:
        """`named` are claims that the ID token carries because the client named them."""
        super().__init__()
        self.context, self.client, self.grant = context, client, grant
        self.acting, self.presented, self.named, self.proof = acting, presented, named or {}, proof
        self.decision = Decision()

    # --- what Authlib asks of a framework

    def query_client(self, client_id: str) -> RelyingParty | None:
        known = self.client is not None and self.client.client_id == client_id and self.client.active
        return self.client if known else None

    def authenticate_client(
        self, request: ProviderRequest, methods: Iterable[str], endpoint: str = "token"
    ) -> RelyingParty:
        """By the assertion when one was sent, and by nothing else then; otherwise by Authlib's methods."""
        if self.proof is None:
            known = [method for method in methods if method != "private_key_jwt"]
            party: RelyingParty = super().authenticate_client(request, known, endpoint)
            return party
        found = self.query_client(self.proof.client_id)
        if (
            "private_key_jwt" not in methods
            or not found
            or not found.check_endpoint_auth_method("private_key_jwt", endpoint)
        ):
            raise InvalidClientError(status_code=401)
        request.auth_method = "private_key_jwt"
        return found

    def create_oauth2_request(self, request: ProviderRequest) -> ProviderRequest:
        return request

    def save_token(self, token: dict[str, Any], request: ProviderRequest) -> None:
        """Nothing: tokens are sealed handles, and the commit comes after the decision."""

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nothing listens; the audit is part of the commit."""

    def handle_response(self, status: int, body: Any, headers: Any) -> Decision:
        self.decision.status = status
        self.decision.body = dict(body) if isinstance(body, dict) else dict(body or ())
        return self.decision

    def handle_error_response(self, request: ProviderRequest, error: OAuth2Error) -> Decision:
        return refuse(self.decision, error)

    # --- effects of a decision

    def decide(self, change: Change[Any], event: str, *, must_win: bool, **values: Any) -> None:
        """Name the change that this answer needs, with its audit record."""
        grant = self.grant
        given = audit.values(
            self.context,
            event,
            account=grant.account_id if grant else None,
            client=self.client.client_id if self.client else None,
            actor=self.client.client_id if self.client else None,
            result="done" if must_win else "refused",
            detail={"grant": str(grant.id)} if grant else None,
        )
        self.decision.change, self.decision.values, self.decision.must_win = (
            change,
            {**values, **given},
            must_win,
        )

    def revoke_family(self, reason: str) -> None:
        """A replay: everything that hangs on the grant dies, and the client still gets its refusal."""
        if self.grant is not None:
            self.decide(
                store.REVOKE_GRANT,
                f"grant:{reason}:revoked",
                must_win=False,
                id=self.grant.id,
                at=self.context.now(),
                reason=reason,
            )


class Pkce(CodeChallenge):  # type: ignore[misc]
    """PKCE with S256 only (RFC 7636). A missing method would mean `plain`, so it is refused like `plain`."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)
    DEFAULT_CODE_CHALLENGE_METHOD = "S256"

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        data = grant.request.payload.data
        challenge, method = data.get("code_challenge"), data.get("code_challenge_method")
        if not challenge and not method and not grant.request.client.pkce_required:
            return
        if method != "S256":
            raise OAuth2Error("code_challenge with code_challenge_method S256 is required", error="invalid_request")
        super().validate_code_challenge(grant, redirect_uri)

    def validate_code_verifier(self, grant: Any, result: Any) -> None:
        """The stored challenge decides, not the request; a failed verifier burns the code (RFC 9700 4.8)."""
        try:
            super().validate_code_verifier(grant, result)
        except OAuth2Error:
            server: Provider = grant.server
            if server.grant is not None:
                server.decide(
                    store.BURN_CODE,
                    "grant:code_verifier:refused",
                    must_win=False,
                    id=server.grant.id,
                    at=server.context.now(),
                )
            raise OAuth2Error("the code verifier does not fit", error="invalid_grant", status_code=400) from None


def refuse(decision: Decision, error: OAuth2Error) -> Decision:
    """The JSON error of RFC 6749 section 5.2. The description never repeats the request."""
    code = error.error
    decision.status = 401 if code == "invalid_client" else 400
    decision.must_win = False
    decision.headers = {"WWW-Authenticate": 'Basic realm="yimen"'} if code == "invalid_client" else {}
    description = DESCRIPTIONS.get(code) or str(error.description or code)
    decision.body = {"error": code, "error_description": description}
    return decision


DESCRIPTIONS = {
    "invalid_client": "client authentication failed",
    "invalid_grant": "the code or token is invalid, expired, revoked, or belongs to another client",
    "unauthorized_client": "this client may not use this grant or response type",
    "unsupported_grant_type": "this grant type is not supported",
    "unsupported_response_type": "this response type is not supported",
    "invalid_scope": "the scope is not allowed",
}
