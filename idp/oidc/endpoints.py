"""The protocol endpoints: load what the request names, decide without input or output, commit, answer."""

import asyncio
from collections.abc import Mapping
from typing import Any

from authlib.oauth2.base import OAuth2Error
from starlette.responses import Response

from idp import audit
from idp.context import Context
from idp.errors import InvalidInput, Unavailable
from idp.http.request import Request
from idp.http.response import json_response
from idp.keys import JWKS_SECONDS
from idp.oidc import claims, client, grants, guard, profiles, store, tokens
from idp.oidc.client import RelyingParty
from idp.oidc.provider import Decision, Provider, ProviderRequest, refuse
from idp.oidc.store import ActingRow, GrantRow

ATTEMPTS = 3  # how often a request that lost a race looks again before it gives up


async def load_client(context: Context, client_id: str) -> RelyingParty | None:
    """The client by its id, active or not; None when unknown."""
    if not client_id or len(client_id) > 200:
        return None
    return client.build(await context.database.load(store.CLIENT, client=client_id), context.now())


async def load_acting(context: Context, grant: GrantRow | None) -> ActingRow | None:
    """Whom the grant's mandate lets act for, None when there is no mandate or it is no longer in force."""
    if grant is None or grant.mandate_id is None:
        return None
    return await context.database.load_one(
        store.ACTING, mandate=grant.mandate_id, account=grant.account_id, at=context.now()
    )


# --- token


async def post_token(context: Context, request: Request) -> Response:
    """RFC 6749 section 3.2."""
    parameters = guard.check_parameters(guard.require_form(request))
    client_id, authorization = guard.client_credentials(request, parameters)
    if "grant_type" not in parameters:
        raise InvalidInput("grant_type is missing")
    for attempt in range(ATTEMPTS):
        decision = await _decide_token(context, client_id, authorization, parameters)
        if await _commit(context, decision):
            return json_response(decision.body, decision.status, decision.headers)
        await asyncio.sleep(0.01 * attempt)
    raise Unavailable(detail="lost every race")


async def _decide_token(
    context: Context, client_id: str, authorization: str | None, parameters: Mapping[str, str]
) -> Decision:
    presented = tokens.open_refresh(context.vault, parameters.get("refresh_token", ""))
    party, grant = await asyncio.gather(load_client(context, client_id), _grant_of(context, parameters, presented))
    acting = await load_acting(context, grant)
    server = grants.with_grants(Provider(context, party, grant, acting=acting, presented=presented))
    request = ProviderRequest("POST", context.url("/token"), parameters, authorization)
    decision: Decision = server.create_token_response(request)
    if decision.status == 200 and decision.change is None and grant is not None:
        decision.change, decision.must_win = (
            audit.RECORD,
            False,
        )  # the same child again: nothing changes but the record
        decision.values = audit.values(
            context, "grant:token:repeated", account=grant.account_id, client=client_id, actor=client_id
        )
    return decision


async def _grant_of(
    context: Context, parameters: Mapping[str, str], presented: tokens.RefreshToken | None
) -> GrantRow | None:
    if parameters["grant_type"] == "authorization_code" and "code" in parameters:
        return await context.database.load_one(store.GRANT_BY_CODE, code=tokens.hash_of(parameters["code"]))
    if parameters["grant_type"] == "refresh_token" and presented is not None:
        return await context.database.load_one(
            store.GRANT_BY_TOKEN, grant_id=presented.grant_id, token=presented.grant_id
        )
    return None


async def _commit(context: Context, decision: Decision) -> bool:
    """Commit what a decision needs. False when it holds only if its change happens, and a rival was first."""
    if decision.change is None:
        return True
    won = await context.database.commit(decision.change, **decision.values)
    return won is not None or not decision.must_win


# --- userinfo


