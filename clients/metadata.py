"""Client metadata in the registered OAuth and OpenID names (RFC 7591 section 2): checked member by member.

Whatever is unknown or not supported is refused by name, so that nobody believes in a setting that does nothing.
"""

import contextlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from idp.context import Context
from idp.errors import InvalidInput
from idp.oidc import jose, profiles
from idp.outgoing import OutgoingFailed, OutgoingRefused

NAME_LIMIT, TEXT_LIMIT, URI_LIMIT, LIST_LIMIT = 100, 500, 2_000, 100
JWKS_LIMIT = 65_536
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
SHOWN = ("client_name", "purpose", "client_uri", "policy_uri", "tos_uri", "logo_uri")  # may carry a language tag
ASSIGNED = ("client_id", "client_secret", "client_id_issued_at", "client_secret_expires_at")
LATER = {"sector_identifier_uri": "register redirect URIs of one host, or subject_type public"}
KEY_MEMBERS = ("jwks", "jwks_uri", "token_endpoint_auth_signing_alg")
CALLED = ("backchannel_logout_uri", "jwks_uri")  # the server itself calls these addresses
_DEFAULTS: Mapping[str, Any] = {
    "application_type": "web",
    "token_endpoint_auth_method": "client_secret_basic",
    "grant_types": ["authorization_code"],
    "response_types": ["code"],
    "subject_type": "pairwise",
    "id_token_signed_response_alg": "RS256",
}
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
_SCHEME = re.compile(r"[a-z][a-z0-9+-]*(?:\.[a-z0-9+-]+)+")  # RFC 8252 section 7.1: a reversed domain name
_URI = re.compile(r"[A-Za-z0-9._~:/?#@!&',;=%+\[\]-]+")  # RFC 3986 without the signs of patterns: * ( ) $
_MAIL = re.compile(r"[^@\s]+@[^@\s]+")


class InvalidClientMetadata(InvalidInput):
    """RFC 7591 section 3.2.2."""

    code = "invalid_client_metadata"


class InvalidRedirectUri(InvalidInput):
    """RFC 7591 section 3.2.2."""

    code = "invalid_redirect_uri"


def check(context: Context, given: Mapping[str, Any], profile: str) -> dict[str, Any]:
    """The metadata in force, defaults filled in. Raises InvalidClientMetadata or InvalidRedirectUri by name."""
    if profile not in profiles.PROFILES:
        raise InvalidClientMetadata(f"profile {profile} is not available in this version")
    for member, value in given.items():
        _check_member(member, value)
    metadata = {**_DEFAULTS, **_defaults_of(given), **given}
    if "client_name" not in metadata:
        raise InvalidClientMetadata("client_name is missing: people must see who asks")
    if metadata["token_endpoint_auth_method"] not in profiles.PROFILES[profile].authentication_methods:
        raise InvalidClientMetadata(f"token_endpoint_auth_method does not fit profile {profile}")
    _check_grants(metadata)
    _check_keys(metadata)
    _check_redirects(metadata)
    sector_host(metadata)
    for member in CALLED:
        if member in metadata:
            with _refused_address(member):
                context.outgoing.check(metadata[member])
    return metadata


async def check_addresses(context: Context, given: Mapping[str, Any]) -> None:
    """Where the names lead that the server will call: at registration, not months later at the first logout.

    To be called before the transaction of the registration, since names are resolved. A name that nobody knows yet
    passes; the guard looks again before each call. Raises InvalidClientMetadata.
    """
    for member in CALLED:
        if isinstance(given.get(member), str):
            with _refused_address(member), contextlib.suppress(OutgoingFailed):
                await context.outgoing.check_address(given[member])


@contextlib.contextmanager
def _refused_address(member: str) -> Iterator[None]:
    try:
        yield
    except OutgoingRefused as error:
        raise InvalidClientMetadata(f"{member}: {error.message}") from None


def _defaults_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """A client that only speaks for itself needs no response type, and has no scope about people."""
    if given.get("grant_types") == ["client_credentials"]:
        return {"response_types": []}
    return {"scope": " ".join(profiles.SCOPES)}


def _check_grants(metadata: Mapping[str, Any]) -> None:
    """RFC 7591 section 2.1: grant types, response types and scopes that fit each other."""
    grant_types, method = metadata["grant_types"], metadata["token_endpoint_auth_method"]
    interactive, service = "authorization_code" in grant_types, "client_credentials" in grant_types
    if not interactive and not service:
        raise InvalidClientMetadata("grant_types must hold authorization_code or client_credentials")
    if "refresh_token" in grant_types and not interactive:
        raise InvalidClientMetadata("grant_types: refresh_token goes with authorization_code only")
    if interactive != ("code" in metadata["response_types"]):
        raise InvalidClientMetadata("response_types must hold code exactly when grant_types hold authorization_code")
    if service and method == "none":
        raise InvalidClientMetadata("grant_types: client_credentials needs a client that authenticates")
    for word in str(metadata.get("scope", "")).split():
        if word not in profiles.SCOPES and not service:
            raise InvalidClientMetadata(f"scope {_ascii(word)} is not known")
        if word in profiles.SCOPES and not interactive:
            raise InvalidClientMetadata(f"scope {word} tells of a person; client_credentials has scopes of its own")


