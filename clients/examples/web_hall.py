"""A web hall: the smallest relying party that is whole. Run it beside any OpenID provider.

    python -m clients.examples.web_hall --issuer http://127.0.0.1:8000 --client-id ID \\
        --client-secret-file FILE --name 公积金 --name-en "Housing Fund" --port 8001

It signs people in (silently where they already are), shows who they are and for whom they act, signs them out
everywhere, and hears of logouts by the back channel. Register it with the redirect URI http://127.0.0.1:8001/callback,
the logout address /signed-out and the back-channel address /backchannel-logout.
"""

import argparse
import json
import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from clients.examples.look import HEADERS, POLICY, keep_language, render, speaks_chinese, static_files
from clients.examples.openid import Attempt, Login, LoginFailed, RelyingParty

SCOPE = "openid profile identity"
SILENT_SECONDS = 60  # how long one refused silent login is remembered
LOGIN_SECONDS = 900  # how long a login or a logout may take
SESSION_SECONDS = 8 * 3_600
LIMIT = 10_000  # attempts and sessions kept in memory
NEEDS_A_PAGE = ("consent_required", "interaction_required")  # known at the provider, and new here
WORD = re.compile(r"[a-z_]{1,60}")


@dataclass(frozen=True)
class Settings:
    """What makes one hall different from another."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    name: str
    name_en: str
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Signed:
    """A person who is signed in here, until an epoch second."""

    login: Login
    until: float
    csrf: str


class Hall:
    """The handlers, with their sessions in memory."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.party = RelyingParty(
            settings.issuer, settings.client_id, settings.client_secret, f"{settings.address}/callback"
        )
        self.attempts: dict[str, tuple[str, Attempt]] = {}  # by state: whose browser, and what must come back
        self.sessions: dict[str, Signed] = {}
        # cookies ignore ports, so two halls on one machine need two names
        self.session_cookie = f"__Host-hall{settings.port}_session"
        self.browser_cookie = f"__Host-hall{settings.port}_browser"
        self.silent_cookie = f"__Host-hall{settings.port}_silent"
        self.leaving_cookie = f"__Host-hall{settings.port}_leaving"
        parts = urlsplit(settings.issuer)
        # signing out is a form here that is answered by a redirect to the provider
        self.policy = f"{POLICY}; form-action 'self' {parts.scheme}://{parts.netloc}"

    # --- signing in

    async def home(self, request: Request) -> Response:
        """Who is signed in; a visitor without a session is tried silently once, since they may be known already."""
        signed, error = self._signed(request), request.query_params.get("error", "")
        if signed or error or self.silent_cookie in request.cookies:
            return self._page(request, signed=signed, error=error if WORD.fullmatch(error) else "")
        return await self._start(request, SCOPE, silent=True)

    async def login(self, request: Request) -> Response:
        """Begin a login: `acting=1` to choose for whom, `prompt=none` to renew without a page what one has."""
        signed, silent = self._signed(request), request.query_params.get("prompt") == "none"
        scope = signed.login.scope if signed and silent else SCOPE
        if request.query_params.get("acting"):
            scope = f"{SCOPE} organization"
        return await self._start(request, scope, silent=silent)

    async def _start(self, request: Request, scope: str, *, silent: bool) -> Response:
        locale = "zh-CN" if speaks_chinese(request) else "en"
        try:
            attempt, url = await self.party.start(scope, ui_locales=locale, **({"prompt": "none"} if silent else {}))
        except LoginFailed as failure:
            return _home(failure.error)
        browser = request.cookies.get(self.browser_cookie) or secrets.token_urlsafe(24)
        _keep(self.attempts, attempt.state, (browser, attempt))
        response = RedirectResponse(url, 303)
        keep_language(request, response)
        _set_cookie(response, self.browser_cookie, browser, LOGIN_SECONDS)
        if silent:
            _set_cookie(response, self.silent_cookie, "tried", SILENT_SECONDS)
        return response

    async def callback(self, request: Request) -> Response:
        """The answer counts only in the browser that asked, and only once."""
        answer = dict(request.query_params)
        state = answer.get("state", "")
        browser, attempt = self.attempts.get(state, ("", None))
        if attempt is None or not _same(browser, request.cookies.get(self.browser_cookie, "")):
            return _home("no_attempt")
        del self.attempts[state]
        try:
            if len(answer) != len(request.query_params.multi_items()):
                raise LoginFailed("repeated_parameter")
            login = await self.party.finish(attempt, answer)
        except LoginFailed as failure:
            return self._refused(request, attempt, failure.error)
        return self._begin(request, login)

    def _begin(self, request: Request, login: Login) -> Response:
        """A session under a new handle, in place of the one before."""
        self._end(request)
        handle = secrets.token_urlsafe(32)
        _keep(self.sessions, handle, Signed(login, time.time() + SESSION_SECONDS, secrets.token_urlsafe(24)))
        response = _home()
        _set_cookie(response, self.session_cookie, handle, SESSION_SECONDS)
        _set_cookie(response, self.silent_cookie, "", 0)
        return response

    def _refused(self, request: Request, attempt: Attempt, error: str) -> Response:
        """A silent login that was refused is no failure: it says what the person must do, or that they have left."""
        if not attempt.silent:
            return _home(error)
        if error in NEEDS_A_PAGE:
            acting = "organization" in attempt.scope.split()
            return RedirectResponse("/login?acting=1" if acting else "/login", 303)
        if error != "login_required":
            return _home(error)
        self._end(request)
        return _home()

    async def userinfo(self, request: Request) -> Response:
        """What the provider says now, word by word."""
        signed = self._signed(request)
        if signed is None:
            return _home()
        try:
            told = await self.party.userinfo(signed.login.access_token, signed.login.claims["sub"])
        except LoginFailed as failure:  # the access token has expired, and "renew silently" brings a new one
            return _home(failure.error)
        text = json.dumps(told, ensure_ascii=False, indent=2)
        return self._page(request, template="userinfo.html", text=text)

    # --- signing out

    async def logout(self, request: Request) -> Response:
        """Leave here, and ask the provider to end everything else."""
        signed, form = self._signed(request), await request.form()
        if signed is None or not _same(signed.csrf, str(form.get("csrf", ""))):
            return _home()
        self._end(request)
        state = secrets.token_urlsafe(24)
        try:
            url = await self.party.logout_url(signed.login.id_token, f"{self.settings.address}/signed-out", state)
        except LoginFailed as failure:
            return _home(failure.error)
        response = RedirectResponse(url, 303)
        _set_cookie(response, self.leaving_cookie, state, LOGIN_SECONDS)
        _set_cookie(response, self.session_cookie, "", 0)
        return response

    async def signed_out(self, request: Request) -> Response:
        """Back from the provider, if it was this browser that left."""
        if not _same(request.cookies.get(self.leaving_cookie, ""), request.query_params.get("state", "")):
            return _home()
        response = self._page(request, left=True)
        _set_cookie(response, self.silent_cookie, "tried", SILENT_SECONDS)
        return response

    async def backchannel_logout(self, request: Request) -> Response:
        """Back-Channel Logout section 2.5: end what the notice names, a session or all of a person."""
        form = await request.form()
        try:
            subject, sid = await self.party.check_logout_token(str(form.get("logout_token", "")))
        except LoginFailed as failure:
            answer = {"error": "invalid_request", "error_description": failure.error}
            return JSONResponse(answer, 400, HEADERS)
        for handle, signed in list(self.sessions.items()):
            claims = signed.login.claims
            if claims.get("sid") == sid if sid else claims["sub"] == subject:
                del self.sessions[handle]
        return Response(status_code=200, headers=HEADERS)

    # --- sessions and pages

    def _signed(self, request: Request) -> Signed | None:
        signed = self.sessions.get(request.cookies.get(self.session_cookie, ""))
        return signed if signed and signed.until > time.time() else None

    def _end(self, request: Request) -> None:
        self.sessions.pop(request.cookies.get(self.session_cookie, ""), None)

    def _page(self, request: Request, template: str = "hall.html", **values: Any) -> Response:
        name = self.settings.name if speaks_chinese(request) else self.settings.name_en
        response = render(request, template, name=name, **values)
        response.headers["Content-Security-Policy"] = self.policy
        return response


