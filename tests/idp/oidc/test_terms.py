"""Terms of a consent: the same in every language and order, other when what is shown is other."""

import json
from typing import Any

import pytest

from idp.oidc import terms
from idp.oidc.client import RelyingParty
from idp.oidc.profiles import PROFILES, SCOPES
from idp.oidc.terms import Changed

METADATA = {
    "client_name": "公积金",
    "client_name#en": "Housing Fund",
    "purpose": "办理提取",
    "policy_uri": "https://rp.example.test/privacy",
}
SCOPE = "openid profile"


def party(**changes: Any) -> RelyingParty:
    metadata = {name: value for name, value in {**METADATA, **changes}.items() if value is not None}
    return RelyingParty("c1", "active", PROFILES["baseline"], "rp.example.test", metadata, (), frozenset())


def test_terms_do_not_depend_on_order_or_on_what_is_not_shown() -> None:
    version = terms.of(party(), SCOPE).version
    assert terms.of(party(redirect_uris=["https://rp.example.test/2"], contacts=["a@b.test"]), SCOPE).version == version
    assert terms.of(party(), "profile openid profile").version == version


@pytest.mark.parametrize(
    ("changes", "locale", "told"),
    [
        ({"client_name": "住房公积金"}, "zh-CN", [Changed("client_name", "公积金", "住房公积金")]),
        ({"client_name#en": "Fund"}, "en", [Changed("client_name", "Housing Fund", "Fund")]),
        ({"purpose": None}, "en", [Changed("purpose", "办理提取", "")]),
        ({"purpose": "核查"}, "zh-CN", [Changed("purpose", "办理提取", "核查")]),
        (
            {"policy_uri": "https://rp.example.test/p2"},
            "en",
            [Changed("policy_uri", METADATA["policy_uri"], "https://rp.example.test/p2")],
        ),
        ({"tos_uri": "https://rp.example.test/t"}, "en", [Changed("tos_uri", "", "https://rp.example.test/t")]),
    ],
)
def test_change_of_what_is_shown_is_another_version_and_is_told(
    changes: dict[str, Any], locale: str, told: list[Changed]
) -> None:
    before, after = terms.of(party(), SCOPE), terms.of(party(**changes), SCOPE)
    assert before.version != after.version
    assert terms.changes(before.document, after.document, locale) == told
    assert not terms.hold(party(**changes), SCOPE, before.version)
    assert terms.hold(party(), SCOPE, before.version)


def test_more_scopes_and_wider_scopes_are_told() -> None:
    before, after = terms.of(party(), SCOPE), terms.of(party(), SCOPE + " phone")
    assert terms.changes(before.document, after.document, "en") == [Changed("scope", after="phone")]
    assert terms.changes(after.document, before.document, "en") == []
    narrow = json.loads(before.document)
    narrow["scopes"]["profile"].remove("birthdate")
    narrow["text_version"] = "2020-01"
    told = terms.changes(json.dumps(narrow), before.document, "en")
    assert told == [Changed("text"), Changed("wider", after="profile")]


def test_agreement_from_before_versions_counts() -> None:
    assert terms.hold(party(), SCOPE, None)


def test_document_names_the_claims_of_each_scope() -> None:
    document = json.loads(terms.of(party(), SCOPE).document)
    assert document["scopes"] == {"openid": ["sub"], "profile": list(SCOPES["profile"])}
    assert document["client_name"] == {"": "公积金", "en": "Housing Fund"}