def _check_keys(metadata: Mapping[str, Any]) -> None:
    """Keys exactly for the method that uses them, and from one place only (RFC 7591 section 2)."""
    if metadata["token_endpoint_auth_method"] != "private_key_jwt":
        for member in KEY_MEMBERS:
            if member in metadata:
                raise InvalidClientMetadata(f"{member} is for token_endpoint_auth_method private_key_jwt only")
        return
    if ("jwks" in metadata) == ("jwks_uri" in metadata):
        raise InvalidClientMetadata("private_key_jwt needs either jwks or jwks_uri, and not both")


def sector_host(metadata: Mapping[str, Any]) -> str:
    """The host that pairwise subjects are made for, "" when every redirect URI stays on the person's own device.

    OpenID Connect Core section 8.1: all redirect URIs of a pairwise client share one host. Loopback and private
    schemes belong to no host; their clients are sectors of their own.
    """
    hosts = {_host(uri) for uri in metadata.get("redirect_uris", ())} or {""}
    if len(hosts) > 1 and metadata["subject_type"] == "pairwise":
        names = ", ".join(sorted(host or "(own device)" for host in hosts))
        raise InvalidClientMetadata(f"redirect_uris of a pairwise client must share one host, not {names}")
    return min(hosts)


def _host(uri: str) -> str:
    parts = urlsplit(uri)
    host = parts.hostname or ""
    return host if parts.scheme == "https" else ""


# --- one member


def _check_member(member: str, value: Any) -> None:
    name, marked, tag = member.partition("#")
    if member in ASSIGNED:
        raise InvalidClientMetadata(f"{member} is assigned by the server")
    if name in LATER:
        raise InvalidClientMetadata(f"{name} is not supported yet: {LATER[name]}")
    if name not in _CHECKS or (marked and (name not in SHOWN or not _LANGUAGE.fullmatch(tag))):
        raise InvalidClientMetadata(f"{_ascii(member)} is not known or not supported")
    _CHECKS[name](member, value)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()[:60].replace('"', "?").replace("\\", "?")


