"""What a newcomer does after `make run`: one login, two systems, acting for a company, one logout; in Chromium."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from admin.demo import PASSWORD, PEOPLE
from tests.support.servers import YimenServer

REPRESENTATIVE = PEOPLE[0]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[YimenServer]:
    """The server with its two services and the landing page, on the embedded default."""
    with YimenServer({"YIMEN_DATA_DIR": str(tmp_path / "data")}, "--demo") as running:
        yield running


def address(demo: YimenServer, offset: int) -> str:
    return f"http://127.0.0.1:{demo.port + offset}/"


def sign_in(page: Page) -> None:
    page.locator("#login-identifier").fill(REPRESENTATIVE.number)
    page.locator("#login-password").fill(PASSWORD)
    page.locator("#login-submit").click()


def agree(page: Page) -> None:
    """Consent, which each system asks for once."""
    page.locator("#consent-approve").click()


def walk_the_story(page: Page, demo: YimenServer) -> None:
    """Sign in at the first system, be known at the second, act for a company there, leave both."""
    fund, social = address(demo, 1), address(demo, 2)
    page.goto(fund)
    page.locator("#signin").click()
    sign_in(page)
    agree(page)
    expect(page).to_have_url(re.compile(re.escape(fund)))
    expect(page.locator("#me-name")).to_contain_text("林")
    first_subject = page.locator("#me-sub").inner_text()

    page.goto(social)
    if page.locator("#signin").count():
        page.locator("#signin").click()
    assert page.locator("#login-form").count() == 0, "asked to sign in a second time"
    agree(page)
    expect(page.locator("#me-name")).to_contain_text("林")
    assert page.locator("#me-sub").inner_text() != first_subject, "both systems know the person by one name"

    page.locator("#switch-acting").click()
    assert page.locator("input[name=acting_for]:checked").count() == 0
    page.locator("#acting-form label", has_text="示例科技").locator("input").check()
    page.locator("#acting-submit").click()
    agree(page)
    expect(page.locator("#me-acting")).to_contain_text("广州示例科技有限公司")

    page.locator("#signout").click()
    if page.locator("#logout-confirm").count():
        page.locator("#logout-confirm").click()
    expect(page.locator("#signed-out")).to_be_visible()
    for _ in range(30):  # the notice to the other system travels on its own
        page.goto(fund)
        if page.locator("#signin").count():
            break
        page.wait_for_timeout(500)
    expect(page.locator("#signin")).to_be_visible()
    assert page.locator("#me-name").count() == 0


def test_story_in_chinese(browser: Browser, demo: YimenServer) -> None:
    page = browser.new_context(locale="zh-CN", viewport={"width": 1280, "height": 800}).new_page()
    walk_the_story(page, demo)


def test_story_in_english_on_a_phone(browser: Browser, demo: YimenServer) -> None:
    page = browser.new_context(locale="en-US", viewport={"width": 375, "height": 740}).new_page()
    page.goto(address(demo, 0))
    expect(page.locator("#login-submit")).to_have_text("Sign in")
    walk_the_story(page, demo)


def test_story_without_scripts(browser: Browser, demo: YimenServer) -> None:
    page = browser.new_context(locale="zh-CN", java_script_enabled=False).new_page()
    walk_the_story(page, demo)


def test_landing_page_names_the_systems_and_the_people(page: Page, demo: YimenServer) -> None:
    page.goto(address(demo, 3))
    for person in PEOPLE[:3]:
        expect(page.locator("body")).to_contain_text(person.name)
    expect(page.locator(f"a[href='{address(demo, 1)}']").first).to_be_visible()


def test_redirect_to_a_system_passes_the_shipped_policy(page: Page, demo: YimenServer, tmp_path: Path) -> None:
    """The form of the login page ends at another origin: a form-action of 'self' would stop it."""
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if "Security Policy" in message.text else None)
    page.goto(address(demo, 1))
    page.locator("#signin").click()
    sign_in(page)
    agree(page)
    expect(page.locator("#me-name")).to_be_visible()
    assert refused == []
