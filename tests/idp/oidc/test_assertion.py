"""Client assertions: who, for whom, when (RFC 7523, RFC 10070; security.md F05, F07, F08)."""

import dataclasses
from typing import Any

import pytest

from idp.oidc import assertion, jose
from idp.oidc.assertion import Rejected, Use, check
from idp.oidc.client import RelyingParty
from idp.oidc.profiles import PROFILES
from tests.idp.oidc.test_client import party
from tests.support.assertions import KeyPair, es256_key, new_key

NOW, ISSUER = 1_800_000_000, "https://id.test"
TOKEN, REVOKE = f"{ISSUER}/token", f"{ISSUER}/revoke"
KEY = es256_key()
CLIENT = party(token_endpoint_auth_method="private_key_jwt")
CLASSIC = dataclasses.replace(CLIENT, profile=PROFILES["classic"])
PERMITTED = dataclasses.replace(CLIENT, permissions=frozenset({"token_endpoint_audience"}))
STRICT = dataclasses.replace(
    CLIENT, profile=dataclasses.replace(PROFILES["baseline"], endpoint_audience="never", untyped_assertions=False)
)
GOOD = {"iss": "c", "sub": "c", "aud": ISSUER, "jti": "j", "exp": NOW + 60, "iat": NOW}


def checked(
    client: RelyingParty = CLIENT, key: KeyPair = KEY, header: dict[str, Any] | None = None, **changes: Any
) -> Use:
    claims = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    token = jose.take_apart(key.jws(claims, **(header or {})))
    public = jose.choose([found for found in [jose.read_key(KEY.public)] if found], token)
    return check(token, client, public, issuer=ISSUER, endpoints=frozenset({TOKEN, REVOKE}), now=NOW)


def reason(**options: Any) -> str:
    with pytest.raises(Rejected) as caught:
        checked(**options)
    return caught.value.reason


def test_good_assertion_names_what_it_spends() -> None:
    use = checked()
    assert use == checked()
    assert use.expires_at == NOW + 60
    assert use.key != checked(jti="other").key


def test_mark_is_of_one_client() -> None:
    other = dataclasses.replace(CLIENT, client_id="d")
    assert checked().key != checked(other, iss="d", sub="d").key


@pytest.mark.parametrize("audience", [TOKEN, REVOKE, [ISSUER, TOKEN], [TOKEN]])
def test_f05_token_endpoint_as_audience_needs_classic_or_a_permission(audience: Any) -> None:
    assert reason(aud=audience) == "audience"
    assert checked(CLASSIC, aud=audience)
    assert checked(PERMITTED, aud=audience)
    assert reason(client=STRICT, aud=audience) == "audience"


@pytest.mark.parametrize(
    "audience",
    [
        ISSUER + "/",
        ISSUER.upper(),
        "https://other.test",
        [ISSUER, "https://other.test"],
        [TOKEN, "https://other.test/token"],
        [],
        [5],
        {"a": ISSUER},
        5,
        "",
        None,
    ],
)
def test_f05_audience_that_names_anybody_else_is_refused(audience: Any) -> None:
    for client in (CLIENT, CLASSIC, PERMITTED, STRICT):
        assert reason(client=client, aud=audience) == "audience"


def test_f05_issuer_in_a_list_is_for_profiles_that_are_not_strict() -> None:
    assert checked(aud=[ISSUER])
    assert reason(client=STRICT, aud=[ISSUER]) == "audience"
    assert checked(STRICT, aud=ISSUER)


@pytest.mark.parametrize(
    ("kind", "strict", "tolerant"),
    [
        ("client-authentication+jwt", True, True),
        ("Client-Authentication+JWT", True, True),
        ("application/client-authentication+jwt", True, True),
        (None, False, True),
        ("JWT", False, True),
        ("at+jwt", False, False),
        ("logout+jwt", False, False),
        ("", False, False),
        (5, False, False),
    ],
)
def test_type_is_told_or_tolerated(kind: Any, strict: bool, tolerant: bool) -> None:
    for client, good in ((STRICT, strict), (CLIENT, tolerant), (CLASSIC, tolerant)):
        if good:
            assert checked(client, header={"typ": kind})
        else:
            assert reason(client=client, header={"typ": kind}) == "type"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"exp": None}, "expired"),
        ({"exp": NOW}, "expired"),
        ({"exp": NOW - 300}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": NOW + 331, "iat": None}, "life"),
        ({"exp": NOW + 301, "iat": NOW}, "life"),
        ({"exp": NOW + 10, "iat": NOW - 291}, "life"),
        ({"exp": NOW * 1000}, "life"),
        ({"iat": NOW + 61, "exp": NOW + 120}, "future"),
        ({"nbf": NOW + 61}, "future"),
        ({"iat": NOW + 3_600, "exp": NOW + 60}, "future"),
        ({"exp": str(NOW + 60)}, "time"),
        ({"exp": True}, "time"),
        ({"exp": [NOW + 60]}, "time"),
        ({"iat": "now"}, "time"),
        ({"jti": None}, "jti"),
        ({"jti": ""}, "jti"),
        ({"jti": 5}, "jti"),
        ({"jti": "j" * 513}, "jti"),
        ({"iss": None}, "issuer"),
        ({"sub": None}, "issuer"),
        ({"iss": "d"}, "issuer"),
        ({"sub": "d"}, "issuer"),
        ({"iss": ["c"]}, "issuer"),
    ],
)
def test_claim_out_of_bounds_is_refused(changes: dict[str, Any], expected: str) -> None:
    assert reason(**changes) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"iat": NOW + 10, "exp": NOW + 70},
        {"nbf": NOW + 10},
        {"nbf": NOW + 8},
        {"iat": NOW + 10, "nbf": NOW + 10, "exp": NOW + 310},
        {"iat": None},
        {"exp": NOW + 59.5},
        {"iat": NOW - 240, "exp": NOW + 60},
    ],
)
def test_f07_clock_ten_seconds_ahead_is_accepted(changes: dict[str, Any]) -> None:
    assert checked(**changes)


def test_f08_signature_of_another_key_is_refused() -> None:
    assert reason(key=es256_key()) == "signature"
    assert reason(key=new_key("RS256")) == "key"
    assert reason(header={"kid": "other"}) == "key"


def test_f08_only_the_registered_algorithm_is_accepted() -> None:
    bound = party(token_endpoint_auth_method="private_key_jwt", token_endpoint_auth_signing_alg="PS256")
    assert reason(client=bound) == "algorithm"
    assert reason(header={"alg": "none"}) == "algorithm"
    assert reason(header={"alg": "HS256"}) == "algorithm"


def test_mark_is_kept_as_long_as_the_assertion_could_be_used() -> None:
    assert checked(exp=NOW + 59.2).expires_at == NOW + 60
    assert assertion.LIFE_SECONDS == 300
