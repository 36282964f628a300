"""View: renders a page in one of the languages, with the response headers that every page carries."""

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from idp.pages import words
from idp.pages.assets import Assets
from idp.pages.catalogue import LOCALES, Catalogue, catalogue, pick_locale, translate
from idp.pages.words import ERRORS

__all__ = ["ERRORS", "View", "pick_locale", "translate"]

TEMPLATES = Path(__file__).parent / "templates"
BEIJING = timezone(timedelta(hours=8))  # no summer time since 1991
HAN = range(0x2E80, 0x40000)  # every block of Han signs and their punctuation lies in here
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
MODES = {"light": "", "dark": "t-dark", "auto": "t-auto"}
PRINTS = {0: "", 1: "care", 2: "care x"}  # standard, large, largest


class View:
    """One for each process; it may be used by many threads at once."""

    def __init__(self, *, issuer: str, production: bool) -> None:
        self._prefix = urlsplit(issuer).path.rstrip("/")
        self._headers = dict(HEADERS)
        if issuer.startswith("https://"):
            self._headers["Strict-Transport-Security"] = "max-age=63072000; includeSubDomains"
        self.assets = Assets()
        self._environments = {locale: self._environment(locale, not production) for locale in LOCALES}

    def render(
        self,
        name: str,
        *,
        locale: str,
        care: int,
        theme: str,
        here: str,
        csrf: str,
        leads_to_client: bool = False,
        status: int = 200,
        **values: Any,
    ) -> HTMLResponse:
        """A page. `care` is the step of large print 0 to 2, `theme` light, dark or auto; `here` is the path that
        the display form leads back to. `leads_to_client` is for pages whose form may end at a relying party.
        """
        shown = {
            "interaction": "",
            "locale": locale,
            "care": care,
            "theme": theme,
            "modes": " ".join(word for word in (PRINTS[care], MODES[theme]) if word),
            "here": here,
            "csrf": csrf,
            "failed": bool(getattr(values.get("page"), "error", "")),
            **values,
        }
        body = self._environments[locale].get_template(name).render(shown)
        # a form-action of 'self' would stop the redirect that answers such a form (browsers follow it there)
        csp = CSP if leads_to_client else f"{CSP}; form-action 'self'"
        headers = {**self._headers, "Content-Security-Policy": csp, "Content-Language": locale}
        return HTMLResponse(body, status, headers)

    def static_file(self, path: str) -> Response:
        """The file at a path below the issuer. Raises NotFound unless `asset` gave that path."""
        return self.assets.respond(path)

    def url(self, path: str, **query: str) -> str:
        """A path below the issuer as a browser must call it; empty values of the query are left out."""
        given = {name: value for name, value in query.items() if value}
        return self._prefix + path + (f"?{urlencode(given)}" if given else "")

    def asset(self, name: str) -> str:
        """`base.css` -> `/static/base.3f2a91c0.css` below the issuer."""
        return self.url(self.assets.path(name))

    def _environment(self, locale: str, reload: bool) -> Environment:
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[Tight],
            auto_reload=reload,
        )
        texts = catalogue(locale)
        environment.globals.update(
            _=lambda msgid, **values: _filled(texts.text(msgid), values),
            ngettext=lambda one, many, count, **values: _counted(texts, one, count, values),
            url=self.url,
            asset=self.asset,
            words=words,
            lang_of=lambda text: Markup(' lang="zh-CN"') if locale == "en" and _is_chinese(text) else "",
        )
        environment.filters.update(time=show_time, date=show_date)
        environment.tests["web"] = is_web
        return environment


class Tight(Extension):
    """Leaves out the indentation before tags: pages are a tenth smaller, and an error page stays below 2 KB."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        return re.sub(r"(?m)^[ \t]+(?=<)", "", source)


def _filled(text: str, values: dict[str, Any]) -> Markup:
    """A text of the catalogue with its places filled in; what is filled in gets escaped."""
    return Markup(text) % values  # catalogue texts hold no markup, which a test proves


def _counted(texts: Catalogue, one: str, count: int, values: dict[str, Any]) -> Markup:
    return _filled(texts.plural(one, count), {"count": count, **values})


def _is_chinese(text: str) -> bool:
    return any(ord(sign) in HAN for sign in text)


def show_time(seconds: int) -> str:
    """Epoch seconds -> `2026-11-22 08:12`, Beijing time."""
    return datetime.fromtimestamp(seconds, BEIJING).strftime("%Y-%m-%d %H:%M")


def show_date(seconds: int) -> str:
    """Epoch seconds -> `2026-11-22`, the day in Beijing."""
    return show_time(seconds)[:10]


def is_web(address: str) -> bool:
    """Whether a link to this address is one to a web page, and no script in disguise."""
    return address.startswith(("https://", "http://"))