def _text(member: str, value: Any, limit: int = TEXT_LIMIT) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > limit:
        raise InvalidClientMetadata(f"{_ascii(member)} must be a text of 1 to {limit} characters")
    if any(unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") for sign in value):
        raise InvalidClientMetadata(f"{_ascii(member)} holds control signs or signs that turn the text around")
    return value


def _name(member: str, value: Any) -> None:
    _text(member, value, NAME_LIMIT)


def _texts(member: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not 0 < len(value) <= LIST_LIMIT:
        raise InvalidClientMetadata(f"{member} must be a list of 1 to {LIST_LIMIT} texts")
    for text in value:
        _text(member, text, URI_LIMIT)
    if len(set(value)) < len(value):
        raise InvalidClientMetadata(f"{member} names something twice")
    return value


def _one_of(allowed: Sequence[str]) -> Callable[[str, Any], None]:
    def check_word(member: str, value: Any) -> None:
        if value not in allowed:
            raise InvalidClientMetadata(f"{member} must be one of {', '.join(allowed)}")

    return check_word


def _some_of(allowed: Sequence[str], *, empty: bool = False) -> Callable[[str, Any], None]:
    def check_words(member: str, value: Any) -> None:
        if empty and value == []:
            return
        if not set(_texts(member, value)) <= set(allowed):
            raise InvalidClientMetadata(f"{member} may hold {', '.join(allowed)} only")

    return check_words


def _levels(member: str, value: Any) -> None:
    if not set(_texts(member, value)) <= set(profiles.LEVELS):
        raise InvalidClientMetadata(f"{member} may hold {', '.join(profiles.LEVELS)} only")


def _boolean(member: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidClientMetadata(f"{member} must be true or false")


def _seconds(member: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**9:
        raise InvalidClientMetadata(f"{member} must be a number of seconds")


def _scope(member: str, value: Any) -> None:
    words = _text(member, value).split(" ")
    unknown = [word for word in words if word not in profiles.SCOPES and not profiles.SERVICE_SCOPE.fullmatch(word)]
    if unknown:
        raise InvalidClientMetadata(f"scope {_ascii(unknown[0])} is not known")


def _jwks(member: str, value: Any) -> None:
    """A JWK set of public signature keys, each usable and, where there are several, named (RFC 7517 section 5)."""
    keys = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= jose.KEYS_LIMIT or set(value) != {"keys"}:
        raise InvalidClientMetadata(f"{member} must be a JWK set of 1 to {jose.KEYS_LIMIT} keys and nothing else")
    try:
        size = len(json.dumps(value, ensure_ascii=False).encode())
    except (UnicodeEncodeError, RecursionError):
        size = JWKS_LIMIT + 1
    if size > JWKS_LIMIT:
        raise InvalidClientMetadata(f"{member} must be proper text of at most {JWKS_LIMIT} bytes")
    kids = []
    for jwk in keys:
        if isinstance(jwk, dict) and jose.PRIVATE & set(jwk):
            raise InvalidClientMetadata(
                f"{member} holds a private or secret key; make a new one, this one is known now"
            )
        key = jose.read_key(jwk) if isinstance(jwk, dict) else None
        if key is None:
            raise InvalidClientMetadata(
                f"{member} holds a key that is no public signature key: RSA from 2048 bits, P-256 or Ed25519"
            )
        kids.append(key.kid)
    if len(kids) > 1 and (None in kids or len(set(kids)) < len(kids)):
        raise InvalidClientMetadata(f"{member} must name each of several keys by a kid of its own")


def _contacts(member: str, value: Any) -> None:
    if not all(_MAIL.fullmatch(text) for text in _texts(member, value)):
        raise InvalidClientMetadata(f"{member} must be mail addresses")


# --- addresses


def _parse(text: str) -> SplitResult | None:
    """The parts of an absolute address without fragment, user information and dot segments, else None."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    brackets = parts.hostname is not None and ":" in parts.hostname
    rest = text.replace(parts.netloc, "", 1) if brackets else text
    shouted = not text.startswith(parts.scheme + ":")
    strange = shouted or not _URI.fullmatch(text) or "[" in rest or "]" in rest
    if strange or "#" in text or "@" in parts.netloc or {".", ".."} & set(parts.path.split("/")):
        return None
    return parts


def _is_web(parts: SplitResult | None) -> bool:
    if parts is None or not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS)


def _page(member: str, value: Any) -> None:
    """An address of a page or picture that people are shown."""
    if not _is_web(_parse(_text(member, value, URI_LIMIT))):
        raise InvalidClientMetadata(f"{_ascii(member)} must be an absolute https address")


def _https(member: str, value: Any) -> None:
    parts = _parse(_text(member, value, URI_LIMIT))
    if parts is None or parts.scheme != "https" or not parts.hostname:
        raise InvalidClientMetadata(f"{member} must be an absolute https address")


def _called(member: str, value: Any) -> None:
    """An address that the server itself calls; the guard of outgoing requests has the last word."""
    parts = _parse(_text(member, value, URI_LIMIT))
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname:
        raise InvalidClientMetadata(f"{member} must be an absolute https address without fragment")


def _check_redirects(metadata: Mapping[str, Any]) -> None:
    """RFC 9700 section 2.1, RFC 8252 section 7: exact addresses, https, http on loopback only, private schemes."""
    if "redirect_uris" not in metadata and "authorization_code" in metadata["grant_types"]:
        raise InvalidRedirectUri("redirect_uris is missing")
    native = metadata["application_type"] == "native"
    for member in ("redirect_uris", "post_logout_redirect_uris"):
        for uri in metadata.get(member, ()):
            _check_redirect(member, uri, native)


def _check_redirect(member: str, uri: str, native: bool) -> None:
    parts = _parse(uri)
    if parts is None:
        raise InvalidRedirectUri(f"{member}: no fragment, pattern, user information or dot segment may be in it")
    if parts.scheme in ("http", "https"):
        if not _is_web(parts):
            raise InvalidRedirectUri(f"{member}: must be https; http is for loopback only")
    elif not native:
        raise InvalidRedirectUri(f"{member}: a private scheme is for application_type native only")
    elif not _SCHEME.fullmatch(parts.scheme) or parts.netloc:
        raise InvalidRedirectUri(f"{member}: a private scheme is a reversed domain name, as gov.gd.app:/path")


_CHECKS: Mapping[str, Callable[[str, Any], object]] = {
    "client_name": _name,
    "purpose": _name,  # of asking for people's data, in one sentence; no registered name exists for it
    "redirect_uris": _texts,
    "post_logout_redirect_uris": _texts,
    "backchannel_logout_uri": _called,
    "backchannel_logout_session_required": _boolean,
    "token_endpoint_auth_method": _one_of(profiles.AUTHENTICATION_METHODS),
    "token_endpoint_auth_signing_alg": _one_of(profiles.ASSERTION_ALGORITHMS),
    "jwks": _jwks,
    "jwks_uri": _called,
    "grant_types": _some_of(profiles.GRANT_TYPES),
    "response_types": _some_of(profiles.RESPONSE_TYPES, empty=True),
    "scope": _scope,
    "subject_type": _one_of(profiles.SUBJECT_TYPES),
    "id_token_signed_response_alg": _one_of(profiles.ALGORITHMS),
    "default_max_age": _seconds,
    "default_acr_values": _levels,
    "require_auth_time": _boolean,
    "application_type": _one_of(("web", "native")),
    "client_uri": _page,
    "policy_uri": _page,
    "tos_uri": _page,
    "logo_uri": _page,
    "contacts": _contacts,
    "initiate_login_uri": _https,
}
