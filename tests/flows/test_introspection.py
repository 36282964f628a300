"""Introspection and revocation: who may ask about which token, and that every other answer says nothing."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.flows.signing import add_service, add_signing
from tests.flows.test_code_flow import claims_of, tokens_of
from tests.support.citizen import Citizen
from tests.support.servers import YimenServer
from tests.support.visitor import Rp, Visitor, sign_in

NOTHING = {"active": False}


def seen(asking: Rp, token: str, **more: str) -> Any:
    answer = asking.post("/introspect", {"token": token, **more})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def test_own_tokens_are_described(citizen: Citizen, rp: Rp) -> None:
    tokens = tokens_of(citizen, rp)
    claims = claims_of(tokens["id_token"])
    found = seen(rp, tokens["access_token"])
    assert found.pop("exp") - found.pop("iat") == 600
    assert found == {
        "active": True,
        "iss": citizen.server.url,
        "client_id": rp.client_id,
        "sub": claims["sub"],
        "scope": "openid profile email offline_access",
        "token_type": "Bearer",
        "acr": "urn:yimen:loa:3",
        "auth_time": claims["auth_time"],
    }
    refresh = seen(rp, tokens["refresh_token"], token_type_hint="nonsense")
    assert refresh["active"] is True
    assert "token_type" not in refresh
    assert refresh["sub"] == claims["sub"]
    assert citizen.number not in json.dumps([found, refresh])


@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
def test_tokens_of_others_look_like_nothing(citizen: Citizen, rp: Rp, other_rp: Rp, name: str) -> None:
    tokens = tokens_of(citizen, rp)
    assert seen(other_rp, tokens[name]) == NOTHING
    assert seen(rp, tokens[name])["active"] is True


def test_resource_server_with_the_permission_may_ask(
    server: YimenServer, citizen: Citizen, rp: Rp, tmp_path: Path
) -> None:
    """It learns the person by its own pairwise subject, and never about refresh tokens."""
    asking, tokens = add_service(server, tmp_path), tokens_of(citizen, rp)
    assert seen(asking, tokens["access_token"]) == NOTHING
    permit = ("client", "permit", asking.client_id, "--permission", "introspection")
    assert server.cli(*permit, "--reason", "数据交换")["permissions"] == {"introspection": "数据交换"}
    found = seen(asking, tokens["access_token"])
    assert (found["active"], found["client_id"]) == (True, rp.client_id)
    assert found["sub"] != claims_of(tokens["id_token"])["sub"]
    assert found["sub"] == seen(asking, tokens_of(citizen, rp)["access_token"])["sub"]
    assert seen(asking, tokens["refresh_token"]) == NOTHING
    server.cli("client", "forbid", asking.client_id, "--permission", "introspection")
    assert seen(asking, tokens["access_token"]) == NOTHING
    assert server.cli("client", "show", asking.client_id)["permissions"] == {}
    again = server.cli("client", "forbid", asking.client_id, "--permission", "introspection", status=1)
    assert again["error"] == "wrong_state"


def test_h05_introspection_without_authentication_is_refused(
    server: YimenServer, citizen: Citizen, rp: Rp, tmp_path: Path
) -> None:
    token = tokens_of(citizen, rp)["access_token"]
    for options in ({"auth": None}, {"auth": (rp.client_id, "wrong")}, {"auth": ("nobody", "x")}):
        answer = rp.post("/introspect", {"token": token}, **options)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
        assert "www-authenticate" in answer.headers
        assert "active" not in answer.json()
    bearer = rp.post("/introspect", {"token": token}, auth=None, headers={"authorization": f"Bearer {token}"})
    assert bearer.status_code == 401
    (tmp_path / "public.json").write_text(json.dumps({"token_endpoint_auth_method": "none"}))
    arguments = ("--name", "公开", "--redirect-uri", rp.redirect_uri, "--metadata", str(tmp_path / "public.json"))
    public = server.cli("client", "add", *arguments)["client_id"]
    answer = rp.post("/introspect", {"token": token, "client_id": public}, auth=None)
    assert answer.status_code == 401


def test_introspection_malformed_is_refused(rp: Rp) -> None:
    assert rp.post("/introspect", {}).json()["error"] == "invalid_request"
    assert rp.post("/introspect", {"token": ""}).json()["error"] == "invalid_request"
    in_address = rp.post("/introspect?token=x", {"token": "x"})
    assert in_address.status_code == 400
    headers = {"content-type": "application/json"}
    assert rp.post("/introspect", {}, content='{"token": "x"}', headers=headers).status_code == 400
    answer = httpx2.get(rp.server + "/introspect", trust_env=False)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_h08_revoked_refresh_token_makes_everything_inactive(citizen: Citizen, rp: Rp) -> None:
    tokens = tokens_of(citizen, rp)
    for _ in range(2):
        assert rp.post("/revoke", {"token": tokens["refresh_token"]}).status_code == 200
    assert seen(rp, tokens["access_token"]) == NOTHING
    assert seen(rp, tokens["refresh_token"]) == NOTHING


def test_h02_revoked_access_token_is_inactive_and_its_family_lives(citizen: Citizen, rp: Rp) -> None:
    tokens = tokens_of(citizen, rp)
    assert rp.post("/revoke", {"token": tokens["access_token"]}).status_code == 200
    assert seen(rp, tokens["access_token"]) == NOTHING
    assert seen(rp, tokens["refresh_token"])["active"] is True


def test_d01_code_used_twice_makes_its_tokens_inactive(citizen: Citizen, rp: Rp) -> None:
    answer = sign_in(Visitor(citizen.server.url), rp.authorize_url(), citizen.number, citizen.password)
    tokens = rp.redeem(answer["code"]).json()
    assert seen(rp, tokens["access_token"])["active"] is True
    assert rp.redeem(answer["code"]).json()["error"] == "invalid_grant"
    assert seen(rp, tokens["access_token"]) == NOTHING
    assert seen(rp, tokens["refresh_token"]) == NOTHING


def test_e01_rotated_refresh_token_is_inactive(citizen: Citizen, rp: Rp) -> None:
    first = tokens_of(citizen, rp)
    second = rp.refresh(first["refresh_token"]).json()
    assert seen(rp, first["refresh_token"]) == NOTHING
    assert seen(rp, second["refresh_token"])["active"] is True


def test_h03_token_of_a_locked_account_is_inactive(server: YimenServer, new_citizen: Citizen, rp: Rp) -> None:
    tokens = tokens_of(new_citizen, rp)
    server.cli("person", "lock", new_citizen.account, "--reason", "test")
    assert seen(rp, tokens["access_token"]) == NOTHING
    assert seen(rp, tokens["refresh_token"]) == NOTHING
    assert rp.userinfo(tokens["access_token"]).status_code == 401


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(id_token: str, jwk: dict[str, str]) -> list[str]:
    """G03, G04: no algorithm, a stripped or borrowed signature, zeros, and HMAC keyed with the public key."""
    head, payload, signature = id_token.split(".")
    kid = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]
    none = [b64(json.dumps({"alg": name, "kid": kid, "typ": "JWT"}).encode()) for name in ("none", "None", "nOnE", "")]
    made = [f"{header}.{payload}.{end}" for header in none for end in ("", signature)]
    made += [f"{head}.{payload}.", f"{head}.{payload}.{b64(bytes(64))}", f"{head}.{payload}.{b64(bytes(256))}"]
    hs256 = b64(json.dumps({"alg": "HS256", "kid": kid, "typ": "JWT"}).encode())
    for secret in (json.dumps(jwk).encode(), jwk["n"].encode(), b""):
        data = f"{hs256}.{payload}"
        made.append(f"{data}.{b64(hmac.new(secret, data.encode(), hashlib.sha256).digest())}")
    return made


def test_g02_token_of_one_kind_is_nothing_elsewhere(server: YimenServer, citizen: Citizen, rp: Rp) -> None:
    """An ID token or refresh token as bearer, an access token as hint, an ID token at introspection."""
    tokens = tokens_of(citizen, rp)
    for name in ("id_token", "refresh_token"):
        answer = rp.userinfo(tokens[name])
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert seen(rp, tokens["id_token"]) == NOTHING
    assert rp.refresh(tokens["access_token"]).json()["error"] == "invalid_grant"
    assert rp.refresh(tokens["id_token"]).json()["error"] == "invalid_grant"
    for name in ("access_token", "refresh_token"):
        visitor = Visitor(server.url)
        url = f"/logout?id_token_hint={tokens[name]}&post_logout_redirect_uri={rp.redirect_uri}"
        answer = visitor.walk(url)
        assert "location" not in answer.headers


def test_g03_g04_forged_token_is_nothing_anywhere(server: YimenServer, citizen: Citizen, rp: Rp) -> None:
    tokens = tokens_of(citizen, rp)
    keys = httpx2.get(server.url + "/jwks", trust_env=False).json()["keys"]
    jwk = next(key for key in keys if key["kty"] == "RSA")
    for token in forged(tokens["id_token"], jwk):
        assert seen(rp, token) == NOTHING
        assert rp.userinfo(token).status_code == 401
        hint = Visitor(server.url).walk(rp.authorize_url(prompt="none", id_token_hint=token))
        assert "error=" in hint.headers["location"]
        assert "code=" not in hint.headers["location"]


def test_h02_handle_changed_anywhere_is_nothing(citizen: Citizen, rp: Rp) -> None:
    token = tokens_of(citizen, rp)["access_token"]
    for changed in (token[:-1], token + "A", token[:-8], token[1:], token.swapcase(), "A" * len(token)):
        answer = rp.userinfo(changed)
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert seen(rp, changed) == NOTHING


@pytest.mark.parametrize("size", [1_000, 8_000, 60_000, 200_000, 1_000_000, 10_000_000])
def test_g08_overlong_token_is_refused_and_the_log_stays_short(server: YimenServer, rp: Rp, size: int) -> None:
    before = server.log.stat().st_size
    for token in ("a" * size, "." * size):
        try:
            answer = rp.post("/introspect", {"token": token})
            assert answer.status_code in ((200, 400) if size < 60_000 else (400, 413))
        except httpx2.TransportError:
            assert size >= 1_000_000, "the server may close the connection of a body that is far too long"
        try:
            headers = {"authorization": f"Bearer {token}"}
            answer = httpx2.get(rp.server + "/userinfo", headers=headers, timeout=20, trust_env=False)
            assert answer.status_code in (400, 401, 413, 431)
        except httpx2.TransportError:
            assert size >= 60_000
    assert server.log.stat().st_size - before < 20_000
    assert rp.post("/introspect", {"token": "x"}).json() == NOTHING


def test_introspection_by_an_own_key(server: YimenServer, citizen: Citizen, tmp_path: Path) -> None:
    signing = add_signing(server, tmp_path)
    tokens = tokens_of(citizen, signing, scope="openid profile offline_access")
    assert seen(signing, tokens["access_token"])["active"] is True
    assert signing.post("/revoke", {"token": tokens["refresh_token"]}).status_code == 200
    assert seen(signing, tokens["access_token"]) == NOTHING


def test_metadata_names_introspection_and_its_methods(server: YimenServer) -> None:
    found = httpx2.get(server.url + "/.well-known/openid-configuration", trust_env=False).json()
    assert found["introspection_endpoint"] == server.url + "/introspect"
    methods = found["introspection_endpoint_auth_methods_supported"]
    assert set(methods) == {"client_secret_basic", "client_secret_post", "private_key_jwt"}
    for name in ("token", "introspection", "revocation"):
        algorithms = found[f"{name}_endpoint_auth_signing_alg_values_supported"]
        assert set(algorithms) == {"RS256", "PS256", "ES256", "EdDSA"}
    assert "client_credentials" in found["grant_types_supported"]
