"""Form Post Response Mode: the answer travels in a form that the browser sends by itself, or by its button."""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from urllib.parse import urlsplit

from starlette.responses import Response

from idp.http.response import NO_STORE

_SCRIPT = "document.forms[0].requestSubmit()"
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()


def can_take(redirect_uri: str) -> bool:
    """Whether a form can be sent there: a web address, not the private scheme of an app."""
    return urlsplit(redirect_uri).scheme in ("https", "http")


def form_post(redirect_uri: str, members: Sequence[tuple[str, str]]) -> Response:
    """A page with one form and one script, known to the policy by its hash; it may only lead to the client."""
    parts = urlsplit(redirect_uri)
    fields = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">\n' for name, value in members
    )
    page = f"""<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><title>正在返回 · Returning</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><form id="response-form" method="post" action="{escape(redirect_uri)}">
{fields}<p>正在返回您要办事的系统。<span lang="en">Returning to the service.</span></p>
<button id="response-continue">继续 <span lang="en">Continue</span></button>
</form><script>{_SCRIPT}</script></body></html>
"""
    policy = (
        f"default-src 'none'; script-src 'sha256-{_HASH}'; form-action {parts.scheme}://{parts.netloc}; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    return Response(page, headers={**NO_STORE, "Content-Security-Policy": policy}, media_type="text/html")
