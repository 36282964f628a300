"""Language, large print and colours: an ordinary form in the header of each page."""

from sqlalchemy.orm import Session
from starlette.responses import Response

from idp.context import Context
from idp.errors import CsrfFailed
from idp.http.request import Request
from idp.http.response import redirect, set_cookie
from idp.pages.visitor import CARE, LANG, THEME

CHOICES = {
    "care": (CARE, ("0", "1", "2")),
    "lang": (LANG, ("zh", "en")),
    "theme": (THEME, ("light", "dark", "auto")),
}
YEAR = 365 * 86_400


def post_prefs(context: Context, request: Request, db: Session) -> Response:
    """Changes nothing but the look, so it needs no form value; another site's form is still refused."""
    if request.header("sec-fetch-site") not in ("", "same-origin", "none"):
        raise CsrfFailed()
    response = redirect(context.url(_local_path(request.value("back"))))
    for name, (cookie, allowed) in CHOICES.items():
        value = request.value(name)
        if value in allowed:
            set_cookie(response, cookie, value, max_age=YEAR)
    return response


def _local_path(text: str) -> str:
    """A path of ours, never another site's address."""
    good = text.startswith("/") and not text.startswith("//") and text.isascii() and "\\" not in text
    return text if good and text.isprintable() else "/login"
