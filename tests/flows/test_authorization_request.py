"""Cases B and C: what a client may ask for, and what a stranger who sends somebody a link cannot bring about."""

import httpx2
import pytest

from tests.support.citizen import Citizen, add_client
from tests.support.servers import YimenServer
from tests.support.visitor import Rp, Visitor, answer_of, sign_in


@pytest.fixture
def visitor(citizen: Citizen, rp: Rp) -> Visitor:
    """Somebody who is signed in and has agreed."""
    made = Visitor(citizen.server.url)
    sign_in(made, rp.authorize_url(), citizen.number, citizen.password)
    return made


@pytest.mark.parametrize("kind", ["token", "id_token token", "code token", "code id_token", "none", "code code", "x"])
def test_response_type_other_than_code_puts_no_token_into_an_address(visitor: Visitor, rp: Rp, kind: str) -> None:
    location = visitor.walk(rp.authorize_url(response_type=kind)).headers["location"]
    assert "error=unsupported_response_type" in location
    assert "#" not in location
    assert not {"token", "code", "id_token"} & set(answer_of(visitor.walk(rp.authorize_url(response_type=kind))))


def test_silent_request_of_a_stranger_shows_nothing_and_sets_no_session(server: YimenServer, rp: Rp) -> None:
    stranger = Visitor(server.url)
    assert answer_of(stranger.walk(rp.authorize_url(prompt="none")))["error"] == "login_required"
    assert not stranger.cookies


SCOPES = ["openid " * 100, "openid " + " ".join(f"s{i}" for i in range(2_000)), "openid " + "x" * 60_000, "openid\x00",
          "openid\nprofile", "openid,profile", "openid 姓名", "openid\u00a0profile"]  # fmt: skip


@pytest.mark.parametrize("scope", SCOPES, ids=range(len(SCOPES)))
def test_scope_without_measure_or_sense_has_a_bounded_answer(
    citizen: Citizen, visitor: Visitor, rp: Rp, scope: str
) -> None:
    """Refused, or cut down to what the client may have; never kept as it came."""
    answer = visitor.walk(rp.authorize_url(scope=scope))
    assert answer.status_code in (303, 400, 431)
    assert len(answer.content) <= 2_048
    if "code=" in answer.headers.get("location", ""):
        assert rp.redeem(answer_of(answer)["code"]).json()["scope"] == "openid"
    tokens = rp.redeem(answer_of(visitor.walk(rp.authorize_url()))["code"]).json()
    response = rp.refresh(tokens["refresh_token"], scope=scope)
    assert response.status_code == 400 or response.json()["scope"] == "openid"
    assert len(response.content) <= 2_048 or response.status_code == 200


def test_link_of_a_stranger_leads_to_a_question_that_names_the_client(visitor: Visitor, server: YimenServer) -> None:
    unknown = add_client(server, "陌生系统", redirect_uri="https://stranger.example.test/cb")
    page = visitor.walk(unknown.authorize_url(state="of the attacker"))
    assert "consent-form" in visitor.seen.forms
    assert "陌生系统" in page.text
    assert "stranger.example.test" in page.text
    assert answer_of(visitor.walk(unknown.authorize_url(prompt="none")))["error"] == "consent_required"


def test_consent_with_the_value_of_another_form_is_refused(server: YimenServer, new_citizen: Citizen, rp: Rp) -> None:
    one, two = Visitor(server.url), Visitor(server.url)
    for visitor in (one, two):
        visitor.walk(rp.authorize_url())
        visitor.submit("login-form", identifier=new_citizen.number, password=new_citizen.password)
    of_another_session = two.seen.forms["consent-form"].fields["csrf"]
    of_an_older_request = one.seen.forms["consent-form"].fields["csrf"]
    page = one.walk(rp.authorize_url())
    for value in (of_another_session, of_an_older_request):
        one.page = page
        assert one.submit("consent-form", "consent-approve", csrf=value).status_code == 403
    assert answer_of(one.walk(rp.authorize_url(prompt="none")))["error"] == "consent_required"


def test_other_origins_are_never_let_in(server: YimenServer, rp: Rp) -> None:
    headers = {"origin": "https://evil.test"}
    for path in (
        "/authorize",
        "/login",
        "/consent",
        "/token",
        "/userinfo",
        "/jwks",
        "/.well-known/openid-configuration",
    ):
        for method in ("GET", "POST", "OPTIONS"):
            response = httpx2.request(method, server.url + path, headers=headers, trust_env=False)
            assert response.headers.get("access-control-allow-origin") in (None, "*")
            assert "access-control-allow-credentials" not in response.headers
            if path in ("/authorize", "/login", "/consent"):
                assert "access-control-allow-origin" not in response.headers


def test_code_with_a_challenge_needs_its_verifier(citizen: Citizen, visitor: Visitor, rp: Rp) -> None:
    for verifier in ("", "x" * 42, "x" * 129, "\u4f60" * 43):
        code = answer_of(visitor.walk(rp.authorize_url()))["code"]
        response = rp.redeem(code, code_verifier=verifier)
        assert (response.status_code, response.json()["error"]) in ((400, "invalid_grant"), (400, "invalid_request"))
    code = answer_of(visitor.walk(rp.authorize_url()))["code"]
    data = {"grant_type": "authorization_code", "code": code, "redirect_uri": rp.redirect_uri}
    assert rp.post("/token", data).json()["error"] in ("invalid_grant", "invalid_request")


def test_verifier_without_a_challenge_is_refused(server: YimenServer, citizen: Citizen) -> None:
    old = add_client(server, "旧", "--profile", "classic")
    url = old.authorize_url(code_challenge=None, code_challenge_method=None)
    visitor = Visitor(server.url)
    code = sign_in(visitor, url, citizen.number, citizen.password)["code"]
    assert old.redeem(code).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("method", ["", "S512", "plain", "s256", " S256"])
def test_challenge_method_other_than_s256_is_refused(rp: Rp, visitor: Visitor, method: str) -> None:
    assert answer_of(visitor.walk(rp.authorize_url(code_challenge_method=method)))["error"] == "invalid_request"
