"""Headers, limits and hosts at the edge of the running server (security.md groups P and R)."""

import socket
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.support.citizen import Citizen
from tests.support.servers import YimenServer
from tests.support.visitor import Rp, Visitor, sign_in

PAGES = ["/login", "/login?kind=org", "/logged-out", "/nowhere", "/authorize", "/consent", "/account", "/logout"]
PROTOCOL = ["/token", "/userinfo", "/revoke", "/.well-known/openid-configuration", "/jwks", "/healthz", "/readyz"]
FORM = {"content-type": "application/x-www-form-urlencoded"}


def send(server: YimenServer, raw: bytes) -> bytes:
    """Raw bytes to the server; the beginning of its answer."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as connection:
        connection.sendall(raw)
        return connection.recv(65_536)


@pytest.mark.parametrize("path", PAGES)
def test_page_carries_its_protections(server: YimenServer, path: str) -> None:
    headers = Visitor(server.url).walk(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "no-store" in headers["cache-control"]
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", PROTOCOL)
def test_protocol_answer_is_json_and_carries_its_protections(server: YimenServer, path: str) -> None:
    response = httpx2.get(server.url + path, trust_env=False)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "cache-control" in response.headers


def test_cookies_are_host_bound_and_out_of_scripts_reach(citizen: Citizen, rp: Rp) -> None:
    page = httpx2.get(f"{citizen.server.url}/login", trust_env=False)
    lines = page.headers.get_list("set-cookie")
    visitor = Visitor(citizen.server.url)
    sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)
    assert "__Host-yimen_session" in visitor.cookies
    assert lines
    for line in lines:
        assert line.startswith("__Host-")
        for flag in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
            assert flag.lower() in line.lower()
        assert "domain" not in line.lower()


def test_session_cookie_set_before_login_is_worthless_after(citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    visitor.cookies["__Host-yimen_session"] = "planted"
    sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)
    assert visitor.cookies["__Host-yimen_session"] != "planted"


def test_post_of_credentials_is_answered_by_303(citizen: Citizen, rp: Rp) -> None:
    visitor = Visitor(citizen.server.url)
    sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)
    assert {status for method, _, status in visitor.trail if method == "POST"} == {303}


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1", "127.0.0.1:1", "evil.test/127.0.0.1", ""])
def test_foreign_host_is_refused_and_never_repeated(server: YimenServer, host: str) -> None:
    for path in ("/.well-known/openid-configuration", "/login", "/login/", "/authorize"):
        answer = send(server, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert answer.split()[1] == b"400"
        assert b"evil" not in answer


def test_forwarded_host_is_ignored(server: YimenServer) -> None:
    headers = {"x-forwarded-host": "evil.test", "x-forwarded-proto": "https", "forwarded": "host=evil.test"}
    response = httpx2.get(f"{server.url}/.well-known/openid-configuration", headers=headers, trust_env=False)
    assert response.json()["issuer"] == server.url
    assert "evil" not in response.text


@pytest.mark.parametrize(("path", "allow"), [("/login", "GET, HEAD, POST"), ("/token", "POST"), ("/jwks", "GET, HEAD")])
def test_other_method_is_refused_with_allow(server: YimenServer, path: str, allow: str) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        response = httpx2.request(method, server.url + path, trust_env=False)
        assert (response.status_code, response.headers["allow"]) == (405, allow)


def test_head_has_headers_and_no_body(server: YimenServer) -> None:
    response = httpx2.head(f"{server.url}/login", trust_env=False)
    assert response.status_code == 200
    assert response.content == b""


@pytest.mark.parametrize(("path", "size"), [("/token", 65_537), ("/revoke", 1_000_000), ("/login", 1_048_577)])
def test_body_too_large_is_refused(server: YimenServer, path: str, size: int) -> None:
    response = httpx2.post(server.url + path, content=b"a" * size, headers=FORM, trust_env=False)
    assert response.status_code == 413


def test_two_framings_are_refused(server: YimenServer) -> None:
    host = urlsplit(server.url).netloc
    head = f"POST /token HTTP/1.1\r\nHost: {host}\r\nContent-Type: {FORM['content-type']}\r\nConnection: close\r\n"
    answer = send(server, (head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").encode())
    assert answer.split()[1] == b"400"


def test_preferences_lead_back_to_our_own_pages_only(server: YimenServer) -> None:
    for back in ("https://evil.test/", "//evil.test", "/\\evil.test", "javascript:alert(1)", ""):
        response = httpx2.post(f"{server.url}/prefs", data={"lang": "en", "back": back}, trust_env=False)
        assert (response.status_code, response.headers["location"]) == (303, f"{server.url}/login")
    response = httpx2.post(
        f"{server.url}/prefs", data={"lang": "en"}, headers={"sec-fetch-site": "cross-site"}, trust_env=False
    )
    assert response.status_code == 403


def test_login_answer_is_the_same_for_unknown_wrong_and_locked(
    server: YimenServer, citizen: Citizen, new_citizen: Citizen
) -> None:
    server.cli("person", "lock", new_citizen.account, "--reason", "test")
    bodies = []
    for number, password in (
        (citizen.number, "wrong password"),
        ("449901196001010018", "wrong password"),
        (new_citizen.number, "wrong password"),
        (new_citizen.number, new_citizen.password),
    ):
        visitor = Visitor(server.url)
        visitor.walk("/login")
        response = visitor.submit("login-form", identifier=number, password=password)
        form = visitor.seen.forms["login-form"]
        shown = response.text.replace(form.fields["csrf"], "").replace(number, "")
        bodies.append((response.status_code, shown, sorted(visitor.cookies)))
    assert all(body == bodies[0] for body in bodies)


def test_login_without_its_form_value_is_refused(server: YimenServer, citizen: Citizen) -> None:
    visitor, other = Visitor(server.url), Visitor(server.url)
    other.walk("/login")
    for csrf in ("", "x", other.seen.forms["login-form"].fields["csrf"]):
        visitor.walk("/login")
        answer = visitor.submit("login-form", identifier=citizen.number, password=citizen.password, csrf=csrf)
        assert answer.status_code == 403
        assert "__Host-yimen_session" not in visitor.cookies
    headers = {**FORM, "origin": "https://evil.test"}
    visitor.walk("/login")
    form = visitor.seen.forms["login-form"]
    answer = visitor.send("POST", f"{server.url}/login", data=form.fields, headers=headers)
    assert answer.status_code == 403


def test_account_pages_need_a_session_and_end_others(citizen: Citizen, rp: Rp) -> None:
    here, there = Visitor(citizen.server.url), Visitor(citizen.server.url)
    assert "login-form" in forms_of(here, "/account")
    for visitor in (here, there):
        sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)
    page = here.walk("/account")
    assert citizen.number not in page.text
    assert page.status_code == 200
    page = here.walk("/account/sessions")
    assert citizen.number not in page.text
    here.submit("/account/sessions", all="1")
    assert "login-form" in forms_of(there, "/account")
    assert here.walk("/account").status_code == 200


def forms_of(visitor: Visitor, path: str) -> set[str]:
    visitor.walk(path)
    return set(visitor.seen.forms)
