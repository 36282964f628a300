"""The guard in front of Authlib: what could crash it or be read in two ways is refused before it looks."""

import base64
import binascii
from urllib.parse import quote, unquote_plus

from idp.errors import InvalidInput, YimenError
from idp.http.request import FORM_TYPE, Pairs, Request

# of an authorization request: what the protocol spells in printable ASCII (RFC 6749 appendix A)
ASCII_ONLY = frozenset(
    [
        "client_id",
        "redirect_uri",
        "response_type",
        "response_mode",
        "scope",
        "prompt",
        "max_age",
        "code_challenge",
        "code_challenge_method",
        "id_token_hint",
        "acr_values",
        "display",
        "request",
        "request_uri",
        "resource",
        "grant_type",
        "code",
        "code_verifier",
        "refresh_token",
        "token",
        "token_type_hint",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
    ]
)
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 section 2.2
REPEATABLE = frozenset({"resource", "audience"})  # RFC 8707 section 2
VALUE_LIMIT = 8_192
SHORT = {"state": 2_048, "nonce": 2_048, "code_challenge": 128, "login_hint": 1_024, "ui_locales": 1_024}


class TwoAuthentications(InvalidInput):
    """More than one way of client authentication in a request (RFC 6749 section 2.3)."""


class BadCredentials(YimenError):
    """An Authorization header that is not well-formed Basic."""

    code = "invalid_client"
    status = 401


def require_form(request: Request) -> Pairs:
    """The form of a protocol POST. Raises InvalidInput for another content type or parameters in the address."""
    if request.header("content-type").partition(";")[0].strip().lower() != FORM_TYPE:
        raise InvalidInput("the content type must be application/x-www-form-urlencoded")
    if request.query:
        raise InvalidInput("parameters belong in the body, not in the address")
    return request.form


def check_parameters(pairs: Pairs) -> dict[str, str]:
    """The parameters by name. Raises InvalidInput for a repeated name, or a value its definition does not allow.

    A parameter without a value counts as left out (RFC 6749 section 3.1).
    """
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found and name not in REPEATABLE:
            raise InvalidInput("a parameter is repeated")
        if len(value) > SHORT.get(name, VALUE_LIMIT):
            raise InvalidInput("a parameter is too long")
        if name in ASCII_ONLY and not _printable_ascii(value):
            raise InvalidInput("a parameter holds characters that its definition does not allow")
        found[name] = value
    return {name: value for name, value in found.items() if value}


def _printable_ascii(value: str) -> bool:
    return all(" " <= character <= "~" for character in value)


def client_credentials(request: Request, parameters: dict[str, str]) -> tuple[str, str | None]:
    """Which client speaks, and the header value that Authlib may read: at most one way of authentication.

    Raises TwoAuthentications, or BadCredentials for a header that is not well-formed Basic.
    """
    headers = request.headers.get("authorization", [])
    if len(headers) > 1:
        raise TwoAuthentications("two Authorization headers")
    if not headers or not headers[0].lower().startswith("basic "):
        return parameters.get("client_id", ""), None
    identifier, secret = _basic(headers[0][6:])
    if "client_secret" in parameters or "client_assertion" in parameters:
        raise TwoAuthentications("two client authentications in one request")
    if parameters.get("client_id", identifier) != identifier:
        raise TwoAuthentications("client_id names another client")
    # form-encoded inside Basic (RFC 6749 section 2.3.1); Authlib does not know that + is a blank there
    pair = base64.b64encode(f"{quote(identifier, '')}:{quote(secret, '')}".encode()).decode()
    return identifier, f"Basic {pair}"


def client_assertion(request: Request, parameters: dict[str, str]) -> str | None:
    """The client assertion (RFC 7521 section 4.2), None when nothing of the kind was sent.

    Raises TwoAuthentications when it does not come alone, BadCredentials for another type of assertion.
    """
    if "client_assertion" not in parameters and "client_assertion_type" not in parameters:
        return None
    if request.headers.get("authorization") or "client_secret" in parameters:
        raise TwoAuthentications("two client authentications in one request")
    if parameters.get("client_assertion_type") != ASSERTION_TYPE:
        raise BadCredentials("client authentication failed")
    return parameters.get("client_assertion", "")


def _basic(encoded: str) -> tuple[str, str]:
    try:
        pair = base64.b64decode(encoded.strip(), validate=True).decode("ascii")
    except (binascii.Error, ValueError, UnicodeDecodeError):
        raise BadCredentials("the Basic credentials are malformed") from None
    identifier, separator, secret = pair.partition(":")
    if not separator:
        raise BadCredentials("the Basic credentials are malformed")
    values = unquote_plus(identifier), unquote_plus(secret)
    if not all(_printable_ascii(value) for value in values):
        raise BadCredentials("the Basic credentials are malformed")
    return values
