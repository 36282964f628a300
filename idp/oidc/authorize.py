"""The authorization endpoint (OIDC Core section 3.1.2): validate, decide the next step, issue a code or pause."""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID, uuid4

from authlib.oauth2.base import OAuth2Error
from starlette.responses import Response

from idp import audit, sessions
from idp.context import Context
from idp.errors import InteractionExpired, Unavailable, YimenError
from idp.http.request import Request
from idp.http.response import BROWSER_COOKIE, SESSION_COOKIE, new_browser, redirect, set_cookie
from idp.oidc import grants, guard, interaction, profiles, requested, store, terms, tokens
from idp.oidc.client import RelyingParty
from idp.oidc.endpoints import load_client
from idp.oidc.form_post import can_take, form_post
from idp.oidc.interaction import Facts, Interaction, Issue, Refuse, Step
from idp.oidc.provider import Provider, ProviderRequest
from idp.oidc.store import SessionRow

CONTINUE = "/authorize/continue"
PAGES = {"Login": "/login", "ChooseActing": "/acting", "AskConsent": "/consent"}
NOT_SUPPORTED = {
    "request": "request_not_supported",
    "request_uri": "request_uri_not_supported",
    "registration": "registration_not_supported",
}


class WrongClient(YimenError):
    """Client or redirect URI do not fit: shown here, never redirected (RFC 6749 section 4.1.2.1)."""

    code = "invalid_request"
    status = 400


class ErrorRedirect(Exception):
    """An error that the client is told, at its registered address."""

    def __init__(self, error: str, description: str) -> None:
        self.error, self.description = error, description


# --- handlers


async def get_authorize(context: Context, request: Request) -> Response:
    """GET: the browser's cookies are there, so the answer may come at once."""
    parameters = guard.check_parameters(request.query)
    party, session = await asyncio.gather(
        load_client(context, parameters.get("client_id", "")), live_session(context, request)
    )
    party = _require_client(party, parameters)
    try:
        asked = _validate(context, party, "GET", parameters)
    except ErrorRedirect as error:
        return _error(context, _destination(parameters), error.error, error.description)
    return await _proceed(context, request, party, asked, session, saved=False)


async def post_authorize(context: Context, request: Request) -> Response:
    """POST: a cross-site POST carries no cookies (SameSite=Lax), so it is paused and fetched again by GET."""
    parameters = guard.check_parameters(guard.require_form(request))
    party = _require_client(await load_client(context, parameters.get("client_id", "")), parameters)
    try:
        asked = _validate(context, party, "POST", parameters)
    except ErrorRedirect as error:
        return _error(context, _destination(parameters), error.error, error.description)
    await interaction.save(context, asked)
    return redirect(context.url(f"{CONTINUE}?interaction={asked.id}"))


async def get_continue(context: Context, request: Request) -> Response:
    """Go on with a paused request, after a page or after a POST."""
    browser = browser_hash(request)
    asked = await interaction.load(context, request.value("interaction"), browser, unbound=True)
    party, session = await asyncio.gather(load_client(context, asked.client_id), live_session(context, request))
    if party is None or not party.active or not party.check_redirect_uri(asked.redirect_uri):
        raise WrongClient(detail="the client changed meanwhile")
    asked.scope = party.get_allowed_scope(asked.scope)
    return await _proceed(context, request, party, asked, session, saved=True)


# --- steps


def _require_client(party: RelyingParty | None, parameters: dict[str, str]) -> RelyingParty:
    """The client, if it is active and the redirect URI is one of its own: before anything else."""
    if party is None or not party.active:
        raise WrongClient(detail="client")
    if not parameters.get("redirect_uri") or not party.check_redirect_uri(parameters["redirect_uri"]):
        raise WrongClient(detail="redirect_uri")
    return party


def _validate(context: Context, party: RelyingParty, method: str, parameters: dict[str, str]) -> Interaction:
    """The request as an interaction. Raises ErrorRedirect: the redirect URI is known to be good."""
    for name, code in NOT_SUPPORTED.items():
        if name in parameters:
            raise ErrorRedirect(code, f"the parameter {name} is not supported")
    if "response_type" not in parameters:
        raise ErrorRedirect("invalid_request", "response_type is missing")
    if parameters["response_type"] not in profiles.RESPONSE_TYPES:
        raise ErrorRedirect("unsupported_response_type", "only response_type code is supported")
    if parameters.get("response_mode", "query") != _destination(parameters).mode:
        raise ErrorRedirect("invalid_request", "this response_mode is not supported")
    server = grants.with_grants(Provider(context, party))
    asked = ProviderRequest(method, context.url("/authorize"), parameters)
    try:
        server.get_consent_grant(asked)
    except OAuth2Error as error:
        raise ErrorRedirect(error.error, error.description or error.error) from None
    if not asked.scope:
        raise ErrorRedirect("invalid_scope", "no scope that this client may have")
    return _interaction(context, party, parameters, asked.scope)


