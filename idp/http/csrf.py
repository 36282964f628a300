"""Cross-site request forgery: the fetch metadata of the browser and a form value that follows the credential."""

import hashlib
import hmac

from idp.context import Context
from idp.errors import CsrfFailed
from idp.http.request import Request
from idp.http.response import BROWSER_COOKIE, SESSION_COOKIE


def form_token(context: Context, request: Request, about: str = "") -> str:
    """The value of the hidden field `csrf`: bound to this browser, its session, and what the form is about."""
    key = context.vault.derive("csrf")
    parts = (request.cookies.get(BROWSER_COOKIE, ""), request.cookies.get(SESSION_COOKIE, ""), about)
    return hmac.new(key, "\n".join(parts).encode(), hashlib.sha256).hexdigest()


def require_form_token(context: Context, request: Request, about: str = "") -> None:
    """Raise CsrfFailed unless the posted form was made by us for this browser, this session and this purpose."""
    site = request.header("sec-fetch-site")
    if site and site not in ("same-origin", "none"):
        raise CsrfFailed(detail="another site's form")
    origin = request.header("origin")
    if origin and origin not in ("null", _origin(context)):
        raise CsrfFailed(detail="foreign origin")
    if BROWSER_COOKIE not in request.cookies:
        raise CsrfFailed(detail="no browser cookie")
    if not hmac.compare_digest(request.value("csrf").encode(), form_token(context, request, about).encode()):
        raise CsrfFailed(detail="form value")


def _origin(context: Context) -> str:
    scheme, _, rest = context.config.issuer.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"
