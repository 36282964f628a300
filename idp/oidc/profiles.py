"""What clients may do, as data: profiles, scopes with their claims, algorithms and lifetimes."""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """The rules of one client profile; a profile only tightens (protocol.md section 4)."""

    name: str
    pkce_required: bool  # of confidential clients; public ones always need it
    authentication_methods: frozenset[str]
    rotates_refresh_tokens: bool
    assertion_algorithms: frozenset[str]
    endpoint_audience: str  # of an assertion, beside the issuer: never, permitted (by an operator), always
    untyped_assertions: bool  # whether typ may be missing or JWT (security.md section 3.3)


CONFIDENTIAL_METHODS = ("client_secret_basic", "client_secret_post", "private_key_jwt")
AUTHENTICATION_METHODS = (*CONFIDENTIAL_METHODS, "none")
ASSERTION_ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")  # of client assertions: the union of all profiles
_METHODS, _ASSERTIONS = frozenset(AUTHENTICATION_METHODS), frozenset(ASSERTION_ALGORITHMS)
PROFILES: Mapping[str, Profile] = {
    "classic": Profile("classic", False, _METHODS, True, _ASSERTIONS, "always", True),
    "baseline": Profile("baseline", True, _METHODS, True, _ASSERTIONS, "permitted", True),
}
PERMISSIONS = ("introspection", "token_endpoint_audience")  # what an operator may permit a client beyond its profile

SCOPES: Mapping[str, tuple[str, ...]] = {
    "openid": ("sub",),
    "profile": (
        "name",
        "family_name",
        "given_name",
        "middle_name",
        "nickname",
        "preferred_username",
        "profile",
        "picture",
        "website",
        "gender",
        "birthdate",
        "zoneinfo",
        "locale",
        "updated_at",
    ),
    "email": ("email", "email_verified"),
    "phone": ("phone_number", "phone_number_verified"),
    "address": ("address",),
    "offline_access": (),
    "identity": ("legal_name", "masked_number", "identifier_type", "assurance_level"),
    "identity_number": ("identity_number",),
    "organization": ("acting_for",),
}
GUARDED_SCOPES = frozenset({"identity_number"})  # need a recorded legal basis
SERVICE_SCOPE = re.compile(r"[a-z0-9_-]+(?:[.:/][a-z0-9_-]+)+")  # a client's own, as gjj:read; never about a person

GRANT_TYPES = ("authorization_code", "refresh_token", "client_credentials")
RESPONSE_TYPES = ("code",)
RESPONSE_MODES = ("query", "form_post")
PROMPTS = ("none", "login", "consent", "select_account")
ALGORITHMS = ("RS256", "ES256")  # of ID tokens, RS256 being OpenID Connect's default
SUBJECT_TYPES = ("pairwise", "public")
LEVELS = tuple(f"urn:yimen:loa:{n}" for n in range(1, 6))

CODE_SECONDS = 60
ACCESS_SECONDS = 600
ID_TOKEN_SECONDS = 600
REFRESH_SECONDS = 30 * 86_400  # absolute life of a refresh family
REFRESH_WINDOW_SECONDS = 10  # a repeated parent gets the same child (security.md section 3.2)
CONSENT_SECONDS = 180 * 86_400


def acr(level: int) -> str:
    """The `acr` value of an assurance level 1 to 5 (contract section 6)."""
    return LEVELS[level - 1]


def scopes_of(claims: Set[str]) -> str:
    """The scopes that hold these claims, in the order of SCOPES."""
    return " ".join(scope for scope, held in SCOPES.items() if claims & set(held))


def known_scopes(asked: str, allowed: str) -> str:
    """The scopes of `asked` that exist and that the client may have, each once, in the order asked.

    Unknown scopes are ignored (OIDC Core section 3.1.2.1).
    """
    permitted = set(allowed.split())
    return " ".join(dict.fromkeys(word for word in asked.split() if word in SCOPES and word in permitted))
