"""Acting for an organization, and leaving everything at once."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest

from tests.flows.test_code_flow import claims_of
from tests.support.citizen import Citizen, add_citizen, add_client
from tests.support.servers import YimenServer
from tests.support.visitor import Rp, Visitor, answer_of, sign_in

OUT = "https://rp.example.test/out"
ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def credit_code(order: int) -> str:
    """A well-formed unified social credit code (GB 32100)."""
    organ = f"MA{order:06d}"
    weights = (3, 7, 9, 10, 5, 8, 4, 2)
    digit = (11 - sum(int(sign, 36) * weight for sign, weight in zip(organ, weights, strict=True)) % 11) % 11
    body = f"91440101{organ}{'X' if digit == 10 else digit}"
    total = sum(ALPHABET.index(sign) * pow(3, i, 31) for i, sign in enumerate(body))
    return body + ALPHABET[(31 - total % 31) % 31]


def add_company(server: YimenServer, citizen: Citizen, order: int) -> str:
    server.cli(
        "organization", "add", "--uscc", credit_code(order), "--name", "示例科技有限公司",
        "--legal-representative", citizen.account,
    )  # fmt: skip
    return credit_code(order)


def test_acting_for_a_company_is_in_the_token(server: YimenServer, new_citizen: Citizen, rp: Rp) -> None:
    uscc = add_company(server, new_citizen, int(time.time()) % 999_999)
    visitor = Visitor(server.url)
    visitor.walk(rp.authorize_url(scope="openid organization"))
    visitor.submit("login-form", identifier=new_citizen.number, password=new_citizen.password)
    form = visitor.seen.forms["acting-form"]
    assert "acting_for" not in form.fields, "nothing may be preselected"
    assert "self" in form.radios["acting_for"]
    mandate = next(value for value in form.radios["acting_for"] if value != "self")
    assert visitor.submit("acting-form").status_code == 400
    visitor.submit("acting-form", acting_for=mandate)
    answer = answer_of(visitor.submit("consent-form", "consent-approve"))
    tokens = rp.redeem(answer["code"]).json()
    acting = claims_of(tokens["id_token"])["acting_for"]
    assert (acting["uscc"], acting["name"], acting["mandate"]) == (uscc, "示例科技有限公司", mandate)
    assert acting["role"] == "legal_representative"
    assert rp.userinfo(tokens["access_token"]).json()["acting_for"] == acting
    silent = answer_of(visitor.walk(rp.authorize_url(scope="openid organization", prompt="none")))
    assert claims_of(rp.redeem(silent["code"]).json()["id_token"])["acting_for"]["mandate"] == mandate


def test_acting_under_a_foreign_mandate_is_refused(server: YimenServer, new_citizen: Citizen, rp: Rp) -> None:
    stranger = add_citizen(server)
    add_company(server, stranger, int(time.time()) % 999_999 + 1)
    add_company(server, new_citizen, int(time.time()) % 999_999 + 2)
    foreign, own = Visitor(server.url), Visitor(server.url)
    for visitor, person in ((foreign, stranger), (own, new_citizen)):
        visitor.walk(rp.authorize_url(scope="openid organization"))
        visitor.submit("login-form", identifier=person.number, password=person.password)
    mandate = foreign.seen.forms["acting-form"].radios["acting_for"][-1]
    assert own.submit("acting-form", acting_for=mandate).status_code == 400


def test_organization_tab_signs_in_a_person(server: YimenServer, new_citizen: Citizen, rp: Rp) -> None:
    uscc = add_company(server, new_citizen, int(time.time()) % 999_999 + 3)
    visitor = Visitor(server.url)
    page = visitor.walk(rp.authorize_url(scope="openid organization"))
    visitor.walk(f"{page.url}&kind=org")
    visitor.submit("login-form", identifier=new_citizen.number, password=new_citizen.password, organization=uscc)
    assert "acting-form" in visitor.seen.forms


@pytest.fixture
def leaving_rp(server: YimenServer, tmp_path: Path) -> Rp:
    metadata = tmp_path / "client.json"
    metadata.write_text(json.dumps({"post_logout_redirect_uris": [OUT]}))
    return add_client(server, "退出", "--metadata", str(metadata))


def test_logout_with_a_hint_goes_back_with_state(citizen: Citizen, leaving_rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    answer = sign_in(visitor, leaving_rp.authorize_url(), citizen.number, citizen.password)
    tokens = leaving_rp.redeem(answer["code"]).json()
    parameters = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": OUT, "state": "bye"}
    response = visitor.walk(str(httpx2.URL(f"{citizen.server.url}/logout", params=parameters)))
    assert response.headers["location"] == f"{OUT}?state=bye"
    assert answer_of(visitor.walk(leaving_rp.authorize_url(prompt="none")))["error"] == "login_required"
    assert leaving_rp.userinfo(tokens["access_token"]).status_code == 200, "offline access outlives the session"


@pytest.mark.parametrize(
    "address", ["https://evil.test/", OUT + "/", OUT + "?x=1", "javascript:alert(1)", "//rp.example.test/out"]
)
def test_logout_to_an_unregistered_address_is_refused(citizen: Citizen, leaving_rp: Rp, address: str) -> None:
    visitor = Visitor(citizen.server.url)
    answer = sign_in(visitor, leaving_rp.authorize_url(), citizen.number, citizen.password)
    hint = leaving_rp.redeem(answer["code"]).json()["id_token"]
    parameters = {"id_token_hint": hint, "post_logout_redirect_uri": address}
    response = visitor.walk(str(httpx2.URL(f"{citizen.server.url}/logout", params=parameters)))
    assert response.status_code == 400
    assert "error-page" in visitor.seen.ids
    assert "code" in answer_of(visitor.walk(leaving_rp.authorize_url(prompt="none")))


@pytest.mark.parametrize("hint", [None, "x", "forged"])
def test_logout_without_a_genuine_hint_asks_and_never_redirects(
    citizen: Citizen, leaving_rp: Rp, hint: str | None
) -> None:
    visitor = Visitor(citizen.server.url)
    answer = sign_in(visitor, leaving_rp.authorize_url(), citizen.number, citizen.password)
    token = leaving_rp.redeem(answer["code"]).json()["id_token"]
    parameters = {"post_logout_redirect_uri": OUT}
    if hint:
        parameters["id_token_hint"] = token[:-8] + "AAAAAAAA" if hint == "forged" else hint
    visitor.walk(str(httpx2.URL(f"{citizen.server.url}/logout", params=parameters)))
    assert "logout-form" in visitor.seen.forms
    visitor.submit("logout-form", "logout-confirm")
    assert "logged-out" in visitor.seen.ids
    assert answer_of(visitor.walk(leaving_rp.authorize_url(prompt="none")))["error"] == "login_required"


def test_logout_cancelled_keeps_the_session(citizen: Citizen, leaving_rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    sign_in(visitor, leaving_rp.authorize_url(), citizen.number, citizen.password)
    visitor.walk("/logout")
    visitor.submit("logout-form", "logout-cancel")
    assert "code" in answer_of(visitor.walk(leaving_rp.authorize_url(prompt="none")))


class Receiver(BaseHTTPRequestHandler):
    """A relying party's address for logout notices: refuses the first, takes the second."""

    got: list[str]
    refusals: int

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.got.append(parse_qs(body)["logout_token"][0])  # type: ignore[attr-defined]
        first = len(self.server.got) == 1  # type: ignore[attr-defined]
        self.send_response(503 if first else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Iterator[HTTPServer]:
    made = HTTPServer(("127.0.0.1", 0), Receiver)
    made.got = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def test_backchannel_notice_is_sent_again_until_taken(
    server: YimenServer, new_citizen: Citizen, receiver: HTTPServer, tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{receiver.server_port}/backchannel"
    (tmp_path / "m.json").write_text(json.dumps({"backchannel_logout_uri": address}))
    told = add_client(server, "收通知", "--metadata", str(tmp_path / "m.json"))
    visitor = Visitor(server.url)
    answer = sign_in(visitor, told.authorize_url(), new_citizen.number, new_citizen.password)
    id_token = claims_of(told.redeem(answer["code"]).json()["id_token"])
    visitor.walk("/logout")
    visitor.submit("logout-form", "logout-confirm")
    deadline = time.time() + 15
    while len(receiver.got) < 2 and time.time() < deadline:  # type: ignore[attr-defined]
        time.sleep(0.2)
    first, second = receiver.got  # type: ignore[attr-defined]
    claims = claims_of(second)
    assert claims["aud"] == told.client_id
    assert (claims["sub"], claims["sid"]) == (id_token["sub"], id_token["sid"])
    assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
    assert "nonce" not in claims
    assert claims["jti"] != claims_of(first)["jti"]


def test_another_persons_login_ends_the_first_session(citizen: Citizen, new_citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    answer = sign_in(visitor, rp.authorize_url(scope="openid"), citizen.number, citizen.password)
    tokens = rp.redeem(answer["code"]).json()
    answer = sign_in(
        visitor, rp.authorize_url(scope="openid", prompt="login"), new_citizen.number, new_citizen.password
    )
    assert claims_of(rp.redeem(answer["code"]).json()["id_token"])["sub"] != claims_of(tokens["id_token"])["sub"]
    assert rp.userinfo(tokens["access_token"]).status_code == 401
