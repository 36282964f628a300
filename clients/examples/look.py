"""How the example pages look and speak: templates, language, headers; nothing inline, nothing to run."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

HERE = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
LANGUAGE_COOKIE = "__Host-example_lang"  # shared by all examples of one machine
PAGES = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def speaks_chinese(request: Request) -> bool:
    """Chinese unless English is asked for: by `?lang=`, by an earlier `?lang=`, or by the browser."""
    wanted = request.query_params.get("lang") or request.cookies.get(LANGUAGE_COOKIE)
    return not (wanted or request.headers.get("accept-language", "")).lower().startswith("en")


def render(request: Request, template: str, **values: Any) -> Response:
    """A page. Templates write every sentence as t(Chinese, English)."""
    chinese = speaks_chinese(request)
    body = PAGES.get_template(template).render(
        t=lambda zh, en: zh if chinese else en, chinese=chinese, day=day, **values
    )
    response = HTMLResponse(body, headers=HEADERS)
    keep_language(request, response)
    return response


def keep_language(request: Request, response: Response) -> None:
    """Remember what `?lang=` asked for."""
    if "lang" in request.query_params:
        language = "zh" if speaks_chinese(request) else "en"
        response.set_cookie(LANGUAGE_COOKIE, language, path="/", secure=True, httponly=True, samesite="lax")


def day(at: int) -> str:
    """An epoch second as a date in Beijing."""
    return (datetime.fromtimestamp(at, UTC) + timedelta(hours=8)).date().isoformat()


def static_files() -> StaticFiles:
    return StaticFiles(directory=HERE / "static")
