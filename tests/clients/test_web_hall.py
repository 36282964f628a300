"""The web hall against a provider that can lie: what it believes, and above all what it does not."""

import re
from collections.abc import Iterator
from html import unescape
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.testclient import TestClient

from clients.examples import openid, web_hall
from clients.examples.landing import create_app as create_landing
from clients.examples.web_hall import Settings
from tests.clients.fake_provider import CLIENT_ID, CLIENT_SECRET, LOGOUT_EVENT, FakeProvider, running

PORT = 8001
HALL = f"http://127.0.0.1:{PORT}"
ACTING = {
    "type": "organization",
    "name": "示例科技有限公司",
    "uscc": "91449901MA990001X8",
    "role": "agent",
    "mandate_expires_at": 1_798_732_799,  # 2026-12-31 23:59:59 in Beijing
}


class Browser:
    """Follows redirects between the hall and the provider; keeps the hall's cookies, as a loopback browser does."""

    def __init__(self, hall: TestClient) -> None:
        self.hall = hall
        self.cookies: dict[str, str] = {}
        self.language = "zh-CN"
        self.path: list[str] = []  # the addresses that the last walk went through

    def open(self, url: str, method: str = "GET", **sent: Any) -> httpx2.Response:
        """One request without following. Addresses that do not begin with http are the hall's."""
        if url.startswith("http") and not url.startswith(HALL):
            return httpx2.get(url, trust_env=False)
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Accept-Language": self.language} | ({"Cookie": cookies} if cookies else {})
        answer = self.hall.request(method, url, headers=headers, **sent)
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                if morsel["max-age"] == "0":
                    del self.cookies[name]
        return answer

    def walk(self, url: str, method: str = "GET", **sent: Any) -> httpx2.Response:
        """Follow redirects to a page of the hall, at most ten."""
        answer, self.path = self.open(url, method, **sent), [url]
        while answer.is_redirect and len(self.path) < 10:
            self.path.append(answer.headers["location"])
            answer = self.open(self.path[-1])
        assert not answer.is_redirect, "redirected without end"
        return answer

    def sign_in(self, url: str = "/login") -> httpx2.Response:
        answer = self.walk(url)
        assert text_of(answer, "me-sub") == "person", answer.text
        return answer


