"""Who speaks at the endpoints that clients call themselves: which client a request names, and how it proves it.

A failed proof is answered alike whatever was wrong, and recorded in the audit with the reason.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from authlib.oauth2.base import OAuth2Error
from authlib.oauth2.rfc6749.errors import InvalidClientError

from idp import audit
from idp.context import Context
from idp.http.request import Request
from idp.oidc import assertion, client, client_keys, guard, jose, store
from idp.oidc.client import RelyingParty
from idp.oidc.jose import Malformed, Signed
from idp.oidc.provider import Decision, Proof, Provider, ProviderRequest, refuse

WON, LOST, REPLAYED = "won", "lost", "replayed"


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request says about who sends it; nothing of it is proved yet."""

    client_id: str
    endpoint: str  # the path that was called
    authorization: str | None = None
    asserts: bool = False  # a client assertion came along, well-formed or not
    assertion: Signed | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


async def load_client(context: Context, client_id: str) -> RelyingParty | None:
    """The client by its id, active or not; None when unknown."""
    if not client_id or len(client_id) > 200:
        return None
    return client.build(await context.database.load(store.CLIENT, client=client_id), context.now())


def read_caller(request: Request, parameters: dict[str, str]) -> Caller:
    """Raises TwoAuthentications, BadCredentials; a faulty assertion is refused later, by one and the same answer."""
    text = guard.client_assertion(request, parameters)
    if text is None:
        client_id, authorization = guard.client_credentials(request, parameters)
        return Caller(client_id, request.path, authorization, parameters=parameters)
    try:
        token = jose.take_apart(text)
    except Malformed:
        return Caller(parameters.get("client_id", ""), request.path, asserts=True, parameters=parameters)
    named = token.text("sub") if token.text("sub").isprintable() and token.text("sub").isascii() else ""
    if parameters.get("client_id", named) != named:
        raise guard.TwoAuthentications("client_id names another client")
    return Caller(named, request.path, None, True, token, parameters)


async def load_caller(context: Context, caller: Caller) -> tuple[RelyingParty | None, Proof | None]:
    """The client, and what came of its assertion if there is one: in one trip, unless its keys must be fetched."""
    if not caller.asserts:
        return await load_client(context, caller.client_id), None
    party, row = await asyncio.gather(
        load_client(context, caller.client_id), client_keys.load_row(context, caller.client_id)
    )
    token = caller.assertion
    if party is None or token is None or party.authentication_method != "private_key_jwt" or not party.active:
        return party, Proof(reason="malformed" if token is None else "method" if party else "unknown")
    issuer, path = context.config.issuer, caller.endpoint
    try:
        key = await client_keys.find_key(context, party, row, token)
        endpoints = frozenset({context.url("/token"), context.url(path)})
        use = assertion.check(token, party, key, issuer=issuer, endpoints=endpoints, now=context.now())
    except assertion.Rejected as error:
        return party, Proof(reason=error.reason)
    mark = {"mark_key": use.key, "mark_use": uuid4(), "mark_expires_at": use.expires_at}
    return party, Proof(client_id=party.client_id, mark=mark)


def authenticate(server: Provider, caller: Caller, methods: tuple[str, ...], name: str) -> Decision | None:
    """None when the client is who it says, else the refusal."""
    url = server.context.url(caller.endpoint)
    try:
        server.authenticate_client(ProviderRequest("POST", url, caller.parameters, caller.authorization), methods, name)
    except OAuth2Error as error:
        return record_failure(server.context, caller, server.client, server.proof, refuse(Decision(), error))
    return None


def record_failure(
    context: Context, caller: Caller, party: RelyingParty | None, proof: Proof | None, decision: Decision
) -> Decision:
    """The refusal with its audit record. A name that is no client's is not kept: anything may have been typed there.

    A request that names nobody and shows nothing is no attempt, and is not recorded.
    """
    decision.must_win, decision.mark = False, None
    if not caller.client_id and not caller.asserts:
        return decision
    reason = proof.reason if proof and proof.reason else "unknown" if party is None else "credentials"
    if party is not None and not party.active:
        reason = "suspended"
    client_id = party.client_id if party else None
    decision.change = audit.RECORD
    decision.values = audit.values(
        context,
        "client:authentication:refused",
        client=client_id,
        actor=client_id,
        result="refused",
        detail={"endpoint": caller.endpoint, "reason": reason},
    )
    return decision


async def commit(context: Context, decision: Decision) -> str:
    """Commit what a decision needs, and the mark that its assertion spends, in one.

    LOST: the answer holds only if its change happens, and a rival was first; the mark is spent all the same.
    REPLAYED: the mark was spent before, so nobody was authenticated and nothing happened.
    """
    change, values = decision.change, decision.values
    if decision.mark is None:
        if change is None:
            return WON
        won = await context.database.commit(change, **values) is not None
    elif change is None:
        return WON if await context.database.commit(store.SPEND, **decision.mark) is not None else REPLAYED
    else:
        tried = await context.database.commit(store.once(change), **decision.mark, **values)
        if tried is None:
            return REPLAYED
        won = bool(tried.done)
    return WON if won or not decision.must_win else LOST


async def refuse_replay(context: Context, caller: Caller, party: RelyingParty | None) -> Decision:
    """The refusal of an assertion that was used before, recorded."""
    decision = record_failure(
        context, caller, party, Proof(reason="replayed"), refuse(Decision(), InvalidClientError())
    )
    await commit(context, decision)
    return decision


def spend(decision: Decision, proof: Proof | None) -> Decision:
    """Let a decision about an authenticated caller spend the mark of its assertion."""
    if proof is not None and proof.mark and decision.status != 401:
        decision.mark = proof.mark
    return decision


def without_mark(proof: Proof | None) -> Proof | None:
    """The proof of a request whose mark was spent by itself a moment ago."""
    return None if proof is None else Proof(client_id=proof.client_id, reason=proof.reason)
