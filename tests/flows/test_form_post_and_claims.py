"""form_post, claims and levels over the wire (OIDC Core 5.5, Form Post Response Mode; security.md B04, B12)."""

import base64
import hashlib
import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.support.citizen import Citizen
from tests.support.visitor import Rp, Visitor, answer_of, sign_in

LOA = "urn:yimen:loa:"


def claims_of(id_token: str) -> dict[str, Any]:
    body = id_token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def signed_in(citizen: Citizen, rp: Rp, **changes: str) -> Visitor:
    visitor = Visitor(citizen.server.url)
    sign_in(visitor, rp.authorize_url(**changes), citizen.number, citizen.password)
    return visitor


# --- form_post


def test_form_post_answer_travels_in_a_form_that_leads_nowhere_else(citizen: Citizen, rp: Rp) -> None:
    visitor = signed_in(citizen, rp)
    answer = visitor.walk(rp.authorize_url(response_mode="form_post", state='a"<b>&'))
    assert answer.status_code == 200
    form = visitor.seen.forms["response-form"]
    assert (form.action, form.method) == (rp.redirect_uri, "post")
    assert set(form.fields) == {"code", "state", "iss"}
    assert form.fields["state"] == 'a"<b>&'
    [script] = re.findall(r"<script>(.*?)</script>", answer.text)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert f"script-src 'sha256-{digest}'" in policy
    assert "form-action https://rp.example.test;" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert rp.redeem(form.fields["code"]).status_code == 200


