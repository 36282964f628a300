"""Client metadata in the registered OAuth and OpenID names (RFC 7591 section 2): checked member by member.

Whatever is unknown or not supported is refused by name, so that nobody believes in a setting that does nothing.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from idp.context import Context
from idp.errors import InvalidInput
from idp.oidc import profiles
from idp.outgoing import OutgoingRefused

NAME_LIMIT, TEXT_LIMIT, URI_LIMIT, LIST_LIMIT = 100, 500, 2_000, 100
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
SHOWN = ("client_name", "purpose", "client_uri", "policy_uri", "tos_uri", "logo_uri")  # may carry a language tag
ASSIGNED = ("client_id", "client_secret", "client_id_issued_at", "client_secret_expires_at")
LATER = {
    "sector_identifier_uri": "register redirect URIs of one host, or subject_type public",
    "jwks_uri": "clients authenticate with a secret in this version",
    "jwks": "clients authenticate with a secret in this version",
}
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
    metadata = {**_DEFAULTS, "scope": " ".join(profiles.SCOPES), **given}
    if "client_name" not in metadata:
        raise InvalidClientMetadata("client_name is missing: people must see who asks")
    if metadata["token_endpoint_auth_method"] not in profiles.PROFILES[profile].authentication_methods:
        raise InvalidClientMetadata(f"token_endpoint_auth_method does not fit profile {profile}")
    _check_redirects(metadata)
    sector_host(metadata)
    if "backchannel_logout_uri" in metadata:
        try:
            context.outgoing.check(metadata["backchannel_logout_uri"])
        except OutgoingRefused as error:
            raise InvalidClientMetadata(f"backchannel_logout_uri: {error.message}") from None
    return metadata


def sector_host(metadata: Mapping[str, Any]) -> str:
    """The host that pairwise subjects are made for, "" when every redirect URI stays on the person's own device.

    OpenID Connect Core section 8.1: all redirect URIs of a pairwise client share one host. Loopback and private
    schemes belong to no host; their clients are sectors of their own.
    """
    hosts = {_host(uri) for uri in metadata["redirect_uris"]}
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


def _some_of(allowed: Sequence[str], needed: str) -> Callable[[str, Any], None]:
    def check_words(member: str, value: Any) -> None:
        if not set(_texts(member, value)) <= set(allowed) or needed not in value:
            raise InvalidClientMetadata(f"{member} must hold {needed} and may hold {', '.join(allowed)} only")

    return check_words


def _boolean(member: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidClientMetadata(f"{member} must be true or false")


def _seconds(member: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**9:
        raise InvalidClientMetadata(f"{member} must be a number of seconds")


def _scope(member: str, value: Any) -> None:
    words = _text(member, value).split(" ")
    unknown = [word for word in words if word not in profiles.SCOPES]
    if unknown:
        raise InvalidClientMetadata(f"scope {_ascii(unknown[0])} is not known")


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
    if "redirect_uris" not in metadata:
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
    "grant_types": _some_of(profiles.GRANT_TYPES, "authorization_code"),
    "response_types": _some_of(profiles.RESPONSE_TYPES, "code"),
    "scope": _scope,
    "subject_type": _one_of(profiles.SUBJECT_TYPES),
    "id_token_signed_response_alg": _one_of(profiles.ALGORITHMS),
    "default_max_age": _seconds,
    "require_auth_time": _boolean,
    "application_type": _one_of(("web", "native")),
    "client_uri": _page,
    "policy_uri": _page,
    "tos_uri": _page,
    "logo_uri": _page,
    "contacts": _contacts,
    "initiate_login_uri": _https,
}
