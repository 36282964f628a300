"""Kinds of clients, hints, keys that turn over, and what a running server picks up by itself."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.flows.test_code_flow import claims_of
from tests.support.citizen import Citizen, add_client
from tests.support.servers import YimenServer
from tests.support.visitor import REDIRECT_URI, Rp, Visitor, answer_of, sign_in


def get(server: YimenServer, path: str) -> Any:
    return httpx2.get(server.url + path, trust_env=False).json()


def header_of(token: str) -> dict[str, Any]:
    part = token.split(".")[0]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def client_with(server: YimenServer, folder: Path, *arguments: str, **metadata: Any) -> Rp:
    (folder / "client.json").write_text(json.dumps(metadata))
    return add_client(server, "测试系统", "--metadata", str(folder / "client.json"), *arguments)


def test_metadata_of_both_addresses_is_equal_and_complete(server: YimenServer) -> None:
    found = get(server, "/.well-known/openid-configuration")
    assert found == get(server, "/.well-known/oauth-authorization-server")
    assert found["issuer"] == server.url
    assert found["request_uri_parameter_supported"] is False
    for name, address in found.items():
        if name.endswith(("_endpoint", "jwks_uri")):
            assert address.startswith(server.url)
            assert httpx2.get(address, trust_env=False).status_code != 404


def test_jwks_holds_public_parts_with_distinct_kids(server: YimenServer) -> None:
    keys = get(server, "/jwks")["keys"]
    assert {key["alg"] for key in keys} == {"ES256", "RS256"}
    assert len({key["kid"] for key in keys}) == len(keys) >= 4
    assert not any({"d", "p", "q", "dp", "dq", "qi", "k"} & set(key) for key in keys)


def test_keys_rotate_reaches_running_workers_and_old_tokens_stay_good(
    server: YimenServer, citizen: Citizen, rp: Rp
) -> None:
    visitor = Visitor(server.url)
    old = rp.redeem(sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)["code"]).json()["id_token"]
    published = {key["kid"] for key in get(server, "/jwks")["keys"]}
    active = set(server.cli("keys", "rotate")["active"])
    assert active <= published, "a key must be published before it signs"
    deadline = time.time() + 10
    fresh: set[str] = set()
    while time.time() < deadline and len(fresh) < 6:  # several answers in a row, so that every worker is asked
        token = rp.redeem(answer_of(visitor.walk(rp.authorize_url()))["code"]).json()["id_token"]
        kid = header_of(token)["kid"]
        fresh = fresh | {token} if kid in active else set()
    assert len(fresh) == 6
    assert header_of(old)["kid"] in {key["kid"] for key in get(server, "/jwks")["keys"]}
    assert "code" in answer_of(visitor.walk(rp.authorize_url(prompt="none", id_token_hint=old)))


def test_classic_client_needs_no_pkce_and_uses_what_it_sends(
    server: YimenServer, citizen: Citizen, tmp_path: Path
) -> None:
    classic = client_with(server, tmp_path, "--profile", "classic")
    bare = {"code_challenge": None, "code_challenge_method": None}
    visitor = Visitor(server.url)
    answer = sign_in(visitor, classic.authorize_url(**bare), citizen.number, citizen.password)
    assert classic.redeem(answer["code"]).json()["error"] == "invalid_grant", "a verifier without a challenge"
    code = answer_of(visitor.walk(classic.authorize_url(**bare)))["code"]
    data = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT_URI}
    assert classic.post("/token", data).status_code == 200
    code = answer_of(visitor.walk(classic.authorize_url()))["code"]
    assert classic.post("/token", {**data, "code": code}).json()["error"] == "invalid_grant"


def test_public_client_needs_pkce_and_no_secret(server: YimenServer, citizen: Citizen, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"token_endpoint_auth_method": "none"}))
    arguments = ("--name", "公开", "--redirect-uri", REDIRECT_URI, "--metadata", str(tmp_path / "m.json"))
    made = server.cli("client", "add", *arguments)
    assert not made.get("client_secret")
    public = Rp(server.url, made["client_id"], "")
    bare = public.authorize_url(code_challenge=None, code_challenge_method=None)
    assert answer_of(Visitor(server.url).walk(bare))["error"] == "invalid_request"
    answer = sign_in(Visitor(server.url), public.authorize_url(), citizen.number, citizen.password)
    data = {
        "grant_type": "authorization_code",
        "code": answer["code"],
        "redirect_uri": REDIRECT_URI,
        "client_id": public.client_id,
        "code_verifier": public.verifier,
    }
    wrong = public.post("/token", {**data, "client_secret": "x"}, auth=None)
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert public.post("/token", data, auth=None).status_code == 200


def test_secret_in_the_body_works_for_clients_registered_so(
    server: YimenServer, citizen: Citizen, rp: Rp, tmp_path: Path
) -> None:
    posting = client_with(server, tmp_path, token_endpoint_auth_method="client_secret_post")
    answer = sign_in(Visitor(server.url), posting.authorize_url(), citizen.number, citizen.password)
    data = {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": REDIRECT_URI}
    data |= {"code_verifier": posting.verifier}
    assert posting.post("/token", data).json()["error"] == "invalid_client", "registered for another method"
    secret = {"client_id": posting.client_id, "client_secret": posting.client_secret}
    assert posting.post("/token", {**data, **secret}, auth=None).status_code == 200
    twice = rp.post("/token", {**data, "client_id": rp.client_id, "client_secret": rp.client_secret})
    assert twice.json()["error"] == "invalid_request"


def test_es256_is_used_where_it_is_registered(server: YimenServer, citizen: Citizen, tmp_path: Path) -> None:
    modern = client_with(server, tmp_path, id_token_signed_response_alg="ES256")
    answer = sign_in(Visitor(server.url), modern.authorize_url(), citizen.number, citizen.password)
    assert header_of(modern.redeem(answer["code"]).json()["id_token"])["alg"] == "ES256"


def test_suspended_client_is_out_at_once(server: YimenServer, citizen: Citizen, tmp_path: Path) -> None:
    doomed = client_with(server, tmp_path)
    visitor = Visitor(server.url)
    answer = sign_in(visitor, doomed.authorize_url(), citizen.number, citizen.password)
    tokens = doomed.redeem(answer["code"]).json()
    server.cli("client", "suspend", doomed.client_id, "--reason", "test")
    assert doomed.userinfo(tokens["access_token"]).status_code == 401
    assert doomed.refresh(tokens["refresh_token"]).status_code == 401
    assert visitor.walk(doomed.authorize_url()).status_code == 400


def test_login_hint_and_language_come_from_the_request(server: YimenServer, rp: Rp) -> None:
    visitor = Visitor(server.url)
    page = visitor.walk(rp.authorize_url(login_hint="demo-hint", ui_locales="se en"))
    assert visitor.seen.forms["login-form"].fields["identifier"] == "demo-hint"
    assert 'lang="en"' in page.text
    assert "Sign in" in page.text
    page = Visitor(server.url).walk(rp.authorize_url(ui_locales="xx-YY", display="touch", claims_locales="se"))
    assert 'lang="zh-CN"' in page.text


def test_unknown_parameters_never_break_a_login(citizen: Citizen, rp: Rp) -> None:
    url = rp.authorize_url(acr_values="urn:unknown", display="popup", extra="1", nonce="n" * 64, state="s" * 500)
    answer = sign_in(Visitor(citizen.server.url), url, citizen.number, citizen.password)
    assert answer["state"] == "s" * 500
    assert claims_of(rp.redeem(answer["code"]).json()["id_token"])["nonce"] == "n" * 64


def test_identity_number_needs_a_legal_basis(server: YimenServer, citizen: Citizen, tmp_path: Path) -> None:
    asking = client_with(server, tmp_path)
    url = asking.authorize_url(scope="openid identity_number")
    answer = sign_in(Visitor(server.url), url, citizen.number, citizen.password)
    tokens = asking.redeem(answer["code"]).json()
    assert tokens["scope"] == "openid"
    assert citizen.number not in asking.userinfo(tokens["access_token"]).text
    server.cli("client", "grant", asking.client_id, "--scope", "identity_number", "--legal-basis", "条例第一条")
    answer = sign_in(
        Visitor(server.url), asking.authorize_url(scope="openid identity_number"), citizen.number, citizen.password
    )
    info = asking.userinfo(asking.redeem(answer["code"]).json()["access_token"]).json()
    assert info["identity_number"] == citizen.number


def test_log_of_the_server_holds_no_number_secret_or_code(citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    visitor.walk("/login")
    visitor.submit("login-form", identifier=citizen.number, password="wrong " + citizen.password)
    answer = sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)
    tokens = rp.redeem(answer["code"]).json()
    log = citizen.server.log.read_text()
    assert '"request_id"' in log
    assert "uvicorn.access" not in log
    assert "interaction=" not in log
    told = [tokens[name] for name in ("access_token", "refresh_token", "id_token")]
    person = [citizen.number, citizen.name, citizen.password]
    for secret in (*person, answer["code"], rp.client_secret, *told, *visitor.cookies.values()):
        assert secret not in log
        assert base64.b64encode(secret.encode()).decode() not in log


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_told(server: YimenServer, path: str) -> None:
    assert "status" in get(server, path)
