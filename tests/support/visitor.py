"""A browser without a screen: cookies, redirects, forms. Enough to walk the pages, strict enough to notice faults."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx2

from tests.support import spill

REDIRECT_URI = "https://rp.example.test/cb"
PLAIN: Any = {"trust_env": False, "verify": False}  # plain http: to read all trust anchors takes 20 ms a call


@dataclass
class Form:
    id: str
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    radios: dict[str, list[str]] = field(default_factory=dict)
    buttons: dict[str, tuple[str, str]] = field(default_factory=dict)


class Forms(HTMLParser):
    """The forms of a page, and the ids of all elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: dict[str, Form] = {}
        self.ids: set[str] = set()
        self.texts: dict[str, str] = {}
        self._form: Form | None = None
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids.add(given["id"])
            self._inside = given["id"]
        if tag == "form":
            name = given.get("id") or given.get("action", "")
            self._form = Form(name, given.get("action", ""), given.get("method", "get").lower())
            self.forms.setdefault(name, self._form)
        elif self._form is not None and tag == "input":
            self._input(self._form, given)
        elif self._form is not None and tag == "button":
            self._form.buttons[given.get("id", given.get("value", ""))] = (
                given.get("name", ""),
                given.get("value", ""),
            )

    @staticmethod
    def _input(form: Form, given: dict[str, str]) -> None:
        name, kind = given.get("name", ""), given.get("type", "text")
        if kind == "radio":
            form.radios.setdefault(name, []).append(given.get("value", "on"))
            if "checked" in given:
                form.fields[name] = given.get("value", "on")
        elif kind != "checkbox" or "checked" in given:
            form.fields[name] = given.get("value", "")

    def handle_data(self, data: str) -> None:
        if self._inside and data.strip():
            self.texts.setdefault(self._inside, data.strip())
            self._inside = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None


class Visitor:
    """One browser. `walk` follows redirects and stops where one leaves the server."""

    def __init__(self, base: str, http: httpx2.Client | None = None) -> None:
        """`http` keeps connections open and may know a certificate; without it every request has its own connection."""
        self.base, self.cookies, self.http = base, dict[str, str](), http
        self.page: httpx2.Response | None = None
        self.trail: list[tuple[str, str, int]] = []

    def send(self, method: str, url: str, **options: Any) -> httpx2.Response:
        headers = dict(options.pop("headers", {}))
        if self.cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if self.http is None:
            answer = httpx2.request(method, url, headers=headers, timeout=20, **PLAIN, **options)
        else:
            answer = self.http.request(method, url, headers=headers, **options)
            self.http.cookies.clear()  # the jar is ours
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            if "max-age=0" in line.lower():
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        self.trail.append((method, url, answer.status_code))
        spill.saw(f"location {method} {answer.status_code}", answer.headers.get("location", ""))
        for name, value in self.cookies.items():
            if name.startswith("__Host-"):
                spill.remember("cookie", value)
        return answer

    def walk(self, url: str, method: str = "GET", **options: Any) -> httpx2.Response:
        """The page or the redirect at which the walk ends."""
        answer = self.send(method, urljoin(self.base, url), **options)
        for _ in range(10):
            location = answer.headers.get("location")
            if location is None or not location.startswith(self.base):
                break
            answer = self.send("GET", location)
        self.page = answer
        return answer

    @property
    def seen(self) -> Forms:
        assert self.page is not None
        return Forms(self.page.text)

    def submit(self, form_id: str, button: str = "", **values: str) -> httpx2.Response:
        """Send a form of the page with some fields filled in."""
        assert self.page is not None
        form = self.seen.forms[form_id]
        data = {**form.fields, **values}
        if button:
            name, value = form.buttons[button]
            data |= {name: value} if name else {}
        return self.walk(urljoin(str(self.page.url), form.action), form.method.upper(), data=data)


def answer_of(response: httpx2.Response) -> dict[str, str]:
    """The parameters of a redirect to a relying party."""
    assert response.status_code == 303, (response.status_code, response.text[:300])
    answer = {name: values[0] for name, values in parse_qs(urlsplit(response.headers["location"]).query).items()}
    spill.remember("code", answer.get("code", ""))
    return answer


@dataclass
class Rp:
    """A relying party that only speaks the protocol."""

    server: str
    client_id: str
    client_secret: str
    redirect_uri: str = REDIRECT_URI
    verifier: str = ""

    def authorize_url(self, **changes: str | None) -> str:
        self.verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        parameters: dict[str, str | None] = {
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "response_type": "code",
            "scope": "openid profile email offline_access",
            "state": "st-1",
            "nonce": "n-1",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **changes,
        }
        given = {name: value for name, value in parameters.items() if value is not None}
        return f"{self.server}/authorize?{urlencode(given)}"

    def post(self, path: str, data: dict[str, str], **options: Any) -> httpx2.Response:
        options.setdefault("auth", (self.client_id, self.client_secret))
        answer = httpx2.post(f"{self.server}{path}", data=data, timeout=20, **PLAIN, **options)
        if answer.status_code >= 400:
            spill.saw(f"error of {path}", answer.text)
        elif path == "/token" and answer.status_code == 200:
            given = answer.json()
            spill.remember("token", *(given[name] for name in ("access_token", "refresh_token") if name in given))
        return answer

    def redeem(self, code: str, **changes: str) -> httpx2.Response:
        data = {"grant_type": "authorization_code", "code": code, "redirect_uri": self.redirect_uri}
        return self.post("/token", {**data, "code_verifier": self.verifier, **changes})

    def refresh(self, token: str, **changes: str) -> httpx2.Response:
        return self.post("/token", {"grant_type": "refresh_token", "refresh_token": token, **changes})

    def userinfo(self, token: str) -> httpx2.Response:
        headers = {"authorization": f"Bearer {token}"}
        return httpx2.get(f"{self.server}/userinfo", headers=headers, timeout=20, **PLAIN)


def sign_in(visitor: Visitor, url: str, number: str, password: str, *, acting: str = "self") -> dict[str, str]:
    """Walk from an authorization request through whatever pages come; the parameters of the final redirect."""
    answer = visitor.walk(url)
    for _ in range(4):
        forms = visitor.seen.forms if answer.status_code in (200, 400) else {}
        if "login-form" in forms:
            answer = visitor.submit("login-form", identifier=number, password=password)
        elif "acting-form" in forms:
            answer = visitor.submit("acting-form", acting_for=acting)
        elif "consent-form" in forms:
            answer = visitor.submit("consent-form", "consent-approve")
        else:
            break
    return answer_of(answer)
