"""Permissions in the account centre: shown, taken back with effect everywhere at once, asked anew when terms change."""

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select, update

from clients import registry
from idp import audit
from idp.config import load_config
from idp.database import Database
from idp.models import Agreement, Consent
from tests.flows.test_audit import records_of
from tests.support.citizen import Citizen, add_citizen, add_client
from tests.support.context import opened
from tests.support.servers import YimenServer
from tests.support.visitor import Rp, Visitor, answer_of, sign_in


def change_client(server: YimenServer, client_id: str, **changes: Any) -> None:
    """Change a registration beside the running server."""
    with opened(server.environment) as context, context.database.session() as db:
        kept = registry.metadata_of(registry.get(db, client_id))
        metadata = {name: value for name, value in {**kept, **changes}.items() if value is not None}
        registry.change(context, db, client_id, metadata=metadata)


def agreements_of(server: YimenServer, account: str) -> list[Agreement]:
    database = Database(load_config(server.environment).database_url)
    with database.session(write=False) as db:
        found = select(Agreement).where(Agreement.account_id == UUID(account)).order_by(Agreement.granted_at)
        rows = list(db.scalars(found))
        db.expunge_all()
    database.engine.dispose()
    return rows


@pytest.fixture
def own_rp(server: YimenServer, tmp_path: Path) -> Rp:
    """A client whose registration a test may change."""
    (tmp_path / "own.json").write_text(json.dumps({"client_name#en": "Own Fund", "purpose": "办理提取"}))
    return add_client(server, "自己的公积金", "--metadata", str(tmp_path / "own.json"))


@pytest.fixture
def near_rp(server: YimenServer) -> Rp:
    """A client that a browser can return to without a network."""
    return add_client(server, "自己的公积金", redirect_uri=f"{server.url}/healthz")


def withdraw(visitor: Visitor, rp: Rp) -> httpx2.Response:
    visitor.walk("/account/permissions")
    visitor.walk(f"/account/permissions/withdraw?client={rp.client_id}")
    return visitor.submit("withdraw-form", "withdraw-confirm")


def test_permission_is_shown_with_items_and_times(new_citizen: Citizen, own_rp: Rp) -> None:
    visitor = Visitor(new_citizen.server.url)
    sign_in(visitor, own_rp.authorize_url(), new_citizen.number, new_citizen.password)
    page = visitor.walk("/account/permissions").text
    for told in ("自己的公积金", "办理提取", "基本资料、电子邮箱、离开后继续使用", "本人", "收回授权"):
        assert told in page
    english = visitor.send("GET", f"{visitor.base}/account/permissions", headers={"accept-language": "en"}).text
    assert "Own Fund" in english
    assert "Basic details, E-mail, Use while you are away" in english
    for secret in (new_citizen.number, new_citizen.name):
        assert secret not in page


def test_withdrawal_counts_in_every_worker_at_once(new_citizen: Citizen, own_rp: Rp, other_rp: Rp) -> None:
    server = new_citizen.server
    visitor = Visitor(server.url)
    answer = sign_in(visitor, own_rp.authorize_url(), new_citizen.number, new_citizen.password)
    tokens = own_rp.redeem(answer["code"]).json()
    other = other_rp.redeem(
        sign_in(visitor, other_rp.authorize_url(), new_citizen.number, new_citizen.password)["code"]
    ).json()
    verifier = own_rp.verifier
    unspent = answer_of(visitor.walk(own_rp.authorize_url()))["code"]
    assert verifier != own_rp.verifier
    assert own_rp.userinfo(tokens["access_token"]).status_code == 200

    page = withdraw(visitor, own_rp)
    assert page.status_code == 200
    assert "withdrawn" in visitor.seen.ids
    seen = [own_rp.userinfo(tokens["access_token"]).status_code for _ in range(12)]  # connections of every worker
    assert seen == [401] * 12
    for _ in range(6):
        assert own_rp.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert own_rp.redeem(unspent).json()["error"] == "invalid_grant"
    assert answer_of(visitor.walk(own_rp.authorize_url(prompt="none")))["error"] == "consent_required"

    assert other_rp.userinfo(other["access_token"]).status_code == 200, "another client's tokens go on"
    assert "error" not in other_rp.refresh(other["refresh_token"]).json()
    record = [one for one in records_of(server, new_citizen.account) if one.event == "consent:scope:withdrawn"]
    assert [(one.client_id, one.actor) for one in record] == [(own_rp.client_id, new_citizen.account)]
    assert [one.end_reason for one in agreements_of(server, new_citizen.account)].count("withdrawn") == 1

    answer = sign_in(visitor, own_rp.authorize_url(), new_citizen.number, new_citizen.password)
    assert own_rp.redeem(answer["code"]).status_code == 200, "agreeing again begins anew"
    assert own_rp.userinfo(tokens["access_token"]).status_code == 401, "and revives nothing"


