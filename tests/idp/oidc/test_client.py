"""Redirect URIs are compared byte for byte; only the port of a loopback address may vary (security.md A01 to A14)."""

import hashlib

import pytest

from idp.oidc.client import RelyingParty
from idp.oidc.profiles import PROFILES


def party(*redirect_uris: str, **metadata: object) -> RelyingParty:
    return RelyingParty(
        client_id="c",
        status="active",
        profile=PROFILES["baseline"],
        sector="rp1.test",
        metadata={"redirect_uris": list(redirect_uris), **metadata},
        secret_hashes=(hashlib.sha256(b"secret").digest(),),
        guarded=frozenset(),
    )


def test_redirect_uri_registered_is_accepted() -> None:
    assert party("https://rp1.test/cb").check_redirect_uri("https://rp1.test/cb")
    assert party("https://rp1.test/cb?x=1").check_redirect_uri("https://rp1.test/cb?x=1")


VARIANTS = """https://rp2.test/cb https://a.rp1.test/cb https://rp1.test.evil.test/cb https://rp1.test/cbx
https://rp1.test/cb/ https://rp1.test/cb/../x https://rp1.test/cb%2f..%2fx https://rp1.test/cb%252f..
https://rp1.test/cb..;/x https://rp1.test/cb?x=1 https://rp1.test/cb#f HTTPS://rp1.test/cb https://RP1.test/cb
https://rp1.test/CB https://rp1.test:443/cb https://a@rp1.test/cb https://rp1.test:80@evil.test/cb
https://rp1.test\\evil.test/cb //rp1.test/cb https://rp1.test./cb http://rp1.test/cb https:/rp1.test/cb
https:///rp1.test/cb javascript:alert(1) data:text/html,x http://127.0.0.1/cb http://localhost/cb
https://rp1.test/cb%00 https://rp1.test/%63b https://xn--rp1-test/cb""".split()


@pytest.mark.parametrize(
    "variant", [*VARIANTS, "https://rp1.test/cb ", " https://rp1.test/cb", "https://rp1.test/\tcb", ""]
)
def test_redirect_uri_variant_is_refused(variant: str) -> None:
    assert not party("https://rp1.test/cb").check_redirect_uri(variant)


@pytest.mark.parametrize("port", ["", ":1", ":51004", ":65535"])
def test_redirect_uri_loopback_port_may_vary(port: str) -> None:
    client = party("http://127.0.0.1/cb?a=1", "http://[::1]:7/x")
    assert client.check_redirect_uri(f"http://127.0.0.1{port}/cb?a=1")
    assert client.check_redirect_uri(f"http://[::1]{port}/x")


@pytest.mark.parametrize(
    "variant",
    [
        "http://127.0.0.1:80/other",
        "http://127.0.0.1:99999/cb",
        "http://127.0.0.1:0/cb",
        "http://127.0.0.1:x/cb",
        "http://127.0.0.1:/cb",
        "http://127.0.0.1:+80/cb",
        "http://127.0.0.1:08/cb",
        "http://127.0.0.2:80/cb",
        "http://a@127.0.0.1:80/cb",
        "http://127.0.0.1:80@evil.test/cb",
        "https://127.0.0.1:80/cb",
        "http://localhost:80/cb",
        "http://[::1]:80/cb",
    ],
)
def test_redirect_uri_loopback_other_difference_is_refused(variant: str) -> None:
    assert not party("http://127.0.0.1/cb").check_redirect_uri(variant)


def test_client_secret_wrong_is_refused() -> None:
    assert party().check_client_secret("secret")
    assert not party().check_client_secret("Secret")


def test_authentication_method_other_than_registered_is_refused() -> None:
    client = party(token_endpoint_auth_method="client_secret_post")
    assert client.check_endpoint_auth_method("client_secret_post", "token")
    assert not client.check_endpoint_auth_method("client_secret_basic", "token")
    assert not client.check_endpoint_auth_method("none", "token")


def test_scope_guarded_without_legal_basis_is_left_out() -> None:
    assert party().get_allowed_scope("openid identity_number unknown openid") == "openid"


def test_scope_beyond_registration_is_left_out() -> None:
    assert party(scope="openid email").get_allowed_scope("email profile openid") == "email openid"
