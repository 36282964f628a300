"""A web hall: the smallest relying party that is whole. Run it beside any OpenID provider.

    python -m clients.examples.web_hall --issuer http://127.0.0.1:8000 --client-id ID \\
        --client-secret-file FILE --name 公积金 --name-en "Housing Fund" --port 8001

It signs people in (silently where they already are), shows who they are and for whom they act, signs them out
everywhere, and hears of logouts by the back channel. Register it with the redirect URI http://127.0.0.1:8001/callback,
the logout address /signed-out and the back-channel address /backchannel-logout.
"""

import argparse
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import uvicorn
from authlib.oauth2.base import OAuth2Error
from jinja2 import Environment, FileSystemLoader
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from clients.examples.openid import Attempt, LoginFailed, RelyingParty

HERE = Path(__file__).parent
SCOPE = "openid profile identity"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
PAGES = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
SILENT_SECONDS = 60  # how long one refused silent login is remembered
LIMIT = 10_000  # attempts and sessions kept in memory


@dataclass(frozen=True)
class Settings:
    """What makes one hall different from another."""

    issuer: str
    client_id: str
    client_secret: str
    name: str
    name_en: str
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Signed:
    """A person who is signed in here."""

    id_token: str
    claims: Mapping[str, Any]
    userinfo: Mapping[str, Any]
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))


class Hall:
    """The handlers, with their sessions in memory."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.party = RelyingParty(
            settings.issuer, settings.client_id, settings.client_secret, f"{settings.address}/callback"
        )
        self.attempts: dict[str, Attempt] = {}
        self.sessions: dict[str, Signed] = {}
        # cookies ignore ports, so two halls on one machine need two names
        self.session_cookie = f"__Host-hall{settings.port}_session"
        self.attempt_cookie = f"__Host-hall{settings.port}_attempt"
        self.silent_cookie = f"__Host-hall{settings.port}_silent"

    async def home(self, request: Request) -> Response:
        """Who is signed in; a visitor without a session is tried silently once, since they may be known already."""
        signed = self.sessions.get(request.cookies.get(self.session_cookie, ""))
        if signed is not None:
            return self._page(request, "hall.html", signed=signed)
        if self.silent_cookie not in request.cookies:
            return RedirectResponse("/login?prompt=none", 303)
        return self._page(request, "hall.html", signed=None, error=request.query_params.get("error", ""))

    async def login(self, request: Request) -> Response:
        scope = SCOPE + (" organization" if request.query_params.get("acting") else "")
        silent = request.query_params.get("prompt") == "none"
        extra = {"prompt": "none"} if silent else {}
        locale = "zh-CN" if self._chinese(request) else "en"
        attempt, url = await self.party.start(scope, ui_locales=locale, **extra)
        _keep(self.attempts, attempt.state, attempt)
        response = RedirectResponse(url, 303)
        self._cookie(response, self.attempt_cookie, attempt.state, 900)
        if silent:
            self._cookie(response, self.silent_cookie, "tried", SILENT_SECONDS)
        return response

    async def callback(self, request: Request) -> Response:
        """The answer counts only in the browser that asked, and only once."""
        answer = dict(request.query_params)
        attempt = self.attempts.pop(request.cookies.get(self.attempt_cookie, ""), None)
        if attempt is None:
            return RedirectResponse("/?error=no_attempt", 303)
        try:
            id_token, claims, userinfo = await self.party.finish(attempt, answer)
        except (LoginFailed, OAuth2Error, httpx2.HTTPError) as error:
            word = getattr(error, "error", "no_answer")
            if attempt.silent and word in ("consent_required", "interaction_required"):
                return RedirectResponse("/login", 303)  # known there, and new here
            known = "" if attempt.silent and word == "login_required" else f"?{urlencode({'error': word})}"
            return RedirectResponse(f"/{known}", 303)
        handle = secrets.token_urlsafe(32)
        self.sessions.pop(request.cookies.get(self.session_cookie, ""), None)
        _keep(self.sessions, handle, Signed(id_token, claims, userinfo))
        response = RedirectResponse("/", 303)
        self._cookie(response, self.session_cookie, handle, 8 * 3_600)
        response.delete_cookie(self.silent_cookie, path="/", secure=True)
        return response

    async def logout(self, request: Request) -> Response:
        """Leave here, and ask the provider to end everything else."""
        handle = request.cookies.get(self.session_cookie, "")
        signed = self.sessions.get(handle)
        form = await request.form()
        if signed is None or not secrets.compare_digest(str(form.get("csrf", "")), signed.csrf):
            return RedirectResponse("/", 303)
        del self.sessions[handle]
        state = secrets.token_urlsafe(16)
        query = {
            "id_token_hint": signed.id_token,
            "post_logout_redirect_uri": f"{self.settings.address}/signed-out",
            "state": state,
        }
        response = RedirectResponse(f"{(await self.party.metadata())['end_session_endpoint']}?{urlencode(query)}", 303)
        self._cookie(response, self.attempt_cookie, state, 900)
        response.delete_cookie(self.session_cookie, path="/", secure=True)
        return response

    async def signed_out(self, request: Request) -> Response:
        expected = request.cookies.get(self.attempt_cookie, "")
        if not expected or not secrets.compare_digest(expected, request.query_params.get("state", "")):
            return RedirectResponse("/", 303)
        response = self._page(request, "hall.html", signed=None, left=True)
        self._cookie(response, self.silent_cookie, "tried", SILENT_SECONDS)
        return response

    async def backchannel_logout(self, request: Request) -> Response:
        """Back-Channel Logout section 2.5: end what the notice names."""
        token = str((await request.form()).get("logout_token", ""))
        try:
            subject, sid = await self.party.check_logout_token(token)
        except (LoginFailed, httpx2.HTTPError):
            return JSONResponse({"error": "invalid_request"}, 400, HEADERS)
        ended = [
            handle
            for handle, signed in self.sessions.items()
            if (sid and signed.claims.get("sid") == sid) or (not sid and signed.claims["sub"] == subject)
        ]
        for handle in ended:
            del self.sessions[handle]
        return Response(status_code=200, headers=HEADERS)

    # --- pages

    @staticmethod
    def _chinese(request: Request) -> bool:
        wanted = request.query_params.get("lang") or request.headers.get("accept-language", "zh")
        return not wanted.lower().startswith("en")

    def _page(self, request: Request, template: str, **values: Any) -> Response:
        chinese = self._chinese(request)
        body = PAGES.get_template(template).render(
            t=lambda zh, en: zh if chinese else en,
            chinese=chinese,
            name=self.settings.name if chinese else self.settings.name_en,
            **{"error": "", "left": False, **values},
        )
        return HTMLResponse(body, headers=HEADERS)

    @staticmethod
    def _cookie(response: Response, name: str, value: str, seconds: int) -> None:
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
            Route("/logout", hall.logout, methods=["POST"]),
            Route("/signed-out", hall.signed_out),
            Route("/backchannel-logout", hall.backchannel_logout, methods=["POST"]),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ]
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
    uvicorn.run(create_app(settings), host=given.host, port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