def test_consent_that_ran_out_ends_the_refresh_family_too(new_citizen: Citizen, own_rp: Rp) -> None:
    visitor = Visitor(new_citizen.server.url)
    answer = sign_in(visitor, own_rp.authorize_url(), new_citizen.number, new_citizen.password)
    tokens = own_rp.redeem(answer["code"]).json()
    with opened(new_citizen.server.environment) as context, context.database.session() as db:
        past = {"expires_at": context.now() - 1}
        db.execute(update(Consent).where(Consent.account_id == UUID(new_citizen.account)).values(**past))
    assert own_rp.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert "permission-1" not in visitor.walk("/account/permissions").text


def test_withdrawal_of_one_person_leaves_another_alone(citizen: Citizen, new_citizen: Citizen, own_rp: Rp) -> None:
    first, second = Visitor(citizen.server.url), Visitor(citizen.server.url)
    tokens = own_rp.redeem(sign_in(first, own_rp.authorize_url(), citizen.number, citizen.password)["code"]).json()
    assert second.walk(f"/account/permissions/withdraw?client={own_rp.client_id}").status_code == 200
    assert "login-form" in second.seen.forms, "nobody is signed in there"
    second.submit("login-form", identifier=new_citizen.number, password=new_citizen.password)
    assert second.walk(f"/account/permissions/withdraw?client={own_rp.client_id}").status_code == 404
    sign_in(second, own_rp.authorize_url(), new_citizen.number, new_citizen.password)
    second.walk(f"/account/permissions/withdraw?client={own_rp.client_id}")
    form = second.seen.forms["withdraw-form"]
    address = f"{second.base}/account/permissions/withdraw"
    assert second.send("POST", address, data={**form.fields, "csrf": "x"}).status_code == 403
    assert second.send("POST", address, data={**form.fields, "client": "c" + "0" * 20}).status_code == 404
    for _ in range(2):  # a repeated form is the same act
        assert second.send("POST", address, data=form.fields).status_code == 303
    assert own_rp.userinfo(tokens["access_token"]).status_code == 200
    assert "自己的公积金" in first.walk("/account/permissions").text


def test_changed_terms_are_told_and_asked_again(new_citizen: Citizen, own_rp: Rp) -> None:
    server = new_citizen.server
    visitor = Visitor(server.url)
    sign_in(visitor, own_rp.authorize_url(), new_citizen.number, new_citizen.password)
    assert "code" in answer_of(visitor.walk(own_rp.authorize_url(prompt="none")))
    change_client(server, own_rp.client_id, contacts=["a@example.test"])
    assert "code" in answer_of(visitor.walk(own_rp.authorize_url(prompt="none"))), "nothing that people see changed"
    change_client(server, own_rp.client_id, purpose="核查资格", policy_uri="https://rp.example.test/privacy-2")
    assert answer_of(visitor.walk(own_rp.authorize_url(prompt="none")))["error"] == "consent_required"
    page = visitor.walk(own_rp.authorize_url(scope="openid profile")).text
    assert "consent-changes" in visitor.seen.ids
    assert "用途由“<span>办理提取</span>”改为“<span>核查资格</span>”" in page
    assert "https://rp.example.test/privacy-2" in page
    assert "以前同意的信息继续有效" not in page, "under other terms only what is shown is agreed to"
    answer_of(visitor.submit("consent-form", "consent-approve"))
    first, second = agreements_of(server, new_citizen.account)
    assert first.version != second.version
    assert (first.end_reason, second.end_reason) == ("replaced", None)
    assert second.scope == "openid profile"
    assert "code" in answer_of(visitor.walk(own_rp.authorize_url(scope="openid profile", prompt="none")))
    assert answer_of(visitor.walk(own_rp.authorize_url(prompt="none")))["error"] == "consent_required"


def test_further_scope_is_marked_as_new_and_the_earlier_ones_stay(new_citizen: Citizen, own_rp: Rp) -> None:
    visitor = Visitor(new_citizen.server.url)
    sign_in(visitor, own_rp.authorize_url(scope="openid email"), new_citizen.number, new_citizen.password)
    page = visitor.walk(own_rp.authorize_url(scope="openid phone")).text
    assert "新增一项信息：手机号码" in page
    assert "您以前同意的信息继续有效：电子邮箱" in page
    answer_of(visitor.submit("consent-form", "consent-approve"))
    both = own_rp.authorize_url(scope="openid email phone", prompt="none")
    assert "code" in answer_of(visitor.walk(both))
    assert agreements_of(new_citizen.server, new_citizen.account)[-1].scope == "openid phone email"


def test_terms_that_change_while_the_page_is_open_are_shown_again(new_citizen: Citizen, own_rp: Rp) -> None:
    visitor = Visitor(new_citizen.server.url)
    visitor.walk(own_rp.authorize_url())
    visitor.submit("login-form", identifier=new_citizen.number, password=new_citizen.password)
    change_client(new_citizen.server, own_rp.client_id, client_name="改了名的公积金")
    page = visitor.submit("consent-form", "consent-approve")
    assert page.status_code == 409
    assert "改了名的公积金" in page.text
    assert agreements_of(new_citizen.server, new_citizen.account) == []
    assert "code" in answer_of(visitor.submit("consent-form", "consent-approve"))
    assert len(agreements_of(new_citizen.server, new_citizen.account)) == 1