def _interaction(context: Context, party: RelyingParty, parameters: dict[str, str], scope: str) -> Interaction:
    prompt = tuple(word for word in parameters.get("prompt", "").split() if word in profiles.PROMPTS)
    if "none" in prompt and len(parameters["prompt"].split()) > 1:
        raise ErrorRedirect("invalid_request", "prompt none stands alone")
    max_age = parameters.get("max_age")
    if max_age is not None and not (max_age.isascii() and max_age.isdigit() and len(max_age) < 10):
        raise ErrorRedirect("invalid_request", "max_age is a number of seconds")
    default = party.metadata.get("default_max_age")
    allowed = party.get_allowed_scope(" ".join(profiles.SCOPES))
    try:
        wished = requested.read(parameters, allowed, party.metadata.get("default_acr_values", ()))
    except requested.ClaimsRefused as error:
        raise ErrorRedirect("invalid_request", str(error)) from None
    hint = _hint_subject(context, party, parameters.get("id_token_hint"))
    return Interaction(
        id=interaction.new_id(),
        browser="",
        client_id=party.client_id,
        redirect_uri=parameters["redirect_uri"],
        scope=scope,
        state=parameters.get("state"),
        nonce=parameters.get("nonce"),
        code_challenge=parameters.get("code_challenge"),
        prompt=prompt,
        max_age=int(max_age) if max_age is not None else default,
        response_mode=parameters.get("response_mode", "query"),
        requested=wished,
        hint_subject=_only_subject(hint, wished.subject),
        login_hint=parameters.get("login_hint", "")[:200],
        ui_locales=parameters.get("ui_locales", "")[:200],
    )


def _hint_subject(context: Context, party: RelyingParty, hint: str | None) -> str | None:
    """`sub` of an ID token that we gave this client, expired or not; "" never fits anybody."""
    if hint is None:
        return None
    claims = context.keys.verify(hint, typ="JWT")
    if claims is None or claims.get("iss") != context.config.issuer or claims.get("aud") != party.client_id:
        return ""
    return str(claims.get("sub", ""))


def _only_subject(hint: str | None, named: str | None) -> str | None:
    """Whom both id_token_hint and the claim `sub` mean; "" fits nobody: they contradict each other."""
    if hint is None or named is None:
        return named if hint is None else hint
    return hint if hint == named else ""


async def _proceed(
    context: Context,
    request: Request,
    party: RelyingParty,
    asked: Interaction,
    session: SessionRow | None,
    *,
    saved: bool,
) -> Response:
    facts = await _facts(context, party, asked, session)
    step = interaction.decide(asked, facts)
    if isinstance(step, Issue):
        code = await _issue(context, party, asked, facts, step, saved=saved)
        if code is not None:
            if session is not None:
                await touch(context, session.id, session.last_seen_at)
            return _answer(context, _destination_of(asked), [("code", code)])
        saved = False  # it was used up for the code that did not come about
        facts = await _facts(context, party, asked, await live_session(context, request))
        step = interaction.decide(asked, facts)
        if isinstance(step, Issue):
            raise Unavailable(detail="session or consent changed twice")
    if isinstance(step, Refuse):
        if saved:
            await interaction.end(context, asked.id)
        return _error(context, _destination_of(asked), step.error, step.description)
    return await _pause(context, request, asked, step, saved=saved)


async def _facts(context: Context, party: RelyingParty, asked: Interaction, session: SessionRow | None) -> Facts:
    database, now = context.database, context.now()
    if session is None:
        return Facts(session=None, subject=None, consent=None, mandates=(), last_mandate=None, now=now)
    acting = "organization" in asked.scope.split()
    consent, mandates, last = await asyncio.gather(
        database.load_one(store.CONSENT, account=session.account_id, client=party.client_id),
        database.load(store.MANDATES, account=session.account_id, at=now) if acting else _nothing(),
        database.load(store.LAST_ACTING, session=session.id, client=party.client_id, pattern="% organization %")
        if acting and "none" in asked.prompt
        else _nothing(),
    )
    return Facts(
        session=session,
        subject=tokens.subject(context.vault, party, session.account_id),
        consent=consent,
        terms_hold=consent is None or terms.hold(party, consent.scope, consent.version),
        mandates=[row.id for row in mandates],
        last_mandate=(last[0].mandate_id,) if last else None,
        now=now,
    )


