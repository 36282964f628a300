"""From the authorization request to tokens, userinfo, refresh and revocation, over HTTP on both store set-ups."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.citizen import Citizen, add_client
from tests.support.servers import YimenServer
from tests.support.visitor import REDIRECT_URI, Rp, Visitor, answer_of, sign_in


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def tokens_of(citizen: Citizen, rp: Rp, **changes: str | None) -> dict[str, Any]:
    answer = sign_in(Visitor(citizen.server.url), rp.authorize_url(**changes), citizen.number, citizen.password)
    response = rp.redeem(answer["code"])
    assert response.status_code == 200, response.text
    tokens: dict[str, Any] = response.json()
    return tokens


def test_code_flow_gives_tokens_and_userinfo(citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    answer = sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)
    assert answer["iss"] == citizen.server.url
    assert answer["state"] == "st-1"
    response = rp.redeem(answer["code"])
    tokens = response.json()
    assert response.headers["cache-control"] == "no-store"
    assert tokens["token_type"] == "Bearer"
    claims = claims_of(tokens["id_token"])
    assert claims["nonce"] == "n-1"
    assert claims["acr"] == "urn:yimen:loa:3"
    assert claims["amr"] == ["pwd"]
    assert abs(claims["auth_time"] - time.time()) < 30
    info = rp.userinfo(tokens["access_token"]).json()
    assert info["sub"] == claims["sub"]
    assert info["name"] == citizen.name
    assert citizen.number not in json.dumps(info) + tokens["id_token"]


def test_code_flow_shows_login_consent_and_then_nothing(citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)
    silent = answer_of(visitor.walk(rp.authorize_url(prompt="none")))
    assert "code" in silent
    again = answer_of(visitor.walk(rp.authorize_url()))
    assert "code" in again


def test_second_client_needs_no_second_login(new_citizen: Citizen, rp: Rp, other_rp: Rp) -> None:
    visitor = Visitor(new_citizen.server.url)
    sign_in(visitor, rp.authorize_url(), new_citizen.number, new_citizen.password)
    visitor.walk(other_rp.authorize_url())
    assert "consent-form" in visitor.seen.forms
    assert "login-form" not in visitor.seen.forms
    one = answer_of(visitor.submit("consent-form", "consent-approve"))
    first = claims_of(rp.redeem(answer_of(visitor.walk(rp.authorize_url()))["code"]).json()["id_token"])
    second = claims_of(other_rp.redeem(one["code"]).json()["id_token"])
    assert first["sub"] != second["sub"]
    assert first["auth_time"] == second["auth_time"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code code"}, "unsupported_response_type"),
        ({"response_type": '"'}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": "s256"}, "invalid_request"),
        ({"code_challenge_method": "S512"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "1e3"}, "invalid_request"),
        ({"scope": "unknown"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"request": "x"}, "request_not_supported"),
        ({"request_uri": "http://169.254.169.254/"}, "request_uri_not_supported"),
        ({"prompt": "none"}, "login_required"),
    ],
)
def test_authorize_faulty_request_is_told_by_redirect(
    server: YimenServer, rp: Rp, changes: dict[str, str | None], error: str
) -> None:
    answer = answer_of(Visitor(server.url).walk(rp.authorize_url(**changes)))
    assert answer["error"] == error
    assert answer["state"] == "st-1"
    assert answer["iss"] == server.url
    assert set(answer) == {"error", "error_description", "state", "iss"}


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "https://evil.test/cb"},
        {"redirect_uri": None},
        {"redirect_uri": REDIRECT_URI + "/"},
        {"redirect_uri": "https://rp.example.test/cb\u00e9"},
        {"redirect_uri": 'https://rp.example.test/"'},
        {"client_id": "unknown"},
        {"client_id": None},
        {"client_id": "\u4f60"},
    ],
)
def test_authorize_wrong_client_or_address_is_shown_and_never_redirected(
    server: YimenServer, rp: Rp, changes: dict[str, str | None]
) -> None:
    visitor = Visitor(server.url)
    response = visitor.walk(rp.authorize_url(**changes))
    assert response.status_code == 400
    assert "location" not in response.headers
    assert visitor.seen.texts["error-code"] == "invalid_request"
    assert {"error-page", "error-trace-id"} <= visitor.seen.ids


@pytest.mark.parametrize("name", ["client_id", "redirect_uri", "state", "scope", "nonce", "response_type", "foo"])
def test_authorize_repeated_parameter_is_refused(server: YimenServer, rp: Rp, name: str) -> None:
    twice = f"&{name}=a&{name}=a" if name == "foo" else f"&{name}=a"
    response = Visitor(server.url).walk(rp.authorize_url() + twice)
    assert response.status_code == 400
    assert "location" not in response.headers


def test_authorize_by_post_leads_to_the_login_page(citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    address, _, query = rp.authorize_url().partition("?")
    headers = {"content-type": "application/x-www-form-urlencoded"}
    visitor.walk(address, "POST", content=query.encode(), headers=headers)
    assert "login-form" in visitor.seen.forms


def test_consent_denied_is_told(new_citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(new_citizen.server.url)
    visitor.walk(rp.authorize_url())
    visitor.submit("login-form", identifier=new_citizen.number, password=new_citizen.password)
    answer = answer_of(visitor.submit("consent-form", "consent-deny"))
    assert answer["error"] == "access_denied"
    assert answer["state"] == "st-1"


def test_consent_without_its_form_value_is_refused(new_citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(new_citizen.server.url)
    visitor.walk(rp.authorize_url())
    visitor.submit("login-form", identifier=new_citizen.number, password=new_citizen.password)
    assert "consent-form" in visitor.seen.forms
    page = visitor.page
    for csrf in ("", "x" * 64):
        visitor.page = page
        assert visitor.submit("consent-form", "consent-approve", csrf=csrf).status_code == 403
    assert answer_of(Visitor(new_citizen.server.url).walk(rp.authorize_url(prompt="none")))["error"] == "login_required"
    assert answer_of(visitor.walk(rp.authorize_url(prompt="none")))["error"] == "consent_required"


def test_interaction_of_another_browser_is_refused(citizen: Citizen, rp: Rp) -> None:
    victim, thief = Visitor(citizen.server.url), Visitor(citizen.server.url)
    page = victim.walk(rp.authorize_url())
    assert thief.walk(str(page.url)).status_code == 400
    assert thief.seen.texts["error-code"] == "interaction_expired"


def test_code_used_twice_revokes_what_it_gave(citizen: Citizen, rp: Rp) -> None:
    answer = sign_in(Visitor(citizen.server.url), rp.authorize_url(), citizen.number, citizen.password)
    tokens = rp.redeem(answer["code"]).json()
    assert rp.userinfo(tokens["access_token"]).status_code == 200
    again = rp.redeem(answer["code"])
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert rp.userinfo(tokens["access_token"]).status_code == 401
    assert rp.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_code_with_wrong_verifier_is_burnt(citizen: Citizen, rp: Rp) -> None:
    answer = sign_in(Visitor(citizen.server.url), rp.authorize_url(), citizen.number, citizen.password)
    right = rp.verifier
    assert rp.redeem(answer["code"], code_verifier="x" * 43).json()["error"] == "invalid_grant"
    assert rp.redeem(answer["code"], code_verifier=right).json()["error"] == "invalid_grant"


def test_code_of_another_client_stays_usable_by_its_owner(citizen: Citizen, rp: Rp, other_rp: Rp) -> None:
    answer = sign_in(Visitor(citizen.server.url), rp.authorize_url(), citizen.number, citizen.password)
    other_rp.verifier = rp.verifier
    assert other_rp.redeem(answer["code"]).json()["error"] == "invalid_grant"
    assert rp.redeem(answer["code"]).status_code == 200


def test_code_redeemed_by_fifty_at_once_gives_one_family(citizen: Citizen, rp: Rp) -> None:
    for _ in range(3):
        answer = sign_in(Visitor(citizen.server.url), rp.authorize_url(), citizen.number, citizen.password)
        with ThreadPoolExecutor(50) as pool:
            found = list(pool.map(lambda _, code=answer["code"]: rp.redeem(code), range(50)))
        assert [answer.status_code for answer in found].count(200) == 1
        assert {answer.json()["error"] for answer in found if answer.status_code != 200} == {"invalid_grant"}


def test_refresh_by_fifty_at_once_gives_one_child(citizen: Citizen, rp: Rp) -> None:
    parent = tokens_of(citizen, rp)["refresh_token"]
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda _: rp.refresh(parent), range(50)))
    assert {answer.status_code for answer in found} == {200}
    assert len({answer.json()["refresh_token"] for answer in found}) == 1
    assert rp.refresh(found[0].json()["refresh_token"]).status_code == 200


def test_refresh_keeps_the_login_context(citizen: Citizen, rp: Rp) -> None:
    tokens = tokens_of(citizen, rp)
    renewed = rp.refresh(tokens["refresh_token"]).json()
    old, new = claims_of(tokens["id_token"]), claims_of(renewed["id_token"])
    for name in ("iss", "sub", "aud", "auth_time", "nonce", "acr", "amr", "sid"):
        assert new[name] == old[name]
    assert renewed["refresh_token"] != tokens["refresh_token"]


def test_refresh_of_a_grandparent_revokes_the_family(citizen: Citizen, rp: Rp) -> None:
    first = tokens_of(citizen, rp)
    second = rp.refresh(first["refresh_token"]).json()
    third = rp.refresh(second["refresh_token"]).json()
    assert rp.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
    assert rp.refresh(third["refresh_token"]).json()["error"] == "invalid_grant"
    assert rp.userinfo(third["access_token"]).status_code == 401


def test_refresh_scope_narrows_and_never_widens(citizen: Citizen, rp: Rp) -> None:
    tokens = tokens_of(citizen, rp)
    narrow = rp.refresh(tokens["refresh_token"], scope="openid").json()
    assert narrow["scope"] == "openid"
    assert set(rp.userinfo(narrow["access_token"]).json()) == {"sub"}
    wide = rp.refresh(narrow["refresh_token"], scope="openid phone")
    assert (wide.status_code, wide.json()["error"]) == (400, "invalid_scope")


def test_refresh_by_another_client_is_refused(citizen: Citizen, rp: Rp, other_rp: Rp) -> None:
    tokens = tokens_of(citizen, rp)
    answer = other_rp.refresh(tokens["refresh_token"])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert rp.refresh(tokens["refresh_token"]).status_code == 200


def test_revoked_refresh_token_takes_its_access_tokens_along(citizen: Citizen, rp: Rp) -> None:
    tokens = tokens_of(citizen, rp)
    for _ in range(2):
        answer = rp.post("/revoke", {"token": tokens["refresh_token"], "token_type_hint": "nonsense"})
        assert answer.status_code == 200
    assert rp.userinfo(tokens["access_token"]).status_code == 401
    assert rp.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_revoked_access_token_leaves_the_rest_alone(citizen: Citizen, rp: Rp, other_rp: Rp) -> None:
    tokens = tokens_of(citizen, rp)
    assert other_rp.post("/revoke", {"token": tokens["access_token"]}).status_code == 200
    assert rp.userinfo(tokens["access_token"]).status_code == 200
    assert rp.post("/revoke", {"token": tokens["access_token"]}).status_code == 200
    assert rp.userinfo(tokens["access_token"]).status_code == 401
    assert rp.refresh(tokens["refresh_token"]).status_code == 200


def test_locked_account_loses_sessions_and_tokens_at_once(server: YimenServer, new_citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(server.url)
    answer = sign_in(visitor, rp.authorize_url(), new_citizen.number, new_citizen.password)
    tokens = rp.redeem(answer["code"]).json()
    server.cli("person", "lock", new_citizen.account, "--reason", "test")
    assert rp.userinfo(tokens["access_token"]).status_code == 401
    assert rp.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert answer_of(visitor.walk(rp.authorize_url(prompt="none")))["error"] == "login_required"


@pytest.mark.parametrize(
    ("options", "status", "error"),
    [
        ({"auth": None}, 401, "invalid_client"),
        ({"auth": ("unknown", "x")}, 401, "invalid_client"),
        ({"auth": None, "headers": {"authorization": "Basic /////w=="}}, 401, "invalid_client"),
        ({"auth": None, "headers": {"authorization": "Basic %%%"}}, 401, "invalid_client"),
        ({"headers": {"content-type": "application/json"}}, 400, "invalid_request"),
        ({"params": {"code": "x"}}, 400, "invalid_request"),
    ],
)
def test_token_wrong_authentication_is_refused(rp: Rp, options: dict[str, Any], status: int, error: str) -> None:
    response = rp.post("/token", {"grant_type": "authorization_code", "code": "x"}, **options)
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert ("www-authenticate" in response.headers) == (status == 401)
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": '"'}, "unsupported_grant_type"),
        ({"code": "x"}, "invalid_request"),
        ({"grant_type": "authorization_code"}, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "x"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "x" * 5000}, "invalid_grant"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
    ],
)
def test_token_faulty_request_is_refused(rp: Rp, data: dict[str, str], error: str) -> None:
    response = rp.post("/token", data)
    assert (response.status_code, response.json()["error"]) == (400, error)


def test_token_by_get_is_refused(server: YimenServer) -> None:
    response = httpx2.get(f"{server.url}/token", trust_env=False)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


def test_userinfo_by_every_allowed_way(citizen: Citizen, rp: Rp) -> None:
    token = tokens_of(citizen, rp)["access_token"]
    address = f"{citizen.server.url}/userinfo"
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"authorization": f"{scheme} {token}"}
        assert httpx2.get(address, headers=headers, trust_env=False).status_code == 200
        assert httpx2.post(address, headers=headers, trust_env=False).status_code == 200
    assert httpx2.post(address, data={"access_token": token}, trust_env=False).status_code == 200
    assert httpx2.get(address, params={"access_token": token}, trust_env=False).status_code == 400
    bare = httpx2.get(address, trust_env=False)
    assert (bare.status_code, bare.headers["www-authenticate"]) == (401, 'Bearer realm="yimen"')


def test_userinfo_other_kinds_of_token_are_refused(citizen: Citizen, rp: Rp) -> None:
    tokens = tokens_of(citizen, rp)
    for token in (tokens["id_token"], tokens["refresh_token"], tokens["access_token"][:-4], "x", "." * 8_000):
        answer = rp.userinfo(token)
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_max_age_and_prompt_login_ask_again(citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)
    for changes in ({"prompt": "login"}, {"max_age": "0"}):
        time.sleep(1.1)
        visitor.walk(rp.authorize_url(**changes))
        assert "login-form" in visitor.seen.forms
        old = visitor.cookies["__Host-yimen_session"]
        answer = answer_of(visitor.submit("login-form", identifier=citizen.number, password=citizen.password))
        assert visitor.cookies["__Host-yimen_session"] != old
        claims = claims_of(rp.redeem(answer["code"]).json()["id_token"])
        assert claims["auth_time"] >= time.time() - 2


def test_id_token_hint_of_another_person_is_refused(citizen: Citizen, new_citizen: Citizen, rp: Rp) -> None:
    foreign = tokens_of(new_citizen, rp)["id_token"]
    visitor = Visitor(citizen.server.url)
    answer = sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)
    own = rp.redeem(answer["code"]).json()["id_token"]
    assert "code" in answer_of(visitor.walk(rp.authorize_url(prompt="none", id_token_hint=own)))
    for hint in (foreign, own[:-6] + "AAAAAA", "x"):
        found = answer_of(visitor.walk(rp.authorize_url(prompt="none", id_token_hint=hint)))
        assert found["error"] == "login_required"


def test_request_prepared_by_another_person_gives_nothing(citizen: Citizen, new_citizen: Citizen, rp: Rp) -> None:
    """An attacker posts a request, walks it as far as he can as himself, and lures a signed-in victim to its end."""
    victim, attacker = Visitor(citizen.server.url), Visitor(citizen.server.url)
    sign_in(victim, rp.authorize_url(scope="openid"), citizen.number, citizen.password)
    address, _, query = rp.authorize_url(prompt="login consent").partition("?")
    headers = {"content-type": "application/x-www-form-urlencoded"}
    paused = attacker.send("POST", address, content=query.encode(), headers=headers).headers["location"]
    name = paused.rpartition("=")[2]
    attacker.walk(f"/login?interaction={name}")
    assert attacker.seen.texts["error-code"] == "interaction_expired"
    victim.walk(paused)
    assert "login-form" in victim.seen.forms


def test_progress_of_one_person_is_nothing_to_the_next(citizen: Citizen, new_citizen: Citizen, rp: Rp) -> None:
    """A kiosk: one person agrees and leaves, the next signs in and opens the first one's request."""
    visitor = Visitor(citizen.server.url)
    page = visitor.walk(rp.authorize_url(prompt="login consent"))
    name = str(page.url).rpartition("=")[2]
    visitor.submit("login-form", identifier=citizen.number, password=citizen.password)
    form = visitor.seen.forms["consent-form"]
    visitor.send("POST", f"{visitor.base}/consent", data={**form.fields, "decision": "approve"})
    visitor.walk("/logout")
    visitor.submit("logout-form", "logout-confirm")
    visitor.walk("/login")
    visitor.submit("login-form", identifier=new_citizen.number, password=new_citizen.password)
    visitor.walk(f"/authorize/continue?interaction={name}")
    assert "login-form" in visitor.seen.forms


def test_head_of_an_address_that_acts_is_refused(citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)
    for address in (rp.authorize_url(), f"{visitor.base}/authorize/continue", f"{visitor.base}/logout"):
        assert visitor.send("HEAD", address).status_code == 405


def test_offline_access_needs_the_refresh_grant(server: YimenServer, citizen: Citizen, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"grant_types": ["authorization_code"]}))
    brief = add_client(server, "短", "--metadata", str(tmp_path / "m.json"))
    answer = sign_in(Visitor(server.url), brief.authorize_url(), citizen.number, citizen.password)
    tokens = brief.redeem(answer["code"]).json()
    assert "refresh_token" not in tokens
    assert "offline_access" not in tokens["scope"]


@pytest.mark.parametrize("body", [b"%E4%B8%AD=1", b"a%0d%0aSet-Cookie:%20x=1", b"a%20b=1", b"id_token_hint=x&a=1"])
def test_logout_by_foreign_form_is_never_a_server_error(server: YimenServer, body: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    response = httpx2.post(f"{server.url}/logout", content=body, headers=headers, trust_env=False)
    assert response.status_code in (303, 400)
    assert "a=1" not in response.headers.get("location", "")
