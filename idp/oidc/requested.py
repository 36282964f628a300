"""What a client asks for claim by claim and level by level: `claims` and `acr_values` (OIDC Core 5.5, 3.1.2.1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from idp.oidc import profiles

LIMIT = 4_096  # characters of the parameter
BY_SCOPE_ONLY = frozenset({"sub", "acting_for"})  # always there; and what needs a choice of capacity first


class ClaimsRefused(ValueError):
    """The parameter `claims` is malformed."""


class Wish(msgspec.Struct, frozen=True):
    """How one claim is wished for (OIDC Core section 5.5.1)."""

    essential: bool = False
    value: Any = None
    values: list[Any] | None = None

    @property
    def all_values(self) -> tuple[str, ...]:
        named = [self.value] if self.value is not None else self.values or []
        return tuple(value for value in named if isinstance(value, str))


class _Claims(msgspec.Struct, frozen=True):
    userinfo: dict[str, Wish | None] | None = None
    id_token: dict[str, Wish | None] | None = None


class Requested(msgspec.Struct, frozen=True, kw_only=True):
    """`userinfo` and `id_token` name claims beside those of scopes; `levels` are wished in order of preference.

    With `essential` one of the levels must be reached; without it they are a wish. `subject` is the only person
    whom the client will take.
    """

    userinfo: tuple[str, ...] = ()
    id_token: tuple[str, ...] = ()
    levels: tuple[int, ...] = ()
    essential: bool = False
    subject: str | None = None

    @property
    def scope(self) -> str:
        """The scopes that hold the named claims: what a person must agree to."""
        return profiles.scopes_of({*self.userinfo, *self.id_token})

    @property
    def stored(self) -> str | None:
        """What the grant remembers: `named` reads it."""
        if not self.userinfo and not self.id_token:
            return None
        return msgspec.json.encode({"userinfo": self.userinfo, "id_token": self.id_token}).decode()


def named(stored: str | None, place: str) -> Sequence[str]:
    """The claims that a grant remembers for `userinfo` or `id_token`."""
    if stored is None:
        return ()
    found: Mapping[str, list[str]] = msgspec.json.decode(stored)
    return found.get(place, [])


def read(parameters: Mapping[str, str], allowed_scope: str, default_levels: Sequence[str]) -> Requested:
    """What an authorization request asks for beside scopes. `allowed_scope` is all that the client may have.

    Claims that are unknown, or that the client may not see, are left out. Raises ClaimsRefused.
    """
    claims = _parse(parameters["claims"]) if "claims" in parameters else _Claims()
    wished = (claims.id_token or {}).get("acr")
    if wished is not None and wished.all_values:
        values: Sequence[str] = wished.all_values
    else:
        values = parameters.get("acr_values", "").split() or default_levels
    subject = (claims.id_token or {}).get("sub") or (claims.userinfo or {}).get("sub")
    visible = {claim for word in allowed_scope.split() for claim in profiles.SCOPES[word]} - BY_SCOPE_ONLY
    return Requested(
        userinfo=tuple(name for name in claims.userinfo or {} if name in visible),
        id_token=tuple(name for name in claims.id_token or {} if name in visible),
        levels=tuple(dict.fromkeys(profiles.LEVELS.index(value) + 1 for value in values if value in profiles.LEVELS)),
        essential=wished is not None and wished.essential and bool(wished.all_values),
        subject=next(iter(subject.all_values), None) if subject is not None else None,
    )


def _parse(text: str) -> _Claims:
    if len(text) > LIMIT:
        raise ClaimsRefused("the parameter claims is too long")
    try:
        return msgspec.json.decode(text, type=_Claims)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise ClaimsRefused("the parameter claims is not the JSON of OpenID Connect Core 5.5") from None


def told_level(levels: Sequence[int], reached: int) -> int | None:
    """The first wished level that a person of level `reached` has; None when none of them.

    A level holds all below it, so the answer to a wish for 2 is 2, also from somebody who proved 3.
    """
    return next((level for level in levels if level <= reached), None)