def text_of(answer: httpx2.Response, id: str) -> str | None:
    """The text of an element, None when it is not there."""
    found = re.search(rf'<(\w+)[^>]* id="{id}"[^>]*>(.*?)</\1>', answer.text, re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", found[2])).split()) if found else None


def error_of(answer: httpx2.Response) -> str | None:
    assert answer.status_code == 200
    assert text_of(answer, "me-sub") is None, "signed in all the same"
    return text_of(answer, "login-error")


@pytest.fixture(scope="module")
def running_provider() -> Iterator[FakeProvider]:
    with running(FakeProvider()) as provider:
        yield provider


@pytest.fixture
def provider(running_provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """An honest provider; its issuer is the same in all tests."""
    monkeypatch.setattr(openid, "KEYS_SECONDS", 0.01)
    running_provider.reset()
    return running_provider


@pytest.fixture
def browser(provider: FakeProvider) -> Iterator[Browser]:
    """A browser without cookies in front of a hall without sessions."""
    settings = Settings(provider.issuer, CLIENT_ID, CLIENT_SECRET, "公积金", "Housing Fund", PORT)
    with TestClient(web_hall.create_app(settings), base_url=HALL, follow_redirects=False) as hall:
        yield Browser(hall)


# --- signing in


def test_sign_in_shows_who_it_is(browser: Browser, provider: FakeProvider) -> None:
    page = browser.sign_in()
    assert text_of(page, "me-name") == "张三例"
    assert text_of(page, "me-number") == "4***X"
    assert text_of(page, "me-acr") == "实名三级 urn:yimen:loa:3"
    assert text_of(page, "me-acting") == "本人"
    asked = provider.asked[-1]
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["scope"].split() == ["openid", "profile", "identity"]
    assert (asked["redirect_uri"], asked["ui_locales"]) == (f"{HALL}/callback", "zh-CN")
    assert "prompt" not in asked


def test_first_visit_is_tried_silently_once(browser: Browser, provider: FakeProvider) -> None:
    provider.refusal = "login_required"
    page = browser.walk("/")
    assert provider.asked[-1]["prompt"] == "none"
    assert text_of(page, "signin") == "使用统一身份认证登录"
    assert text_of(page, "not-signed-in") is not None
    assert text_of(page, "login-error") is None
    browser.walk("/")
    assert len(provider.asked) == 1


def test_first_visit_of_somebody_known_signs_in(browser: Browser) -> None:
    assert text_of(browser.walk("/"), "me-sub") == "person"


@pytest.mark.parametrize("error", ["consent_required", "interaction_required"])
def test_silent_login_that_needs_a_page_goes_on_with_pages(
    browser: Browser, provider: FakeProvider, error: str
) -> None:
    provider.refusal = error
    page = browser.walk("/")
    assert [asked.get("prompt") for asked in provider.asked] == ["none", None]
    assert error_of(page) == error


def test_refused_consent_is_not_asked_again(browser: Browser, provider: FakeProvider) -> None:
    """The cookie of the silent try may be gone by the time a person has decided."""
    provider.refusal = "access_denied"
    assert f"__Host-hall{PORT}_silent" not in browser.cookies
    assert error_of(browser.walk("/login")) == "access_denied"
    assert len(provider.asked) == 1


def test_acting_for_an_organization_is_shown(browser: Browser, provider: FakeProvider) -> None:
    provider.id_claims["acting_for"] = ACTING
    page = browser.sign_in("/login?acting=1")
    assert "organization" in provider.asked[-1]["scope"].split()
    shown = text_of(page, "me-acting") or ""
    assert shown.split() == [
        "示例科技有限公司", "统一社会信用代码", "91449901MA990001X8", "经办人，授权至", "2026-12-31",
    ]  # fmt: skip


def test_silent_renewal_keeps_whom_one_acts_for(browser: Browser, provider: FakeProvider) -> None:
    browser.sign_in("/login?acting=1")
    before = dict(browser.cookies)
    browser.sign_in("/login?prompt=none")
    assert "organization" in provider.asked[-1]["scope"].split()
    assert before[f"__Host-hall{PORT}_session"] != browser.cookies[f"__Host-hall{PORT}_session"]
    browser.cookies = before
    assert not is_signed_in(browser), "the handle from before still counts"


def test_silent_renewal_ends_the_session_when_the_provider_has_none(browser: Browser, provider: FakeProvider) -> None:
    browser.sign_in()
    provider.refusal = "login_required"
    assert text_of(browser.walk("/login?prompt=none"), "not-signed-in") is not None


def test_two_logins_at_once_both_succeed(browser: Browser) -> None:
    first, second = browser.open("/login"), browser.open("/login")
    for begun in (first, second):
        assert text_of(browser.walk(begun.headers["location"]), "me-sub") == "person"


# --- what it does not believe


@pytest.mark.parametrize(
    ("twisted", "error"),
    [
        ({"iss": "https://evil.example"}, "wrong_issuer"),
        ({"iss": None}, "wrong_issuer"),
        ({"state": "another"}, "no_attempt"),
        ({"state": None}, "no_attempt"),
        ({"code": None}, "no_code"),
        ({"code": "unknown"}, "invalid_grant"),
        ({"error": "server_error"}, "server_error"),
        ({"error": "<b>x</b>"}, None),
    ],
    ids=str,
)
def test_answer_that_does_not_fit_is_refused(
    browser: Browser, provider: FakeProvider, twisted: dict[str, Any], error: str | None
) -> None:
    provider.answer = twisted
    page = browser.walk("/login")
    assert error_of(page) == error
    assert "<b>" not in page.text


def test_answer_with_a_repeated_parameter_is_refused(browser: Browser) -> None:
    back = browser.open(browser.open("/login").headers["location"]).headers["location"]
    assert error_of(browser.walk(f"{back}&iss=https%3A%2F%2Fevil.example")) == "repeated_parameter"


def test_answer_in_another_browser_is_refused(browser: Browser) -> None:
    back = browser.open(browser.open("/login").headers["location"]).headers["location"]
    victim = Browser(browser.hall)
    assert error_of(victim.walk(back)) == "no_attempt"
    assert text_of(browser.walk(back), "me-sub") == "person"


def test_answer_counts_once(browser: Browser) -> None:
    back = browser.open(browser.open("/login").headers["location"]).headers["location"]
    assert text_of(browser.walk(back), "me-sub") == "person"
    assert urlsplit(browser.open(back).headers["location"]).query == "error=no_attempt"


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"nonce": "another"}, "id_token_nonce"),
        ({"nonce": None}, "id_token_nonce"),
        ({"iss": "https://evil.example"}, "id_token_iss"),
        ({"aud": "another"}, "id_token_aud"),
        ({"aud": [CLIENT_ID, "another"]}, "id_token_aud"),
        ({"exp": 1_000_000_000}, "id_token_exp"),
        ({"exp": "tomorrow"}, "id_token_exp"),
        ({"exp": None}, "id_token_exp"),
        ({"iat": 4_000_000_000}, "id_token_iat"),
        ({"sub": None}, "id_token_sub"),
        ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "id_token_at_hash"),
    ],
    ids=str,
)
def test_id_token_that_does_not_fit_is_refused(
    browser: Browser, provider: FakeProvider, claims: dict[str, Any], error: str
) -> None:
    provider.id_claims = claims
    assert error_of(browser.walk("/login")) == error


