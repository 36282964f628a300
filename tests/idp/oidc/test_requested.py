"""The parameters `claims` and `acr_values`: read strictly, never more than the client may see."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idp.oidc import profiles, requested
from idp.oidc.requested import ClaimsRefused, Requested

EVERYTHING = " ".join(profiles.SCOPES)
LOA = "urn:yimen:loa:"


def read(claims: object = None, allowed: str = EVERYTHING, default: tuple[str, ...] = (), **others: str) -> Requested:
    given = {"claims": json.dumps(claims)} if claims is not None else {}
    return requested.read(given | others, allowed, default)


def test_claims_are_told_apart_by_place() -> None:
    found = read({"userinfo": {"email": None, "nickname": {"essential": True}}, "id_token": {"birthdate": None}})
    assert (found.userinfo, found.id_token) == (("email", "nickname"), ("birthdate",))
    assert found.scope == "profile email"
    assert requested.named(found.stored, "userinfo") == ["email", "nickname"]
    assert requested.named(found.stored, "id_token") == ["birthdate"]


def test_claim_that_is_unknown_or_not_the_client_s_is_left_out() -> None:
    found = read({"userinfo": {"identity_number": None, "email": None, "shoe_size": None}}, allowed="openid email")
    assert found.userinfo == ("email",)


def test_acting_for_comes_by_scope_only() -> None:
    assert read({"userinfo": {"acting_for": None, "sub": None}}) == Requested()


@pytest.mark.parametrize(
    ("claims", "others", "levels", "essential"),
    [
        (None, {}, (), False),
        (None, {"acr_values": f"{LOA}4 {LOA}3 {LOA}4 other"}, (4, 3), False),
        ({"id_token": {"acr": {"essential": True, "values": [f"{LOA}2"]}}}, {}, (2,), True),
        ({"id_token": {"acr": {"value": f"{LOA}5"}}}, {"acr_values": f"{LOA}1"}, (5,), False),
        ({"id_token": {"acr": {"essential": True}}}, {"acr_values": f"{LOA}1"}, (1,), False),
        ({"id_token": {"acr": {"essential": True, "values": ["phr"]}}}, {}, (), True),
        ({"id_token": {"acr": None}}, {}, (), False),
    ],
)
def test_levels(claims: object, others: dict[str, str], levels: tuple[int, ...], essential: bool) -> None:
    found = read(claims, **others)
    assert (found.levels, found.essential) == (levels, essential)


def test_default_levels_count_when_nothing_else_is_asked() -> None:
    assert read(default=(f"{LOA}2",)).levels == (2,)
    assert read(default=(f"{LOA}2",), acr_values=f"{LOA}3").levels == (3,)


def test_subject_named_by_claim() -> None:
    assert read({"id_token": {"sub": {"value": "abc"}}}).subject == "abc"
    assert read({"userinfo": {"sub": {"values": ["x"]}}}).subject == "x"
    assert read({"id_token": {"sub": None}}).subject is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "1", "{", '{"userinfo": []}', '{"userinfo": {"email": 1}}',
     '{"id_token": {"acr": {"essential": "yes"}}}', '{"userinfo": {"email": {"values": "x"}}}',
     "[" * 4_000, '{"userinfo":' * 400, "\ud800", " " * 4_097],
)  # fmt: skip
def test_malformed_claims_are_refused(text: str) -> None:
    with pytest.raises(ClaimsRefused):
        requested.read({"claims": text}, EVERYTHING, ())


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["userinfo", "id_token", "acr", "sub", "email", "value", "values", "essential", "x"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON | st.text())
def test_whatever_comes_is_read_or_refused(value: object) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        found = requested.read({"claims": text}, "openid email", ())
    except ClaimsRefused:
        return
    assert set(found.userinfo) | set(found.id_token) <= {"email", "email_verified"}
    assert found == Requested(
        userinfo=found.userinfo,
        id_token=found.id_token,
        levels=found.levels,
        essential=found.essential,
        subject=found.subject,
    )
