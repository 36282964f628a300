"""The protocol endpoints: load what the request names, decide without input or output, commit, answer."""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from idp import audit, metrics
from idp.context import Context
from idp.errors import InvalidInput, Unavailable
from idp.http.request import Request
from idp.http.response import json_response
from idp.keys import JWKS_SECONDS
from idp.oidc import callers, claims, grants, guard, profiles, requested, store, tokens
from idp.oidc.callers import Caller
from idp.oidc.callers import load_client as load_client
from idp.oidc.provider import Decision, Provider, ProviderRequest
from idp.oidc.store import ActingRow, GrantRow

ATTEMPTS = 3  # how often a request that lost a race looks again before it gives up


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
    caller = callers.read_caller(request, parameters)
    if "grant_type" not in parameters:
        raise InvalidInput("grant_type is missing")
    presented = tokens.open_refresh(context.vault, parameters.get("refresh_token", ""))
    (party, proof), grant = await asyncio.gather(
        callers.load_caller(context, caller), _grant_of(context, parameters, presented)
    )
    for attempt in range(ATTEMPTS):
        acting, named = await asyncio.gather(load_acting(context, grant), _named(context, grant, "id_token", ""))
        server = Provider(context, party, grant, acting=acting, presented=presented, named=named, proof=proof)
        decision = _decide_token(server, caller)
        outcome = await callers.commit(context, decision)
        if outcome == callers.REPLAYED:
            decision, outcome = await callers.refuse_replay(context, caller, party), callers.WON
        if outcome == callers.WON:
            kind = parameters["grant_type"] if parameters["grant_type"] in profiles.GRANT_TYPES else "other"
            metrics.TOKENS.labels(kind, "done" if decision.status == 200 else "refused").inc()
            return json_response(decision.body, decision.status, decision.headers)
        await asyncio.sleep(0.01 * attempt)
        proof = callers.without_mark(proof)
        party, grant = await asyncio.gather(
            load_client(context, caller.client_id), _grant_of(context, parameters, presented)
        )
    raise Unavailable(detail="lost every race")


def _decide_token(server: Provider, caller: Caller) -> Decision:
    context, grant = server.context, server.grant
    request = ProviderRequest("POST", context.url("/token"), caller.parameters, caller.authorization)
    decision: Decision = grants.with_grants(server).create_token_response(request)
    if decision.status == 401:
        return callers.record_failure(context, caller, server.client, server.proof, decision)
    if decision.status == 200 and decision.change is None and grant is not None:
        decision.change, decision.must_win = store.CONFIRM, True  # the same child again, if it still is the child
        client_id = grant.client_id
        decision.values = {
            "id": grant.id,
            "generation": grant.generation,
            **audit.values(
                context, "grant:token:repeated", account=grant.account_id, client=client_id, actor=client_id
            ),
        }
    return callers.spend(decision, server.proof)


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
    party, known = await asyncio.gather(
        load_client(context, grant.client_id), _named(context, grant, "userinfo", access.scope)
    )
    if party is None or "openid" not in access.scope.split():
        return _challenge("invalid_token")
    body = {**known, "sub": tokens.subject(context.vault, party, grant.account_id)}
    if "organization" in access.scope.split():
        body |= claims.of_capacity(context, grant, acting)
    return json_response(body)


async def _named(context: Context, grant: GrantRow | None, place: str, scope: str) -> dict[str, Any]:
    """The claims of a person by scope, and by name for `place`: userinfo or id_token. No trip where none is due."""
    names = requested.named(grant.claims, place) if grant is not None else ()
    if grant is None or (not names and set(scope.split()) <= {"openid", "offline_access", "organization"}):
        return {}
    subject = claims.unseal(context, await context.database.load(store.SUBJECT, account=grant.account_id))
    return {**claims.of_scopes(subject, scope), **claims.of_names(subject, names)}


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


# --- keys


async def get_jwks(context: Context, request: Request) -> Response:
    """RFC 7517; caches may keep it for JWKS_SECONDS, and unknown kids make clients look again."""
    return json_response(context.keys.jwks, headers={"Cache-Control": f"public, max-age={JWKS_SECONDS}", "Pragma": ""})
