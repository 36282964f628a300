"""Cases L and P: what leaves with a logout, what a cookie is made of, and many sessions of one person."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select

from idp import accounts, sessions
from idp.deliveries import Claimed
from idp.http.response import SESSION_COOKIE
from idp.models import Client, Delivery
from idp.oidc.logout import build_notice
from tests.idp.oidc.test_client import VARIANTS
from tests.races.stage import AFTER_LOGOUT, Stage
from tests.support.context import opened
from tests.support.servers import YimenServer
from tests.support.wire import Barrier, Line, request


@pytest.fixture
def stage(server: YimenServer) -> Iterator[Stage]:
    with opened(server.environment) as context, Barrier(server.url, 1, [0]) as barrier:
        made = Stage(server, context, barrier)
        made.renew()
        yield made


def test_logout_leads_to_no_other_address_than_the_registered_one(stage: Stage) -> None:
    hint = stage.tokens()["id_token"]
    own, theirs = AFTER_LOGOUT, "https://other.example.test/bye"
    variants = [variant.replace("https://rp1.test/cb", own) for variant in VARIANTS]
    for address in [*variants, theirs, "javascript:alert(1)", "//evil.test", f"{own}\t", f" {own}"]:
        answer = stage.ask(stage.get("/logout", id_token_hint=hint, post_logout_redirect_uri=address))
        assert answer.status == 400, address
        assert "location" not in answer.headers
    assert "code" in stage.ask(stage.authorize(prompt="none")).query, "the session goes on"
    answer = stage.ask(stage.get("/logout", id_token_hint=hint, post_logout_redirect_uri=own, state="a b&c"))
    assert answer.headers["location"] == f"{own}?state={quote('a b&c', safe='')}"


def test_logout_notice_is_a_typed_token_of_its_own(stage: Stage) -> None:
    id_token = part(stage.tokens()["id_token"], 1)
    with stage.context.database.session() as db:
        assert sessions.end(stage.context, db, stage.session, reason="test")
    with stage.context.database.session() as db:
        delivery = db.scalars(select(Delivery).where(Delivery.session_id == stage.session)).one()
        client = db.get_one(Client, delivery.client_id)
        known = {"sector": client.sector, "metadata_json": client.metadata_json, "leased_until": 0}
        fields = {name: known[name] if name in known else getattr(delivery, name) for name in Claimed._fields}
        notice = build_notice(stage.context, Claimed(**fields))["logout_token"]
    head, claims = part(notice, 0), part(notice, 1)
    assert head["typ"] == "logout+jwt"
    assert head["alg"] == "RS256"
    assert (claims["iss"], claims["aud"]) == (stage.context.config.issuer, stage.client_id)
    assert (claims["sub"], claims["sid"]) == (id_token["sub"], id_token["sid"])
    assert 0 < claims["exp"] - claims["iat"] <= 120
    assert claims["jti"]
    assert "nonce" not in claims


def part(token: str, place: int) -> dict[str, Any]:
    text = token.split(".")[place]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


def test_session_cookie_is_long_and_light(stage: Stage) -> None:
    handles = set()
    for _ in range(20):
        stage.sign_in()
        handle = stage.cookies[SESSION_COOKIE]
        assert len(base64.urlsafe_b64decode(handle + "=")) >= 16
        assert len(handle) < 100
        handles.add(handle)
    assert len(handles) == 20


def test_two_hosts_and_foreign_targets_show_nobody_else(server: YimenServer) -> None:
    host = server.url.partition("://")[2].encode()
    for path in (b"/.well-known/openid-configuration", b"/login", b"/login/", b"/nowhere"):
        for head in (
            b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nHost: evil.test\r\n",
            b"GET " + path + b" HTTP/1.1\r\nHost: evil.test\r\nHost: " + host + b"\r\n",
            b"GET http://evil.test" + path + b" HTTP/1.1\r\nHost: " + host + b"\r\n",
            b"GET http://evil.test" + path + b" HTTP/1.1\r\nHost: evil.test\r\n",
        ):
            line = Line(server.url)
            answer = line.ask(head + b"X-Forwarded-Host: evil.test\r\n\r\n")
            line.close()
            assert b"evil" not in answer.body
            assert "evil" not in answer.headers.get("location", "")


def test_hundred_sessions_of_one_person_are_listed_and_ended(stage: Stage) -> None:
    """There is no limit that would shut an honest person out: each session is seen, and each can be ended."""
    with stage.context.database.session() as db:
        account = accounts.get(db, stage.account)
        for _ in range(99):
            sessions.start(stage.context, db, account, sessions.Proof(3, ("pwd",)))
    page = stage.ask(stage.get("/account/sessions"))
    assert page.body.count(b'name="session"') == 99
    answer = stage.ask(stage.post("/account/sessions", all="1"))
    assert answer.status == 303
    assert stage.living()[0] == 1
    assert stage.ask(request("GET", f"{stage.url}/account", cookies=stage.cookies)).status == 200