async def _nothing() -> list[Any]:
    return []


async def _issue(
    context: Context, party: RelyingParty, asked: Interaction, facts: Facts, step: Issue, *, saved: bool
) -> str | None:
    """A code, or None when session or consent ended meanwhile. A saved interaction is used up first: it gives one."""
    session = facts.session
    if session is None:
        return None
    if saved and not await interaction.end(context, asked.id):
        raise InteractionExpired(detail="used twice")
    code, grant_id, now = tokens.new_code(), uuid4(), context.now()
    won = await context.database.commit(
        store.ISSUE_CODE,
        id=grant_id,
        client_id=party.client_id,
        account_id=session.account_id,
        session_id=session.id,
        scope=step.scope,
        code_hash=tokens.hash_of(code),
        code_expires_at=now + profiles.CODE_SECONDS,
        redirect_uri=asked.redirect_uri,
        code_challenge=asked.code_challenge,
        nonce=asked.nonce,
        auth_time=session.auth_time,
        level=step.level,
        amr=session.amr,
        channel=context.channel,
        mandate_id=step.mandate_id,
        claims=asked.requested.stored,
        created_at=now,
        **audit.values(
            context,
            "grant:code:issued",
            account=session.account_id,
            client=party.client_id,
            detail=_detail(grant_id, step.mandate_id),
        ),
    )
    return code if won is not None else None


def _detail(grant_id: UUID, mandate_id: UUID | None) -> dict[str, str]:
    detail = {"grant": str(grant_id)}
    return detail | {"mandate": str(mandate_id)} if mandate_id else detail


async def touch(context: Context, session_id: UUID, last_seen_at: int) -> None:
    """Note that a session is in use, at most once a minute."""
    now = context.now()
    if now - last_seen_at >= sessions.TOUCH_SECONDS:
        await context.database.commit(store.TOUCH, session=session_id, seen=now)


async def _pause(context: Context, request: Request, asked: Interaction, step: Step, *, saved: bool) -> Response:
    """Keep the request and show a page. From here on it belongs to this browser."""
    cookie = request.cookies.get(BROWSER_COOKIE) or new_browser()
    asked.browser = hashlib.sha256(cookie.encode()).hexdigest()
    await (interaction.keep if saved else interaction.save)(context, asked)
    response = redirect(context.url(f"{PAGES[type(step).__name__]}?interaction={asked.id}"))
    if BROWSER_COOKIE not in request.cookies:
        set_cookie(response, BROWSER_COOKIE, cookie)
    return response


# --- answers


class Destination(NamedTuple):
    """Where an answer goes, and how."""

    redirect_uri: str
    state: str | None
    mode: str


def _destination(parameters: Mapping[str, str]) -> Destination:
    """Of a request that may be faulty: an unknown response mode, or a form for an app, falls back to the query."""
    mode, uri = parameters.get("response_mode", "query"), parameters["redirect_uri"]
    fits = mode in profiles.RESPONSE_MODES and (mode != "form_post" or can_take(uri))
    return Destination(uri, parameters.get("state"), mode if fits else "query")


def _destination_of(asked: Interaction) -> Destination:
    return Destination(asked.redirect_uri, asked.state, asked.response_mode)


def _answer(context: Context, to: Destination, members: list[tuple[str, str]]) -> Response:
    """The members with state and iss (RFC 9207), and nothing else: the one way back to a client."""
    if to.state is not None:
        members.append(("state", to.state))
    members.append(("iss", context.config.issuer))
    if to.mode == "form_post":
        return form_post(to.redirect_uri, members)
    return redirect(add_query(to.redirect_uri, members))


def _error(context: Context, to: Destination, error: str, description: str) -> Response:
    return _answer(context, to, [("error", error), ("error_description", description)])


def add_query(uri: str, members: list[tuple[str, str]]) -> str:
    """A registered address with members added to its query; what is there stays byte for byte."""
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in members)
    return f"{uri}{'&' if '?' in uri else '?'}{query}"


# --- who asks


def browser_hash(request: Request) -> str:
    """How an interaction knows its browser, "" for one without a cookie."""
    cookie = request.cookies.get(BROWSER_COOKIE, "")
    return hashlib.sha256(cookie.encode()).hexdigest() if cookie else ""


async def live_session(context: Context, request: Request) -> SessionRow | None:
    """The session of the browser, if it lives and its account is active."""
    handle = request.cookies.get(SESSION_COOKIE)
    if not handle:
        return None
    row = await context.database.load_one(store.SESSION, handle=sessions.handle_hash(handle))
    if row is None or row.account_status != "active" or not sessions.is_live(row, context.now()):
        return None
    return row
