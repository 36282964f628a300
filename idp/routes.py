"""Every address of the provider in one table."""

import anyio.to_thread
from sqlalchemy.orm import Session
from starlette.responses import Response

from idp import deliveries, metrics
from idp.context import Context
from idp.errors import Forbidden
from idp.http.application import Route, is_in, page, protocol
from idp.http.request import Request
from idp.http.response import NO_STORE, json_response, redirect
from idp.oidc.authorize import CONTINUE, get_authorize, get_continue, post_authorize
from idp.oidc.endpoints import get_jwks, get_userinfo, post_token
from idp.oidc.introspection import post_introspection, post_revocation
from idp.oidc.metadata import ENDPOINTS, get_metadata
from idp.pages.account import get_account, get_sessions, post_sessions
from idp.pages.acting import get_acting, post_acting
from idp.pages.consent import get_consent, post_consent
from idp.pages.history import get_history
from idp.pages.login import get_login, post_login
from idp.pages.logout import get_logged_out, get_logout, post_logout
from idp.pages.permissions import get_permissions, get_withdraw, post_withdraw
from idp.pages.prefs import post_prefs
from idp.pages.visitor import view_of


async def get_health(context: Context, request: Request) -> Response:
    """Alive."""
    return json_response({"status": "ok"})


async def get_ready(context: Context, request: Request) -> Response:
    """The stores answer and the schema is current; Unavailable (503) says what is not."""
    await anyio.to_thread.run_sync(context.database.check)
    await context.ephemeral.ping()
    return json_response({"status": "ready"})


async def get_metrics(context: Context, request: Request) -> Response:
    """For YIMEN_METRICS_ALLOW alone. A request that a proxy of somebody else's forwarded is nobody's own: a proxy
    on this host that is not trusted would otherwise show the metrics to the world."""
    forwarded = request.header("x-forwarded-for") or request.header("forwarded")
    if (forwarded and not context.config.trusted_proxies) or not is_in(context.address, context.config.metrics_allow):
        raise Forbidden()
    await anyio.to_thread.run_sync(deliveries.note_backlog, context)
    body = await anyio.to_thread.run_sync(metrics.render)
    return Response(body, headers=NO_STORE, media_type="text/plain; version=0.0.4")


async def get_static(context: Context, request: Request) -> Response:
    return view_of(context.config.issuer, context.config.production).static_file(request.path)


def get_start(context: Context, request: Request, db: Session) -> Response:
    return redirect(context.url("/account"))


ROUTES: list[Route] = [
    protocol("/.well-known/openid-configuration", GET=get_metadata),
    protocol("/.well-known/oauth-authorization-server", GET=get_metadata),
    protocol(ENDPOINTS["jwks_uri"], GET=get_jwks),
    protocol(
        ENDPOINTS["authorization_endpoint"], json_errors=False, writes=True, GET=get_authorize, POST=post_authorize
    ),
    protocol(CONTINUE, json_errors=False, writes=True, GET=get_continue),
    protocol(ENDPOINTS["token_endpoint"], POST=post_token),
    protocol(ENDPOINTS["userinfo_endpoint"], GET=get_userinfo, POST=get_userinfo),
    protocol(ENDPOINTS["revocation_endpoint"], POST=post_revocation),
    protocol(ENDPOINTS["introspection_endpoint"], POST=post_introspection),
    page(ENDPOINTS["end_session_endpoint"], writes=True, GET=get_logout, POST=post_logout),
    page("/logged-out", GET=get_logged_out),
    page("/login", GET=get_login, POST=post_login),
    page("/acting", GET=get_acting, POST=post_acting),
    page("/consent", GET=get_consent, POST=post_consent),
    page("/account", GET=get_account),
    page("/account/permissions", GET=get_permissions),
    page("/account/permissions/withdraw", GET=get_withdraw, POST=post_withdraw),
    page("/account/history", GET=get_history),
    page("/account/sessions", GET=get_sessions, POST=post_sessions),
    page("/prefs", POST=post_prefs),
    page("/", GET=get_start),
    protocol("/static/*", json_errors=False, GET=get_static),
    protocol("/healthz", GET=get_health),
    protocol("/readyz", GET=get_ready),
    protocol("/metrics", GET=get_metrics),
]
