"""Client metadata: whatever is unknown, unfit or dangerous is refused, and named."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clients import metadata
from clients.metadata import InvalidClientMetadata, InvalidRedirectUri
from idp.context import Context
from idp.outgoing import Outgoing
from tests.support.assertions import es256_key

CALLBACK = "https://rp.example.test/cb"
CONTEXT = cast(Context, SimpleNamespace(outgoing=Outgoing(("127.0.0.1:8101",), None)))


URI = "https://rp.example.test/jwks"
PUBLIC = es256_key("k").public
JWKS = {"keys": [PUBLIC]}
SIGNS = {"token_endpoint_auth_method": "private_key_jwt", "jwks": JWKS}
CALLS = {"token_endpoint_auth_method": "private_key_jwt"}


def checked(**given: Any) -> dict[str, Any]:
    return metadata.check(CONTEXT, {"client_name": "公积金", "redirect_uris": [CALLBACK], **given}, "baseline")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"jwks": {"keys": []}}, "jwks"),
        ({"jwks_uri": "https://rp.example.test/jwks"}, "jwks_uri"),
        ({"sector_identifier_uri": "https://rp.example.test/s"}, "sector_identifier_uri is not supported yet"),
        ({"client_id": "chosen"}, "client_id is assigned"),
        ({"client_secret": "chosen"}, "client_secret is assigned"),
        ({"client_name": ""}, "client_name"),
        ({"client_name": "x" * 101}, "client_name"),
        ({"client_name": "evil\u202ename"}, "client_name"),
        ({"client_name": ["a"]}, "client_name"),
        ({"client_name#": "a"}, "client_name#"),
        ({"redirect_uris#en": [CALLBACK]}, "redirect_uris#en"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "either jwks or jwks_uri"),
        ({"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": URI, "jwks": JWKS}, "either jwks or jwks_uri"),
        ({"token_endpoint_auth_method": "client_secret_jwt"}, "token_endpoint_auth_method"),
        ({"token_endpoint_auth_signing_alg": "ES256"}, "token_endpoint_auth_signing_alg"),
        ({**SIGNS, "token_endpoint_auth_signing_alg": "HS256"}, "token_endpoint_auth_signing_alg"),
        ({**SIGNS, "token_endpoint_auth_signing_alg": "none"}, "token_endpoint_auth_signing_alg"),
        ({**SIGNS, "jwks": {"keys": [{**PUBLIC, "d": "AAAA"}]}}, "private or secret key"),
        ({**SIGNS, "jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}}, "private or secret key"),
        ({**SIGNS, "jwks": {"keys": [{**PUBLIC, "crv": "P-384"}]}}, "no public signature key"),
        ({**SIGNS, "jwks": {"keys": [{**PUBLIC, "use": "enc"}]}}, "no public signature key"),
        ({**SIGNS, "jwks": {"keys": [PUBLIC, PUBLIC]}}, "a kid of its own"),
        ({**SIGNS, "jwks": {"keys": []}}, "jwks"),
        ({**SIGNS, "jwks": {"keys": [PUBLIC], "more": 1}}, "jwks"),
        ({**SIGNS, "jwks": [PUBLIC]}, "jwks"),
        ({**SIGNS, "jwks": {"keys": [5]}}, "jwks"),
        ({**SIGNS, "jwks": {"keys": [{**PUBLIC, "more": "\ud800"}]}}, "jwks must be proper text"),
        ({**SIGNS, "jwks": {"keys": [{**PUBLIC, "more": "x" * 65_536}]}}, "jwks must be proper text"),
        ({**CALLS, "jwks_uri": URI + "#keys"}, "jwks_uri"),
        ({**CALLS, "jwks_uri": "http://rp.example.test/jwks"}, "jwks_uri: plain http"),
        ({**CALLS, "jwks_uri": "https://10.0.0.1/jwks"}, "jwks_uri: 10.0.0.1 is not on the allow list"),
        ({**CALLS, "jwks_uri": "https://169.254.169.254/jwks"}, "jwks_uri: 169.254.169.254"),
        ({**CALLS, "jwks_uri": "https://[::ffff:127.0.0.1]/jwks"}, "jwks_uri"),
        ({"grant_types": ["client_credentials"], "response_types": ["code"]}, "response_types"),
        ({"grant_types": ["authorization_code"], "response_types": []}, "response_types"),
        ({"grant_types": ["client_credentials", "refresh_token"]}, "refresh_token"),
        ({"grant_types": ["client_credentials"], "token_endpoint_auth_method": "none"}, "client_credentials needs"),
        ({"grant_types": ["client_credentials"], "scope": "openid"}, "tells of a person"),
        ({"scope": "openid gjj:read"}, "gjj:read"),
        ({"grant_types": ["implicit"]}, "grant_types"),
        ({"grant_types": ["refresh_token"]}, "grant_types"),
        ({"grant_types": []}, "grant_types"),
        ({"response_types": ["code", "id_token"]}, "response_types"),
        ({"scope": "openid everything"}, "everything"),
        ({"scope": ""}, "scope"),
        ({"subject_type": "private"}, "subject_type"),
        ({"id_token_signed_response_alg": "none"}, "id_token_signed_response_alg"),
        ({"id_token_signed_response_alg": "HS256"}, "id_token_signed_response_alg"),
        ({"default_max_age": -1}, "default_max_age"),
        ({"default_max_age": True}, "default_max_age"),
        ({"require_auth_time": "true"}, "require_auth_time"),
        ({"application_type": "service"}, "application_type"),
        ({"policy_uri": "http://rp.example.test/privacy"}, "policy_uri"),
        ({"tos_uri": "javascript:alert(1)"}, "tos_uri"),
        ({"logo_uri": "data:image/png;base64,AAAA"}, "logo_uri"),
        ({"contacts": ["nobody"]}, "contacts"),
        ({"contacts": "a@b.test"}, "contacts"),
        ({"initiate_login_uri": "http://127.0.0.1/start"}, "initiate_login_uri"),
        ({"backchannel_logout_uri": "https://rp.example.test/out#x"}, "backchannel_logout_uri"),
        ({"backchannel_logout_uri": "ftp://rp.example.test/"}, "backchannel_logout_uri"),
        ({"redirect_uris": [CALLBACK, "https://other.example.test/cb"]}, "share one host"),
        ({"redirect_uris": [CALLBACK, "http://127.0.0.1/cb"]}, "share one host"),
        ({"redirect_uris": [CALLBACK, CALLBACK]}, "redirect_uris"),
        ({"redirect_uris": CALLBACK}, "redirect_uris"),
        ({"redirect_uris": []}, "redirect_uris"),
        ({"redirect_uris": [5]}, "redirect_uris"),
    ],
)
def test_unknown_or_unfit_member_is_refused_by_name(given: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidClientMetadata) as caught:
        checked(**given)
    assert named in caught.value.message
    assert caught.value.message.isascii()
    assert caught.value.code == "invalid_client_metadata"


BAD_REDIRECTS = [
    "https://rp.example.test/*",
    "https://*.example.test/cb",
    "https://rp.example.test/.*",
    "https://rp.example.test/cb$",
    "^https://rp.example.test/cb",
    "https://rp.example.test/(a|b)",
    "https://rp.example.test/[a-z]+",
    "https://rp.example.test/{a}",
    "https://rp.example.test/cb#x",
    "https://rp.example.test/cb#",
    "https://rp.example.test/a/../cb",
    "https://rp.example.test/cb\\x",
    "https://rp.example.test/c b",
    "https://rp.example.test/cb ",
    "https://rp.example.test/\u202ecb",
    "https://rp.example.test:99999/cb",
    "https://zhang@rp.example.test/cb",
    "https://rp.exámple.test/cb",
    "HTTPS://rp.example.test/cb",
    "https:///cb",
    "https:rp.example.test/cb",
    "//rp.example.test/cb",
    "/cb",
    "cb",
    "http://rp.example.test/cb",
    "http://127.0.0.1.example.test/cb",
    "javascript:alert(1)",
    "javascript://rp.example.test/%0aalert(1)",
    "data:text/html,x",
    "vbscript:x",
    "blob:https://rp.example.test/x",
    "file:///etc/passwd",
    "ftp://rp.example.test/",
    "gov.gd.app:/cb",
]


@pytest.mark.parametrize("uri", BAD_REDIRECTS)
@pytest.mark.parametrize("member", ["redirect_uris", "post_logout_redirect_uris"])
def test_bad_redirect_uri_is_refused(member: str, uri: str) -> None:
    with pytest.raises((InvalidRedirectUri, InvalidClientMetadata), match=member):
        checked(**{member: [uri]})


@pytest.mark.parametrize("uri", ["javascript:x", "data:x", "app:/cb", "gov.gd.app://host/cb", "file:/x", "com..app:/x"])
def test_native_client_needs_a_scheme_of_its_own(uri: str) -> None:
    with pytest.raises(InvalidRedirectUri):
        checked(application_type="native", redirect_uris=[uri])


def test_missing_name_or_redirect_and_unknown_profile_are_refused() -> None:
    with pytest.raises(InvalidClientMetadata, match="client_name"):
        metadata.check(CONTEXT, {"redirect_uris": [CALLBACK]}, "baseline")
    with pytest.raises(InvalidRedirectUri, match="redirect_uris"):
        metadata.check(CONTEXT, {"client_name": "x"}, "baseline")
    with pytest.raises(InvalidClientMetadata, match="fapi2 is not available"):
        metadata.check(CONTEXT, {"client_name": "x", "redirect_uris": [CALLBACK]}, "fapi2")


@pytest.mark.parametrize(
    ("uri", "fits"),
    [
        ("http://127.0.0.1:8101/logout", True),
        ("https://rp.example.test/logout", True),
        ("http://rp.example.test/logout", False),
        ("https://127.0.0.1:8443/logout", False),
        ("https://10.1.2.3/logout", False),
        ("https://169.254.169.254/latest", False),
        ("https://rp.example.test:8443/logout", False),
    ],
)
def test_logout_address_must_pass_the_guard(uri: str, fits: bool) -> None:
    if fits:
        assert checked(backchannel_logout_uri=uri)["backchannel_logout_uri"] == uri
        return
    with pytest.raises(InvalidClientMetadata, match=r"backchannel_logout_uri: .* is not on the allow list"):
        checked(backchannel_logout_uri=uri)


def test_service_client_needs_no_redirect_uri_and_has_scopes_of_its_own() -> None:
    given: dict[str, Any] = {
        "client_name": "归集",
        "grant_types": ["client_credentials"],
        "scope": "gjj:read gjj:write",
    }
    found = metadata.check(CONTEXT, given, "baseline")
    assert (found["response_types"], found["scope"]) == ([], "gjj:read gjj:write")
    assert metadata.sector_host(found) == ""
    del given["scope"]
    assert "scope" not in metadata.check(CONTEXT, given, "classic")


def test_client_may_both_sign_people_in_and_speak_for_itself() -> None:
    found = checked(grant_types=["authorization_code", "client_credentials"], scope="openid gjj:read")
    assert found["response_types"] == ["code"]


@pytest.mark.parametrize(
    "given", [SIGNS, {**CALLS, "jwks_uri": URI}, {**SIGNS, "token_endpoint_auth_signing_alg": "ES256"}]
)
def test_keys_of_private_key_jwt_are_kept(given: dict[str, Any]) -> None:
    found = checked(**given)
    assert all(found[name] == value for name, value in given.items())


@pytest.mark.parametrize("member", ["jwks_uri", "backchannel_logout_uri"])
@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "fd00::1"])
def test_k02_name_that_leads_inside_is_refused_at_registration(member: str, address: str) -> None:
    context = cast(Context, SimpleNamespace(outgoing=Outgoing((), None, resolver=leading_to(address))))
    with pytest.raises(InvalidClientMetadata) as caught:
        asyncio.run(metadata.check_addresses(context, {member: "https://rp.example.test/x"}))
    assert caught.value.message.startswith(f"{member}: ")


def test_k02_name_that_leads_outside_or_is_not_known_yet_passes() -> None:
    for addresses in (["93.184.215.14"], []):
        context = cast(Context, SimpleNamespace(outgoing=Outgoing((), None, resolver=leading_to(*addresses))))
        asyncio.run(metadata.check_addresses(context, {"jwks_uri": "https://rp.example.test/x", "logo_uri": 5}))


def leading_to(*addresses: str) -> Any:
    async def resolve(host: str, port: int) -> list[str]:
        if not addresses:
            raise OSError("unknown")
        return list(addresses)

    return resolve