def test_form_post_after_login_and_consent_pages(citizen: Citizen, other_rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    visitor.walk(other_rp.authorize_url(response_mode="form_post"))
    visitor.submit("login-form", identifier=citizen.number, password=citizen.password)
    if "consent-form" in visitor.seen.forms:
        visitor.submit("consent-form", "consent-approve")
    assert "code" in visitor.seen.forms["response-form"].fields


def test_form_post_error_has_state_and_iss(citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    visitor.walk(rp.authorize_url(response_mode="form_post", prompt="none"))
    fields = visitor.seen.forms["response-form"].fields
    assert fields["error"] == "login_required"
    assert set(fields) == {"error", "error_description", "state", "iss"}


def test_form_post_by_post_request(citizen: Citizen, rp: Rp) -> None:
    visitor = signed_in(citizen, rp)
    address, _, query = rp.authorize_url(response_mode="form_post").partition("?")
    visitor.walk(address, "POST", content=query, headers={"content-type": "application/x-www-form-urlencoded"})
    assert "code" in visitor.seen.forms["response-form"].fields


@pytest.mark.parametrize("mode", ["fragment", "FORM_POST", "jwt"])
def test_unknown_response_mode_is_refused_by_redirect(citizen: Citizen, rp: Rp, mode: str) -> None:
    answer = sign_in(Visitor(citizen.server.url), rp.authorize_url(response_mode=mode), "", "")
    assert answer["error"] == "invalid_request"


def test_form_post_reaches_the_relying_party_in_chromium(citizen: Citizen, rp: Rp, page: Page) -> None:
    """The script sends the form by itself."""
    sent: list[dict[str, str]] = []

    def answer(route: Any) -> None:
        request = route.request
        sent.append({"method": request.method, "body": request.post_data or ""})
        route.fulfill(status=200, body="arrived", content_type="text/html")

    page.route("https://rp.example.test/**", answer)
    page.goto(rp.authorize_url(response_mode="form_post"))
    page.fill("#login-identifier", citizen.number)
    page.fill("#login-password", citizen.password)
    page.click("#login-submit")
    page.wait_for_load_state()
    if page.locator("#consent-approve").count():
        page.click("#consent-approve")
    page.wait_for_url("https://rp.example.test/**")
    assert sent[0]["method"] == "POST"
    assert "code=" in sent[0]["body"]


# --- claims


def test_claims_named_one_by_one_come_where_they_were_asked_for(citizen: Citizen, rp: Rp) -> None:
    wanted = json.dumps({"userinfo": {"email": {"essential": True}}, "id_token": {"legal_name": None}})
    visitor = Visitor(citizen.server.url)
    given = sign_in(visitor, rp.authorize_url(scope="openid", claims=wanted), citizen.number, citizen.password)
    token = rp.redeem(given["code"]).json()
    id_token = claims_of(token["id_token"])
    assert id_token["legal_name"] == citizen.name
    assert "email" not in id_token
    known = rp.userinfo(token["access_token"]).json()
    assert known["email"] == "zhang@example.test"
    assert set(known) == {"sub", "email"}


def test_claims_survive_a_refresh(citizen: Citizen, rp: Rp) -> None:
    wanted = json.dumps({"id_token": {"legal_name": None}})
    visitor = Visitor(citizen.server.url)
    url = rp.authorize_url(scope="openid offline_access", claims=wanted)
    token = rp.redeem(sign_in(visitor, url, citizen.number, citizen.password)["code"]).json()
    again = rp.refresh(token["refresh_token"]).json()
    assert claims_of(again["id_token"])["legal_name"] == citizen.name


def test_claims_show_on_the_consent_page_and_are_not_given_without_it(citizen: Citizen, other_rp: Rp) -> None:
    wanted = json.dumps({"userinfo": {"phone_number": None}})
    visitor = Visitor(citizen.server.url)
    visitor.walk(other_rp.authorize_url(scope="openid", claims=wanted, prompt="consent"))
    visitor.submit("login-form", identifier=citizen.number, password=citizen.password)
    assert visitor.page is not None
    assert "174****5678" in visitor.page.text
    denied = sign_in_denied(visitor)
    assert denied["error"] == "access_denied"
    fresh = Visitor(citizen.server.url)
    fresh.cookies = dict(visitor.cookies)
    silent = sign_in(fresh, other_rp.authorize_url(scope="openid", claims=wanted, prompt="none"), "", "")
    assert silent["error"] == "consent_required"


def sign_in_denied(visitor: Visitor) -> dict[str, str]:
    return answer_of(visitor.submit("consent-form", "consent-deny"))


def test_guarded_claim_is_not_given_without_a_legal_basis(citizen: Citizen, rp: Rp) -> None:
    wanted = json.dumps({"userinfo": {"identity_number": {"essential": True}}, "id_token": {"identity_number": None}})
    url = rp.authorize_url(scope="openid", claims=wanted)
    token = rp.redeem(sign_in(Visitor(citizen.server.url), url, citizen.number, citizen.password)["code"]).json()
    assert "identity_number" not in claims_of(token["id_token"])
    assert set(rp.userinfo(token["access_token"]).json()) == {"sub"}


@pytest.mark.parametrize("claims", ["[]", "{", '{"userinfo": 1}', "x" * 5_000])
def test_malformed_claims_are_told_by_redirect(citizen: Citizen, rp: Rp, claims: str) -> None:
    answer = sign_in(Visitor(citizen.server.url), rp.authorize_url(claims=claims), "", "")
    assert answer["error"] == "invalid_request"
    assert claims not in answer["error_description"]


# --- levels


def acr_of(citizen: Citizen, rp: Rp, **changes: str) -> str:
    given = sign_in(Visitor(citizen.server.url), rp.authorize_url(**changes), citizen.number, citizen.password)
    return str(claims_of(rp.redeem(given["code"]).json()["id_token"])["acr"])


def test_acr_is_one_of_the_wished_values_where_that_is_true(citizen: Citizen, rp: Rp) -> None:
    assert acr_of(citizen, rp) == f"{LOA}3"
    assert acr_of(citizen, rp, acr_values=f"{LOA}2") == f"{LOA}2"
    assert acr_of(citizen, rp, acr_values=f"{LOA}5 {LOA}3") == f"{LOA}3"
    assert acr_of(citizen, rp, acr_values="urn:unknown 1 2") == f"{LOA}3"


def test_essential_level_that_nobody_reaches_is_refused_by_its_own_error(citizen: Citizen, rp: Rp) -> None:
    wanted = json.dumps({"id_token": {"acr": {"essential": True, "values": [f"{LOA}5"]}}})
    answer = sign_in(Visitor(citizen.server.url), rp.authorize_url(claims=wanted), citizen.number, citizen.password)
    assert answer["error"] == "unmet_authentication_requirements"


def test_subject_named_by_claim_must_be_the_one_who_signs_in(citizen: Citizen, rp: Rp) -> None:
    wanted = json.dumps({"id_token": {"sub": {"value": "somebody-else"}}})
    answer = sign_in(Visitor(citizen.server.url), rp.authorize_url(claims=wanted), citizen.number, citizen.password)
    assert answer["error"] == "login_required"