def test_tampered_id_token_is_refused(browser: Browser, provider: FakeProvider) -> None:
    provider.tamper = True
    assert error_of(browser.walk("/login")) == "signature"


@pytest.mark.parametrize("header", [{"typ": "logout+jwt"}, {"kid": None}], ids=str)
def test_id_token_with_a_wrong_header_is_refused(
    browser: Browser, provider: FakeProvider, header: dict[str, Any]
) -> None:
    provider.id_header = header
    assert error_of(browser.walk("/login")) in ("token_type", "unknown_key")


def test_userinfo_of_another_person_is_refused(browser: Browser, provider: FakeProvider) -> None:
    provider.user = {"sub": "another"}
    assert error_of(browser.walk("/login")) == "wrong_subject"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (JSONResponse({"error": "invalid_client"}, 401), "invalid_client"),
        (JSONResponse({"access_token": "a", "token_type": "Bearer"}), "bad_answer"),
        (JSONResponse(["a"]), "bad_answer"),
        (PlainTextResponse("busy", 503), "no_answer"),
    ],
    ids=["refused", "no ID token", "a list", "busy"],
)
def test_token_endpoint_that_fails_is_no_login(
    browser: Browser, provider: FakeProvider, answer: Response, error: str
) -> None:
    provider.token_answer = answer
    assert error_of(browser.walk("/login")) == error


@pytest.mark.parametrize(
    ("metadata", "error"),
    [({"issuer": "https://evil.example"}, "wrong_issuer"), ({"token_endpoint": None}, "bad_metadata")],
    ids=str,
)
def test_metadata_that_does_not_fit_is_refused(
    browser: Browser, provider: FakeProvider, metadata: dict[str, Any], error: str
) -> None:
    provider.metadata = metadata
    assert error_of(browser.walk("/")) == error


def test_new_key_of_the_provider_is_looked_up(browser: Browser, provider: FakeProvider) -> None:
    browser.sign_in()
    provider.key = provider.new_key("k2")
    browser.sign_in()
    browser.sign_in()
    assert provider.key_reads == 2


