"""Standard claims that are merely stored (OpenID Connect Core section 5.1): names and types checked."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any
from urllib.parse import urlsplit

from idp.errors import InvalidInput

TEXT_LIMIT = 500
ADDRESS_MEMBERS = ("formatted", "street_address", "locality", "region", "postal_code", "country")
ELSEWHERE = {
    "sub": "it is made by the server",
    "name": "it is the account's name",
    "email": "it is a contact of its own",
    "phone_number": "it is a contact of its own",
}
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8})*")


def check(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The claims, when every one is known and well typed. Raises InvalidInput that names the first that is not."""
    for name, value in claims.items():
        if name in ELSEWHERE:
            raise InvalidInput(f"claim {name} cannot be given: {ELSEWHERE[name]}")
        if name not in _CHECKS:
            raise InvalidInput(f"claim {name if name.isascii() else '?'} is not known")
        _CHECKS[name](name, value)
    return dict(claims)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > TEXT_LIMIT:
        raise InvalidInput(f"claim {name} must be a text of 1 to {TEXT_LIMIT} characters")
    if any(unicodedata.category(sign) in ("Cc", "Cs") and sign != "\n" for sign in value):
        raise InvalidInput(f"claim {name} holds control characters")
    return value


def _boolean(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidInput(f"claim {name} must be true or false")


def _address_of_page(name: str, value: Any) -> None:
    try:
        parts = urlsplit(_text(name, value))
    except ValueError:
        raise InvalidInput(f"claim {name} must be an http or https address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"claim {name} must be an http or https address")


def _birthdate(name: str, value: Any) -> None:
    """YYYY-MM-DD, the year alone, or 0000 for a year that is not told."""
    text = _text(name, value)
    if re.fullmatch(r"[0-9]{4}", text):
        return
    try:
        date.fromisoformat(text.replace("0000-", "2000-", 1))
    except ValueError:
        raise InvalidInput(f"claim {name} must be YYYY-MM-DD or YYYY") from None
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise InvalidInput(f"claim {name} must be YYYY-MM-DD or YYYY")


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str, Any], None]:
    def check_text(name: str, value: Any) -> None:
        if not pattern.fullmatch(_text(name, value)):
            raise InvalidInput(f"claim {name} must be {what}")

    return check_text


def _address(name: str, value: Any) -> None:
    if not isinstance(value, dict) or not value:
        raise InvalidInput(f"claim {name} must be an object")
    for member, text in value.items():
        if member not in ADDRESS_MEMBERS:
            raise InvalidInput(f"claim {name} may hold {', '.join(ADDRESS_MEMBERS)} only")
        _text(f"{name}.{member}", text)


def _seconds(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**11:
        raise InvalidInput(f"claim {name} must be a number of seconds since 1970")


_CHECKS: Mapping[str, Callable[[str, Any], object]] = {
    **dict.fromkeys(("given_name", "family_name", "middle_name", "nickname", "preferred_username", "gender"), _text),
    **dict.fromkeys(("profile", "picture", "website"), _address_of_page),
    **dict.fromkeys(("email_verified", "phone_number_verified"), _boolean),
    "birthdate": _birthdate,
    "zoneinfo": _matching(_ZONE, "a time zone such as Asia/Shanghai"),
    "locale": _matching(_LANGUAGE, "a language tag such as zh-CN"),
    "address": _address,
    "updated_at": _seconds,
}
