"""Responses: the one cookie wrapper, redirects that are always 303, JSON that is never stored."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
BASE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
}
SESSION_COOKIE = "__Host-yimen_session"
DEVICE_COOKIE = "__Host-yimen_device"  # who has signed in here before (known_devices.py)
BROWSER_COOKIE = "__Host-yimen_browser"  # the browser that an interaction and a form belong to


def set_cookie(response: Response, name: str, value: str, *, max_age: int | None = None) -> None:
    """The only place that sets cookies: HttpOnly, SameSite=Lax, Secure, whole host, and nothing else.

    Browsers treat loopback as trustworthy, so Secure cookies also work on http://127.0.0.1.
    """
    response.set_cookie(name, value, max_age=max_age, path="/", secure=True, httponly=True, samesite="lax")


def new_browser() -> str:
    """The value of a fresh browser cookie."""
    return secrets.token_urlsafe(24)


def clear_cookie(response: Response, name: str) -> None:
    set_cookie(response, name, "", max_age=0)


def redirect(location: str) -> Response:
    """303: the browser follows with GET and never sends a form on (RFC 9700 section 4.12)."""
    return Response(status_code=303, headers={"Location": location, **NO_STORE})


def json_response(
    body: Mapping[str, Any] | bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON that caches must not keep, unless `headers` says otherwise."""
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Response(content, status, {**NO_STORE, **(headers or {})}, media_type="application/json")
