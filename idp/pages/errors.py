"""The error page: what happened, what to do next, and a reference that can be read out on the telephone."""

import dataclasses

from starlette.responses import Response

from idp.context import Context
from idp.errors import YimenError
from idp.http.request import Request
from idp.oidc.authorize import WrongClient
from idp.oidc.logout import WrongReturn
from idp.pages.values import ErrorPage
from idp.pages.view import ERRORS
from idp.pages.visitor import Visitor


def show_error(context: Context, request: Request, error: YimenError) -> Response:
    """The page for any error. The code is the same for a wrong client and a wrong address, and so is the page.

    Nothing of the request comes back in it, save the language it asked for.
    """
    words = "redirect_uri_mismatch" if isinstance(error, WrongClient | WrongReturn) else error.code
    words = words if words in ERRORS else "invalid_request" if error.status < 500 else "server_error"
    page = ErrorPage(code=error.code, trace_id=context.request_id, words=words)
    bare = dataclasses.replace(request, query=[pair for pair in request.query if pair[0] == "ui_locales"])
    return Visitor(context, bare).show("error.html", status=error.status, page=page)
