"""The pages: complete in both languages, safe against what is put into them, with the promised ids and headers."""

import ast
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import read_po
from jinja2 import Environment, nodes
from jinja2.ext import babel_extract

from idp.context import CHANNELS
from idp.errors import NotFound
from idp.identifiers import PERSON_TYPES
from idp.oidc.profiles import SCOPES
from idp.pages import catalogue, view, words
from idp.pages.values import AccountPage, ConsentItem, LoginPage
from idp.pages.view import View, pick_locale, translate
from tests.ui.preview import FUND, PAGES, acting, consent, render

ROOT = Path(catalogue.__file__).parent
TEMPLATES = sorted((ROOT / "templates").glob("*.html"))
STATIC = sorted((ROOT / "static").iterdir())
MODULES = sorted(ROOT.glob("*.py"))
CJK = re.compile("[\u2e80-\u9fff\uff00-\uffef]")
PLACE = re.compile(r"%\((\w+)\)s")
OWN_PATHS = {"/", "/login", "/acting", "/consent", "/logout", "/account", "/account/sessions", "/prefs"}
OWN_PATHS |= {"/account/permissions", "/account/permissions/withdraw", "/account/history"}
IDS = {
    "login.html": {"login-form", "login-identifier", "login-password", "login-submit"},
    "consent.html": {"consent-form", "consent-approve", "consent-deny"},
    "acting.html": {"acting-form", "acting-submit"},
    "logout.html": {"logout-form", "logout-confirm", "logout-cancel"},
    "logged_out.html": {"logged-out"},
    "error.html": {"error-page", "error-code", "error-trace-id"},
    "account.html": set(),
    "account_sessions.html": set(),
    "account_permissions.html": set(),
    "account_withdraw.html": {"withdraw-form", "withdraw-confirm", "withdraw-cancel"},
    "account_history.html": set(),
}