def _home(error: str = "") -> Response:
    return RedirectResponse(f"/?{urlencode({'error': error})}" if error else "/", 303)


def _same(expected: str, given: str) -> bool:
    """Equal, and not empty."""
    return bool(expected) and secrets.compare_digest(expected.encode(), given.encode())


def _set_cookie(response: Response, name: str, value: str, seconds: int) -> None:
    response.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")


def _keep(kept: dict[str, Any], key: str, value: Any) -> None:
    """Add an entry; the oldest goes when there are too many."""
    if len(kept) >= LIMIT:
        kept.pop(next(iter(kept)))
    kept[key] = value


def create_app(settings: Settings) -> Starlette:
    """The hall as an ASGI application."""
    hall = Hall(settings)
    return Starlette(
        routes=[
            Route("/", hall.home),
            Route("/login", hall.login),
            Route("/callback", hall.callback),
            Route("/userinfo", hall.userinfo),
            Route("/logout", hall.logout, methods=["POST"]),
            Route("/signed-out", hall.signed_out),
            Route("/backchannel-logout", hall.backchannel_logout, methods=["POST"]),
            Mount("/static", static_files()),
        ],
        max_body_size=65_536,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--client-id", required=True)
    parser.add_argument("--client-secret-file", required=True, type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--name-en", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    given = parser.parse_args()
    secret = given.client_secret_file.read_text(encoding="utf-8").strip()
    settings = Settings(given.issuer, given.client_id, secret, given.name, given.name_en, given.port)
    # no access log: the addresses of /callback hold codes
    uvicorn.run(create_app(settings), host=given.host, port=given.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