async def get_userinfo(context: Context, request: Request) -> Response:
    """OIDC Core section 5.3. The token comes in the header, or in the form of a POST; never in the address."""
    token = _bearer(request)
    if token is None:
        return _challenge("")
    access = tokens.open_access(context.vault, token)
    if access is None or access.expires_at <= context.now():
        return _challenge("invalid_token")
    grant = await context.database.load_one(store.GRANT_BY_TOKEN, grant_id=access.grant_id, token=access.token_id)
    acting = await load_acting(context, grant)
    if grant is None or grant.token_revoked or not grants.in_force(grant, acting):
        return _challenge("invalid_token")
    party, known = await asyncio.gather(load_client(context, grant.client_id), _known(context, grant, access.scope))
    if party is None or "openid" not in access.scope.split():
        return _challenge("invalid_token")
    body = {**known, "sub": tokens.subject(context.vault, party, grant.account_id)}
    if "organization" in access.scope.split():
        body |= claims.of_capacity(context, grant, acting)
    return json_response(body)


async def _known(context: Context, grant: GrantRow, scope: str) -> dict[str, Any]:
    if set(scope.split()) <= {"openid", "offline_access", "organization"}:
        return {}
    rows = await context.database.load(store.SUBJECT, account=grant.account_id)
    return claims.of_scopes(claims.unseal(context, rows), scope)


def _bearer(request: Request) -> str | None:
    headers = request.headers.get("authorization", [])
    if any(name == "access_token" for name, _ in request.query):
        raise InvalidInput("a token never belongs in the address")
    in_form = guard.check_parameters(request.form).get("access_token") if request.method == "POST" else None
    if len(headers) > 1 or (headers and in_form is not None):
        raise InvalidInput("the token was sent twice")
    if not headers:
        return in_form
    scheme, _, token = headers[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _challenge(error: str) -> Response:
    """401 with the challenge of RFC 6750 section 3; without a token it names no error."""
    challenge = 'Bearer realm="yimen"' + (f', error="{error}"' if error else "")
    body = {"error": error, "error_description": "the token is not in force"} if error else {}
    return json_response(body, 401, {"WWW-Authenticate": challenge})


# --- revocation


async def post_revocation(context: Context, request: Request) -> Response:
    """RFC 7009. Unknown tokens and other clients' tokens answer 200 and nothing happens; hints are ignored."""
    parameters = guard.check_parameters(guard.require_form(request))
    client_id, authorization = guard.client_credentials(request, parameters)
    server = Provider(context, await load_client(context, client_id))
    try:
        server.authenticate_client(
            ProviderRequest("POST", context.url("/revoke"), parameters, authorization),
            profiles.AUTHENTICATION_METHODS,
            "revocation",
        )
    except OAuth2Error as error:
        decision = refuse(Decision(), error)
        return json_response(decision.body, decision.status, decision.headers)
    if "token" not in parameters:
        raise InvalidInput("token is missing")
    await _revoke(context, client_id, parameters["token"])
    return json_response({})


async def _revoke(context: Context, client_id: str, token: str) -> None:
    refresh, access = tokens.open_refresh(context.vault, token), tokens.open_access(context.vault, token)
    named = refresh or access
    if named is None:
        return
    grant = await context.database.load_one(store.GRANT_BY_TOKEN, grant_id=named.grant_id, token=named.grant_id)
    if grant is None or grant.client_id != client_id:
        return
    record = audit.values(context, "grant:token:revoked", account=grant.account_id, client=client_id, actor=client_id)
    if access is not None:
        await context.database.commit(
            store.REVOKE_TOKEN,
            token=access.token_id,
            grant_id=grant.id,
            expires_at=access.expires_at,
            **record,
        )
    else:
        await context.database.commit(
            store.REVOKE_GRANT, id=grant.id, at=context.now(), reason="revoked_by_client", **record
        )


# --- keys


async def get_jwks(context: Context, request: Request) -> Response:
    """RFC 7517; caches may keep it for JWKS_SECONDS, and unknown kids make clients look again."""
    return json_response(context.keys.jwks, headers={"Cache-Control": f"public, max-age={JWKS_SECONDS}", "Pragma": ""})