# --- sign-in history


def test_history_tells_ones_own_sign_ins_and_nothing_of_others(new_citizen: Citizen, own_rp: Rp) -> None:
    stranger = add_citizen(new_citizen.server, name="王五例")
    failing, visitor = Visitor(new_citizen.server.url), Visitor(new_citizen.server.url)
    for person, times in ((new_citizen, 3), (stranger, 1)):
        for _ in range(times):
            failing.walk("/login")
            failing.submit("login-form", identifier=person.number, password="wrong password")
    sign_in(Visitor(new_citizen.server.url), own_rp.authorize_url(), stranger.number, stranger.password)
    visitor.walk(own_rp.authorize_url())
    visitor.submit("login-form", identifier=new_citizen.number, password=new_citizen.password)
    page = visitor.walk("/account/history").text
    assert page.count('<li class="card') == 3  # the password set by staff, the failures as one, this sign-in
    for told in ("没有进入，连续 3 次", "自己的公积金", "本机", "网上大厅，密码", "127.0.*.*", "设置密码"):
        assert told in page
    for secret in (stranger.number, stranger.name, stranger.account, new_citizen.number, "127.0.0.1"):
        assert secret not in page


def test_history_is_paged_without_gap_or_repetition(new_citizen: Citizen) -> None:
    server = new_citizen.server
    visitor = Visitor(server.url)
    with opened(server.environment) as context, context.database.session() as db:
        for i in range(120):
            detail = {"amr": "pwd", "device": f"Device-{i}"}
            audit.record(context, db, "session:login:started", account=UUID(new_citizen.account), detail=detail)
    visitor.walk("/login")
    visitor.submit("login-form", identifier=new_citizen.number, password=new_citizen.password)
    page, seen = visitor.walk("/account/history").text, list[str]()
    for _ in range(5):
        seen += re.findall(r"Device-\d+", page)
        older = re.search(r'id="history-older" href="([^"]+)"', page)
        if older is None:
            break
        page = visitor.walk(older[1]).text
    assert len(seen) == 120
    assert len(set(seen)) == 120
    assert "history-newest" in page


@pytest.mark.parametrize("cursor", ["x", "1-", "-1", "1-zz", "99999999999999-" + "0" * 32, "1'-" + "0" * 32])
def test_history_of_a_wrong_cursor_is_refused(citizen: Citizen, cursor: str) -> None:
    visitor = Visitor(citizen.server.url)
    visitor.walk("/login")
    visitor.submit("login-form", identifier=citizen.number, password=citizen.password)
    assert visitor.walk("/account/history?before=" + cursor).status_code == 400


@pytest.mark.parametrize("path", ["/account/permissions", "/account/history", "/account/permissions/withdraw?client=c"])
def test_account_pages_need_a_session(server: YimenServer, path: str) -> None:
    visitor = Visitor(server.url)
    visitor.walk(path)
    assert "login-form" in visitor.seen.forms


# --- in a real browser


def story(page: Page, citizen: Citizen, rp: Rp, *, keyboard: bool) -> None:
    """Sign in, agree, look at the permission, withdraw it: by mouse, or by keyboard alone."""

    def press(selector: str) -> None:
        if keyboard:
            page.locator(selector).focus()
            page.keyboard.press("Enter")
        else:
            page.locator(selector).click()

    page.goto(rp.authorize_url())
    page.locator("#login-identifier").fill(citizen.number)
    page.locator("#login-password").fill(citizen.password)
    press("#login-submit")
    press("#consent-approve")
    page.wait_for_url("**/healthz?code=*")
    page.goto(f"{citizen.server.url}/account")
    press("nav a[href='/account/permissions']")
    expect(page.locator("#permission-1")).to_contain_text("自己的公积金")
    press("a[href^='/account/permissions/withdraw']")
    press("#withdraw-cancel")
    expect(page.locator("#permission-1")).to_be_visible()
    press("a[href^='/account/permissions/withdraw']")
    page.locator("button[name=lang]").click()  # the page stays the same one in the other language
    expect(page.locator("#withdraw-confirm")).to_be_visible()
    press("#withdraw-confirm")
    expect(page.locator("#withdrawn")).to_be_visible()
    expect(page.locator("#permission-1")).to_have_count(0)
    press("nav a[href='/account/history']")
    expect(page.locator(".log li").first).to_be_visible()


def test_story_of_a_withdrawal_by_keyboard(browser: Browser, new_citizen: Citizen, near_rp: Rp) -> None:
    page = browser.new_context(locale="zh-CN", viewport={"width": 1280, "height": 800}).new_page()
    story(page, new_citizen, near_rp, keyboard=True)


def test_story_of_a_withdrawal_without_scripts_on_a_phone(browser: Browser, new_citizen: Citizen, near_rp: Rp) -> None:
    context = browser.new_context(locale="en-US", viewport={"width": 375, "height": 740}, java_script_enabled=False)
    story(context.new_page(), new_citizen, near_rp, keyboard=False)