def test_unknown_key_is_refused_after_one_look(browser: Browser, provider: FakeProvider) -> None:
    provider.id_header = {"kid": "nowhere"}
    assert error_of(browser.walk("/login")) == "unknown_key"
    assert provider.key_reads == 2


# --- leaving


def sign_out(browser: Browser, page: httpx2.Response) -> httpx2.Response:
    csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert csrf
    return browser.open("/logout", "POST", data={"csrf": csrf[1]})


def test_sign_out_ends_the_session_and_asks_the_provider(browser: Browser, provider: FakeProvider) -> None:
    answer = sign_out(browser, browser.sign_in())
    url = urlsplit(answer.headers["location"])
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert answer.status_code == 303
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{provider.issuer}/end_session"
    assert query["post_logout_redirect_uri"] == f"{HALL}/signed-out"
    assert query["id_token_hint"].count(".") == 2
    page = browser.walk(f"/signed-out?state={query['state']}")
    assert text_of(page, "signed-out") is not None
    assert text_of(browser.walk("/"), "signin") is not None
    assert len(provider.asked) == 1, "signed in again at once"


@pytest.mark.parametrize("query", ["", "?state=another", "?state=%E9%97%A8"])
def test_return_from_a_logout_that_nobody_began_says_nothing(browser: Browser, query: str) -> None:
    sign_out(browser, browser.sign_in())
    assert text_of(browser.walk(f"/signed-out{query}"), "signed-out") is None


@pytest.mark.parametrize("form", [{}, {"csrf": "another"}, {"csrf": "门"}], ids=str)
def test_sign_out_from_a_foreign_page_does_nothing(browser: Browser, form: dict[str, str]) -> None:
    browser.sign_in()
    assert browser.open("/logout", "POST", data=form).headers["location"] == "/"
    assert text_of(browser.walk("/"), "me-sub") == "person"


def test_sign_out_is_a_post(browser: Browser) -> None:
    browser.sign_in()
    assert browser.open("/logout").status_code == 405
    assert text_of(browser.walk("/"), "me-sub") == "person"


# --- the back channel


def notify(browser: Browser, token: str) -> httpx2.Response:
    """As the provider does: without cookies."""
    answer: httpx2.Response = browser.hall.post("/backchannel-logout", data={"logout_token": token})
    assert answer.headers["cache-control"] == "no-store"
    return answer


def is_signed_in(browser: Browser) -> bool:
    return browser.open("/userinfo").status_code == 200


@pytest.mark.parametrize("changes", [{}, {"sub": None}, {"sid": None}], ids=str)
def test_logout_notice_ends_the_session(browser: Browser, provider: FakeProvider, changes: dict[str, Any]) -> None:
    browser.sign_in()
    assert is_signed_in(browser)
    assert notify(browser, provider.logout_token(**changes)).status_code == 200
    assert not is_signed_in(browser)


@pytest.mark.parametrize("changes", [{"sid": "s2"}, {"sid": None, "sub": "another"}], ids=str)
def test_logout_notice_of_another_session_leaves_this_one(
    browser: Browser, provider: FakeProvider, changes: dict[str, Any]
) -> None:
    browser.sign_in()
    assert notify(browser, provider.logout_token(**changes)).status_code == 200
    assert is_signed_in(browser)


def test_replayed_logout_notice_is_refused(browser: Browser, provider: FakeProvider) -> None:
    token = provider.logout_token()
    assert notify(browser, token).status_code == 200
    browser.sign_in()
    assert notify(browser, token).status_code == 400
    assert is_signed_in(browser)


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "n"},
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"aud": [CLIENT_ID, "another"]},
        {"iat": 1_700_000_000},
        {"iat": 4_000_000_000},
        {"iat": None},
        {"exp": 1_700_000_000},
        {"exp": None},
        {"jti": None},
        {"jti": ["a"]},
        {"sub": None, "sid": None},
        {"events": None},
        {"events": {}},
        {"events": {LOGOUT_EVENT: {"a": 1}}},
        {"events": {LOGOUT_EVENT: {}, "urn:other": {}}},
        {"typ": "JWT"},
    ],
    ids=str,
)
def test_logout_notice_that_does_not_fit_is_refused(
    browser: Browser, provider: FakeProvider, changes: dict[str, Any]
) -> None:
    browser.sign_in()
    answer = notify(browser, provider.logout_token(**changes))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert is_signed_in(browser)