class Page(HTMLParser):
    """The elements of a page, each as (name, attributes), and the text of elements with an id."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.forms: list[list[dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.elements.append((tag, given))
        if tag == "form":
            self.forms.append([given])
        elif tag in ("input", "button") and self.forms:
            self.forms[-1].append(given)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [given for name, given in self.elements if name == tag]

    def values(self, attribute: str) -> list[str]:
        return [given[attribute] for _, given in self.elements if attribute in given]

    def by_id(self, wanted: str) -> dict[str, str]:
        return next(given for _, given in self.elements if given.get("id") == wanted)


@pytest.fixture(scope="module")
def book() -> View:
    return View(issuer="https://id.example.gov.cn", production=True)


def page_of(book: View, path: str, **modes: Any) -> Page:
    return Page(bytes(render(book, path, **modes).body).decode())


def show(book: View, name: str, page: Any, **changes: Any) -> Page:
    options = {"locale": "zh-CN", "care": 0, "theme": "auto", "here": "/login", "csrf": "c", **changes}
    return Page(bytes(book.render(name, page=page, **options).body).decode())


# -- words


def marked_texts() -> set[str]:
    """Every text that is marked for translation, in templates and in modules."""
    found: set[str] = set()
    for template in TEMPLATES:
        with open(template, "rb") as file:
            for _, _, message, _ in babel_extract(file, ["_", "ngettext"], [], {}):
                found.update([message] if isinstance(message, str) else [one for one in message or () if one][:1])
    for module in MODULES:
        with open(module, "rb") as file:
            found.update(str(message) for _, message, _, _ in extract("python", file, keywords={"N_": None}))
    return found


def english() -> dict[str, tuple[str, ...]]:
    with open(ROOT / "locale/en/LC_MESSAGES/yimen.po", "rb") as file:
        read = [message for message in read_po(file, locale="en", abort_invalid=True) if message.id]
    assert not any(message.fuzzy for message in read)
    return {
        message.id[0] if message.pluralizable else str(message.id): tuple(message.string)
        if message.pluralizable
        else (str(message.string),)
        for message in read
    }


def test_catalogue_holds_every_marked_text_and_no_other() -> None:
    marked = marked_texts()
    assert len(marked) > 150
    assert set(english()) == marked


def test_catalogue_translations_are_whole() -> None:
    for chinese, forms in english().items():
        for form in forms:
            assert form.strip(), chinese
            assert set(PLACE.findall(form)) == set(PLACE.findall(chinese)), chinese
            assert not CJK.search(form), form
        assert not re.search(r"[<>&\"]", chinese + "".join(forms)), f"{chinese} would be markup on a page"


def loose_texts(source: str) -> list[str]:
    """Chinese text of a template that nobody could translate."""
    tree = Environment().parse(source)
    marked = {
        id(argument)
        for call in tree.find_all(nodes.Call)
        if isinstance(call.node, nodes.Name) and call.node.name in ("_", "ngettext")
        for argument in call.args
    }
    plain = [node.data for node in tree.find_all(nodes.TemplateData)]
    plain += [str(node.value) for node in tree.find_all(nodes.Const) if id(node) not in marked]
    return [text for text in plain if CJK.search(text)]


def test_templates_hold_no_text_outside_the_catalogue() -> None:
    assert loose_texts("<p>中文{{ _('好') }}{{ '坏' }}</p>") == ["<p>中文", "坏"]
    for template in TEMPLATES:
        assert loose_texts(template.read_text()) == [], template.name


def test_modules_hold_no_text_outside_the_catalogue() -> None:
    for module in MODULES:
        tree = ast.parse(module.read_text())
        marked = {
            id(argument)
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "N_"
            for argument in call.args
        }
        loose = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in marked
        ]
        found = [text for text in loose if CJK.search(text) and text not in words.LANGUAGES.values()]
        assert found == [], module.name


def test_words_cover_what_the_program_knows() -> None:
    assert set(words.SCOPES) == set(SCOPES)
    assert set(words.CHANNELS) == set(CHANNELS)
    assert set(words.DOCUMENTS) == set(PERSON_TYPES)
    assert len(words.LEVELS) == len(words.NEEDED_LEVELS) == 5


def test_translate_gives_plain_text_in_the_language_asked_for() -> None:
    assert translate("en", "至 %(date)s", date="<2026>") == "until <2026>"
    assert translate("zh-CN", "至 %(date)s", date="2026") == "至 2026"


@pytest.mark.parametrize(("count", "said"), [(1, "your 1 open service."), (3, "your 3 open services.")])
def test_english_tells_one_from_many(book: View, count: int, said: str) -> None:
    assert said in page_of(book, "/logout/one" if count == 1 else "/logout", locale="en").html


@pytest.mark.parametrize(
    ("accept_language", "ui_locales", "cookie", "expected"),
    [
        ("", "", "", "zh-CN"),
        ("en-US,en;q=0.9", "", "", "en"),
        ("EN", "", "", "en"),
        ("fr, en;q=0.3, zh;q=0.5", "", "", "zh-CN"),
        ("en;q=0, zh-TW;q=0.1", "", "", "zh-CN"),
        ("de-DE,de", "", "", "zh-CN"),
        ("en;q=1;q=0", "", "", "zh-CN"),
        ("en;q=nan, zh", "", "", "zh-CN"),
        ("english", "", "", "zh-CN"),
        ("*", "", "", "zh-CN"),
        ("zh", "de en-GB zh", "", "en"),
        ("zh", "xx", "", "zh-CN"),
        ("zh", "zh", "en", "en"),
        ("en", "en", "zh", "zh-CN"),
        ("en", "", "<script>", "en"),
        ("\x00,;q=,-,\U0001f600;q=9," * 4, "", "", "zh-CN"),
        ("x-" * 200_000 + ",en", "", "", "zh-CN"),
    ],
)
def test_pick_locale_prefers_the_choice_then_the_client_then_the_browser(
    accept_language: str, ui_locales: str, cookie: str, expected: str
) -> None:
    assert pick_locale(accept_language, ui_locales, cookie) == expected


def test_pick_locale_does_bounded_work() -> None:
    started = time.perf_counter()
    for hostile in ("en-" * 1_000_000, ";q=0.1" * 500_000, "a," * 1_000_000, "a " * 1_000_000):
        assert pick_locale(hostile, hostile, hostile) in ("en", "zh-CN")
    assert time.perf_counter() - started < 0.5


# -- every page


@pytest.mark.parametrize("locale", ["zh-CN", "en"])
@pytest.mark.parametrize("path", PAGES)
def test_page_keeps_the_promises_of_every_page(book: View, path: str, locale: str) -> None:
    page = page_of(book, path, locale=locale)
    assert page.all("html")[0]["lang"] == locale
    assert len(page.all("h1")) == 1
    ids = page.values("id")
    assert len(ids) == len(set(ids)), "an id stands twice"
    assert set(ids) >= IDS[PAGES[path].template]
    assert "submit" not in [*ids, *page.values("name")]
    for given in page.values("aria-describedby") + page.values("aria-labelledby") + page.values("for"):
        assert set(given.split()) <= set(ids), given
    assert not set(page.values("style")), "the policy forbids inline style"
    assert not [name for _, given in page.elements for name in given if name.startswith("on")]


@pytest.mark.parametrize("path", PAGES)
def test_page_in_english_is_english(book: View, path: str) -> None:
    """Names stay as registered, and are marked as Chinese."""
    text = re.sub(r'<(\w+)[^>]* lang="zh-CN"[^>]*>.*?</\1>', "", page_of(book, path, locale="en").html)
    assert CJK.findall(text) == []


@pytest.mark.parametrize("path", PAGES)
def test_links_and_forms_lead_somewhere(book: View, path: str) -> None:
    page = page_of(book, path)
    for given in page.all("a"):
        href = given["href"]
        if href.startswith("#"):
            assert href[1:] in page.values("id")
        elif href.startswith("https://"):
            assert given["rel"] == "noopener noreferrer"
        else:
            assert href.partition("?")[0] in OWN_PATHS or href == "tel:12345", href
    for attributes, *fields in page.forms:
        assert attributes["action"] in OWN_PATHS
        assert (attributes["method"], attributes["novalidate"]) == ("post", "")
        names = {field.get("name"): field.get("value") for field in fields}
        if attributes["action"] == "/prefs":  # changes nothing but the look
            continue
        assert names["csrf"] == "c5f0"
        if PAGES[path].interaction:
            assert names["interaction"] == PAGES[path].interaction
        assert any(field.get("type") != "button" for field in fields if "type" not in field)


@pytest.mark.parametrize("path", PAGES)
def test_page_and_its_files_are_light(book: View, path: str) -> None:
    page = page_of(book, path)
    files = {*page.values("src"), *(given["href"] for given in page.all("link"))}
    assert len(files) + 1 <= 8
    assert len(page.html.encode()) + sum(len(bytes(book.static_file(file).body)) for file in files) <= 61_440


def test_every_mode_is_a_class_of_the_page(book: View) -> None:
    assert page_of(book, "/login", care=0, theme="light").all("html")[0]["class"] == ""
    assert page_of(book, "/login", care=1, theme="dark").all("html")[0]["class"] == "care t-dark"
    assert page_of(book, "/login", care=2, theme="auto").all("html")[0]["class"] == "care x t-auto"


@pytest.mark.parametrize(("care", "offered"), [(0, {"1"}), (1, {"2", "0"}), (2, {"0"})])
def test_every_step_of_large_print_can_be_reached(book: View, care: int, offered: set[str]) -> None:
    buttons = page_of(book, "/login", care=care).all("button")
    assert {given["value"] for given in buttons if given.get("name") == "care"} == offered


def test_display_form_leads_back_and_changes_the_language(book: View) -> None:
    page = page_of(book, "/acting", locale="en")
    _, *fields = next(form for form in page.forms if form[0]["action"] == "/prefs")
    assert {"name": "back", "value": "/acting", "type": "hidden"} in fields
    assert next(field for field in fields if field.get("name") == "lang")["value"] == "zh"


# -- headers


@pytest.mark.parametrize("path", ["/login", "/consent", "/acting", "/logout", "/account", "/logged-out"])
def test_headers_of_a_page(book: View, path: str) -> None:
    headers = render(book, path, locale="en").headers
    csp = headers["content-security-policy"]
    assert csp.startswith(view.CSP)
    assert ("form-action 'self'" in csp) != PAGES[path].leads_to_client
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["content-language"] == "en"
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert "camera=()" in headers["permissions-policy"]
    assert "max-age" in headers["strict-transport-security"]


def test_strict_transport_is_for_https_only() -> None:
    local = View(issuer="http://127.0.0.1:8000", production=False)
    assert "strict-transport-security" not in render(local, "/login").headers


def test_issuer_with_a_path_prefixes_every_address() -> None:
    below = View(issuer="https://example.gov.cn/id", production=False)
    page = page_of(below, "/login")
    addresses = [*page.values("action"), *page.values("src"), *page.values("href")]
    assert {address for address in addresses if not address.startswith(("/id/", "#", "tel:"))} == set()
    assert below.url("/login", kind="org", interaction="") == "/id/login?kind=org"


# -- static files


@pytest.mark.parametrize("name", [file.name for file in STATIC])
def test_static_file_is_served_under_its_hashed_name_only(book: View, name: str) -> None:
    path = book.asset(name)
    assert re.fullmatch(r"/static/\w+\.[0-9a-f]{8}\.(css|js|svg)", path)
    response = book.static_file(path)
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["content-type"].split(";")[0] in ("text/css", "text/javascript", "image/svg+xml")
    assert response.body == (ROOT / "static" / name).read_bytes()
    for wrong in (f"/static/{name}", path + "/", path.replace("/static/", "/static/../static/"), path.upper()):
        with pytest.raises(NotFound):
            book.static_file(wrong)


def test_style_and_script_suit_old_browsers() -> None:
    too_new = re.compile(r":is\(|:where|:has|(?<![-\w])gap:|color-mix|@layer|aspect-ratio|inset:|clamp\(|url\(")
    assert too_new.search("a { gap: 1px }")
    script = re.compile(r"\?\.|\?\?|\basync\b|\bawait\b|\bimport\b|\beval\b|new Function")
    for file in STATIC:
        text = re.sub(r"(?s)/\*.*?\*/", "", file.read_text())
        if file.suffix != ".svg":
            assert (too_new if file.suffix == ".css" else script).findall(text) == [], file.name


# -- single pages


def test_text_from_outside_is_escaped(book: View) -> None:
    evil = '"><script>alert(1)</script>'
    shown = LoginPage(
        requester=type(FUND)(name=evil, level=0, host=evil),
        kind="org",
        identifier=evil,
        organization=evil,
        error="login_failed",
        own_address=evil,
    )
    page = show(book, "login.html", shown, interaction=evil, here=evil, csrf=evil)
    assert len(page.all("script")) == 1
    assert page.by_id("login-identifier")["value"] == evil
    assert "&lt;script&gt;" in page.html


def test_login_failure_is_announced_at_the_top_and_at_the_field(book: View) -> None:
    page = page_of(book, "/login/failed")
    assert "<title>错误：登录 - 一门</title>" in page.html
    field = page.by_id("login-identifier")
    assert field["aria-invalid"] == "true"
    assert field["aria-describedby"] == "login-identifier-hint login-identifier-error"
    assert field["value"] == "138 0000 0000"
    assert "value" not in page.by_id("login-password")
    assert page.html.count(words.LOGIN_ERRORS["login_failed"].text) == 2
    assert page.html.index('class="sum"') < page.html.index("<h1>")


@pytest.mark.parametrize("key", words.LOGIN_ERRORS)
def test_login_error_points_at_a_field_that_is_there(book: View, key: str) -> None:
    page = show(book, "login.html", LoginPage(requester=None, kind="org", error=key, own_address="x"))
    assert f"#{words.LOGIN_ERRORS[key].field}" in page.values("href")
    assert words.LOGIN_ERRORS[key].field in page.values("id")


def test_login_says_why_one_is_asked_again(book: View) -> None:
    assert words.LOGIN_REASONS["prompt_login"] in page_of(book, "/login/again").html
    assert words.LOGIN_REASONS["max_age"] in page_of(book, "/login/old").html
    assert "本次需实名三级" in page_of(book, "/login").html
    assert "本次需实名" not in page_of(book, "/login/again").html


def test_consent_leaves_optional_items_unticked_and_links_to_web_pages_only(book: View) -> None:
    page = page_of(book, "/consent/organization")
    boxes = [given for given in page.all("input") if given.get("type") == "checkbox"]
    assert [(box["name"], box["value"], "checked" in box) for box in boxes] == [("scope", "phone", False)]
    assert "client-policy" in page.values("id")
    assert "client-tos" not in page.values("id"), "javascript: is no web page"
    assert {given["value"] for given in page.all("button") if given.get("name") == "decision"} == {
        "approve",
        "deny",
    }


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", " https://a", "//a", "HTTPS://a", ""])
def test_consent_links_no_strange_address(book: View, address: str) -> None:
    page = show(book, "consent.html", consent(policy_uri=address, tos_uri=address).page)
    assert not {"client-policy", "client-tos"} & set(page.values("id"))


def test_consent_shows_the_logo_from_our_own_address(book: View) -> None:
    page = show(book, "consent.html", consent(logo="/logos/1.png").page)
    assert page.by_id("client-logo")["src"] == "/logos/1.png"


@pytest.mark.parametrize("scope", SCOPES)
def test_consent_has_words_for_every_scope(book: View, scope: str) -> None:
    page = show(book, "consent.html", consent(items=[ConsentItem(scope=scope, value="*")]).page)
    assert words.SCOPES[scope].label in page.html
    assert words.SCOPES[scope].why in page.html


def test_acting_preselects_only_what_was_typed_at_sign_in(book: View) -> None:
    radios = [given for given in page_of(book, "/acting").all("input") if given.get("type") == "radio"]
    assert [radio["value"][-4:] for radio in radios] == ["self", "0001", "0002"]
    assert not [radio for radio in radios if "checked" in radio]
    chosen = [given for given in page_of(book, "/acting/chosen").all("input") if "checked" in given]
    assert len(chosen) == 1
    assert chosen[0]["value"] != "self"


def test_acting_shows_an_expired_mandate_without_a_radio(book: View) -> None:
    page = page_of(book, "/acting")
    expired = next(choice for choice in acting().page.organizations if choice.expired)
    assert expired.id not in page.html
    assert expired.name in page.html
    assert "授权已过期" in page.html
    assert "请法定代表人续期" in page.html


def test_logout_form_carries_its_parameters(book: View) -> None:
    _, *fields = next(form for form in page_of(book, "/logout").forms if form[0].get("id") == "logout-form")
    assert {"type": "hidden", "name": "state", "value": "a"} in fields
    assert [f["value"] for f in fields if f.get("name") == "decision"] == ["logout", "stay"]


def test_logged_out_tells_the_state_of_each_service(book: View) -> None:
    html = page_of(book, "/logged-out").html
    for state in words.SERVICE_STATES.values():
        assert state.label in html


@pytest.mark.parametrize("key", words.ERRORS)
def test_error_page_names_code_and_reference(book: View, key: str) -> None:
    html = page_of(book, f"/error/{key}").html
    assert f'<code id="error-code">{key}</code>' in html
    assert '<code id="error-trace-id">7f3a-91c2-0b4e</code>' in html
    assert words.ERRORS[key].steps


def test_error_is_the_same_for_unknown_client_and_wrong_address() -> None:
    assert words.ERRORS["client_unknown"] == words.ERRORS["redirect_uri_mismatch"]


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_account_marks_one_of_five_levels(book: View, level: int) -> None:
    shown = AccountPage(name="张*例", number="", type="", phone="", level=level, since=0)
    page = show(book, "account.html", shown)
    rungs = [given for given in page.all("li") if given.get("class") in ("on", "past")]
    assert [given["class"] for given in rungs] == ["past"] * (level - 1) + ["on"]
    assert page.html.count('<i class="on"></i>') == level


def test_sessions_end_others_but_not_this_one(book: View) -> None:
    page = page_of(book, "/account/sessions")
    ended = [given["value"] for given in page.all("input") if given.get("name") == "session"]
    current = next(row for row in PAGES["/account/sessions"].page.sessions if row.current)
    assert len(ended) == 2
    assert current.id not in ended
    assert [given["value"] for given in page.all("button") if given.get("name") == "all"] == ["1"]
    assert "end-others-form" not in page_of(book, "/account/sessions/one").values("id")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "1970-01-01 08:00"), (1_795_305_120, "2026-11-22 07:52"), (1_795_363_199, "2026-11-22 23:59")],
)
def test_time_is_beijing_time(seconds: int, shown: str) -> None:
    assert view.show_time(seconds) == shown
    assert view.show_date(seconds) == shown[:10]
