"""Introspection (RFC 7662) and revocation (RFC 7009): what clients may ask and say about tokens they hold."""

import asyncio
from typing import Any

from starlette.responses import Response

from idp import audit
from idp.context import Context
from idp.http.request import Request
from idp.http.response import json_response
from idp.oidc import callers, grants, guard, profiles, store, tokens
from idp.oidc.callers import Caller
from idp.oidc.client import RelyingParty
from idp.oidc.endpoints import load_acting
from idp.oidc.provider import Decision, Proof, Provider
from idp.oidc.store import GrantRow, ServiceRow
from idp.oidc.tokens import AccessToken, RefreshToken, ServiceToken

Opened = AccessToken | RefreshToken | ServiceToken
INACTIVE: dict[str, Any] = {"active": False}


def open_token(context: Context, text: str) -> Opened | None:
    """What a token of this server says, whichever kind it is; hints are not needed."""
    vault = context.vault
    return tokens.open_access(vault, text) or tokens.open_refresh(vault, text) or tokens.open_service(vault, text)


async def _load(
    context: Context, caller: Caller, opened: Opened | None
) -> tuple[RelyingParty | None, Proof | None, GrantRow | ServiceRow | None]:
    """The caller and what the token hangs on, in one trip."""
    if opened is None:
        party, proof = await callers.load_caller(context, caller)
        return party, proof, None
    if isinstance(opened, ServiceToken):
        service = context.database.load_one(store.SERVICE_TOKEN, client=opened.client_id, token=opened.token_id)
        (party, proof), row = await asyncio.gather(callers.load_caller(context, caller), service)
        return party, proof, row
    token_id = opened.token_id if isinstance(opened, AccessToken) else opened.grant_id
    named = context.database.load_one(store.GRANT_BY_TOKEN, grant_id=opened.grant_id, token=token_id)
    (party, proof), grant = await asyncio.gather(callers.load_caller(context, caller), named)
    return party, proof, grant


def _missing() -> Decision:
    return Decision(400, {"error": "invalid_request", "error_description": "token is missing"})


async def _answer(context: Context, caller: Caller, server: Provider, decision: Decision) -> Response:
    """Commit, and answer what holds then; a refused decision is answered as it is."""
    if decision.status != 401:
        callers.spend(decision, server.proof)
    if await callers.commit(context, decision) == callers.REPLAYED:
        decision = await callers.refuse_replay(context, caller, server.client)
    return json_response(decision.body, decision.status, decision.headers)


# --- introspection


async def post_introspection(context: Context, request: Request) -> Response:
    """RFC 7662 section 2. Confidential clients ask; what is not theirs to know looks like what does not exist."""
    parameters = guard.check_parameters(guard.require_form(request))
    caller = callers.read_caller(request, parameters)
    opened = open_token(context, parameters.get("token", ""))
    party, proof, row = await _load(context, caller, opened)
    server = Provider(context, party, proof=proof)
    decision = callers.authenticate(server, caller, profiles.CONFIDENTIAL_METHODS, "introspection")
    if decision is None:
        missing = "token" not in parameters
        decision = _missing() if missing else Decision(200, await _describe(context, party, opened, row))
    return await _answer(context, caller, server, decision)


async def _describe(
    context: Context, party: RelyingParty | None, opened: Opened | None, row: GrantRow | ServiceRow | None
) -> dict[str, Any]:
    if party is None or opened is None or row is None:
        return INACTIVE
    if isinstance(opened, ServiceToken):
        return _describe_service(context, party, opened, row)
    if not isinstance(row, GrantRow) or not grants.in_force(row, await load_acting(context, row)):
        return INACTIVE
    if isinstance(opened, AccessToken):
        if row.token_revoked or opened.expires_at <= context.now() or not _may_know(party, row.client_id):
            return INACTIVE
        issued_at = opened.expires_at - profiles.ACCESS_SECONDS
        return _members(
            context, party, row, opened.scope, opened.expires_at, {"token_type": "Bearer", "iat": issued_at}
        )
    current = row.generation == opened.generation and (row.refresh_expires_at or 0) > context.now()
    if not current or row.client_id != party.client_id:
        return INACTIVE
    return _members(context, party, row, row.scope, row.refresh_expires_at or 0, {})


def _may_know(party: RelyingParty, client_id: str) -> bool:
    """Its own tokens, or by permission those that others present to it as to a resource server."""
    return client_id == party.client_id or "introspection" in party.permissions


def _members(
    context: Context, party: RelyingParty, row: GrantRow, scope: str, expires_at: int, more: dict[str, Any]
) -> dict[str, Any]:
    """RFC 7662 section 2.2. `sub` is the person as the caller knows them, so that callers cannot compare."""
    return {
        "active": True,
        "iss": context.config.issuer,
        "client_id": row.client_id,
        "sub": tokens.subject(context.vault, party, row.account_id),
        "scope": scope,
        "exp": expires_at,
        "acr": profiles.acr(row.level),
        "auth_time": row.auth_time,
        **more,
    }


def _describe_service(context: Context, party: RelyingParty, token: ServiceToken, row: Any) -> dict[str, Any]:
    """A client's own token: there is no person, so there is no `sub`."""
    in_force = row.client_status == "active" and not row.token_revoked and token.expires_at > context.now()
    if not in_force or not _may_know(party, token.client_id):
        return INACTIVE
    return {
        "active": True,
        "iss": context.config.issuer,
        "client_id": token.client_id,
        "token_type": "Bearer",
        "exp": token.expires_at,
        "iat": token.expires_at - profiles.ACCESS_SECONDS,
        **({"scope": token.scope} if token.scope else {}),
    }


# --- revocation


async def post_revocation(context: Context, request: Request) -> Response:
    """RFC 7009. Unknown tokens and other clients' tokens answer 200 and nothing happens; hints are ignored."""
    parameters = guard.check_parameters(guard.require_form(request))
    caller = callers.read_caller(request, parameters)
    opened = open_token(context, parameters.get("token", ""))
    party, proof, row = await _load(context, caller, opened)
    server = Provider(context, party, proof=proof)
    decision = callers.authenticate(server, caller, profiles.AUTHENTICATION_METHODS, "revocation")
    if decision is None:
        missing = "token" not in parameters
        decision = _missing() if missing else _revoke(context, caller.client_id, opened, row)
    return await _answer(context, caller, server, decision)


def _revoke(context: Context, client_id: str, opened: Opened | None, row: GrantRow | ServiceRow | None) -> Decision:
    """A refresh token takes its whole grant along; an access token goes alone."""
    if isinstance(opened, ServiceToken) and row is not None and opened.client_id == client_id:
        record = audit.values(context, "client:token:revoked", client=client_id, actor=client_id)
        values = {"token": opened.token_id, "grant_id": None, "expires_at": opened.expires_at}
        return Decision(200, change=store.REVOKE_TOKEN, values={**values, **record})
    if not isinstance(row, GrantRow) or row.client_id != client_id:
        return Decision(200)
    record = audit.values(context, "grant:token:revoked", account=row.account_id, client=client_id, actor=client_id)
    if isinstance(opened, AccessToken):
        values = {"token": opened.token_id, "grant_id": row.id, "expires_at": opened.expires_at}
        return Decision(200, change=store.REVOKE_TOKEN, values={**values, **record})
    whole: dict[str, Any] = {"id": row.id, "at": context.now(), "reason": "revoked_by_client"}
    return Decision(200, change=store.REVOKE_GRANT, values={**whole, **record})