def test_logout_notice_with_a_foreign_signature_is_refused(browser: Browser, provider: FakeProvider) -> None:
    browser.sign_in()
    own, provider.key = provider.key, provider.new_key("k1")
    forged = provider.logout_token()
    provider.key = own
    unsigned = f"eyJhbGciOiJub25lIiwidHlwIjoibG9nb3V0K2p3dCIsImtpZCI6ImsxIn0.{forged.split('.')[1]}."
    for token in (forged, unsigned, "", "a.b.c", "门", "e30.e30.e30"):
        assert notify(browser, token).status_code == 400
    assert is_signed_in(browser)


# --- pages


def test_pages_speak_english_and_remember_it(browser: Browser, provider: FakeProvider) -> None:
    provider.refusal = "login_required"
    assert text_of(browser.walk("/?lang=en"), "signin") == "Sign in with Yimen"
    assert provider.asked[-1]["ui_locales"] == "en"
    provider.refusal = ""
    page = browser.sign_in()
    assert '<html lang="en">' in page.text
    assert text_of(page, "me-acr") == "Level 3 urn:yimen:loa:3"


def test_pages_follow_the_language_of_the_browser(browser: Browser, provider: FakeProvider) -> None:
    browser.language, provider.refusal = "en-US,en;q=0.9", "login_required"
    assert text_of(browser.walk("/"), "signin-org") == "Sign in to act for an organization"


def test_received_information_is_shown_as_it_came(browser: Browser) -> None:
    browser.sign_in()
    assert '"legal_name": "张三例"' in (text_of(browser.walk("/userinfo"), "userinfo-text") or "")


def test_pages_carry_a_strict_policy_and_nothing_inline(browser: Browser, provider: FakeProvider) -> None:
    page = browser.sign_in()
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';")
    assert policy.endswith(f"; form-action 'self' {provider.issuer}")
    assert page.headers["cache-control"] == "no-store"
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=", page.text)


def test_cookies_are_kept_from_scripts_and_named_after_the_port(browser: Browser) -> None:
    answer = browser.open("/login")
    answer = browser.open(browser.open(answer.headers["location"]).headers["location"])
    lines = answer.headers.get_list("set-cookie")
    session = next(line for line in lines if line.startswith(f"__Host-hall{PORT}_session="))
    assert {"httponly", "path=/", "samesite=lax", "secure"} <= set(session.lower().split("; "))


def test_large_body_is_refused(browser: Browser) -> None:
    assert browser.open("/backchannel-logout", "POST", data={"logout_token": "a" * 70_000}).status_code == 413


def test_landing_page_shows_systems_and_accounts() -> None:
    data = {
        "issuer": "http://127.0.0.1:8000",
        "password": "a password",
        "services": [{"name": "公积金", "name_en": "Housing Fund", "url": f"{HALL}/"}],
        "accounts": [{"login": "449901199001010013", "name": "林晓舟", "note": "法定代表人", "note_en": "represents"}],
    }
    with TestClient(create_landing(data)) as landing:
        chinese, english = landing.get("/"), landing.get("/?lang=en")
        assert landing.get("/static/example.css").status_code == 200
    assert text_of(chinese, "services") == "公积金 我的账户"
    assert text_of(english, "services") == "Housing Fund My account"
    assert text_of(chinese, "password") == "a password"
    assert "449901199001010013 林晓舟 represents" in (text_of(english, "accounts") or "")
    assert f'href="{HALL}/"' in chinese.text
