"""Visitor: the person in front of a page, with display choices, session and paused request; and how to show a page."""

import functools
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio.from_thread
from sqlalchemy.orm import Session
from starlette.responses import Response

from idp import sessions
from idp.context import Context
from idp.errors import InteractionExpired, InvalidInput
from idp.http import csrf
from idp.http.request import Request
from idp.http.response import SESSION_COOKIE
from idp.models import Account, SignOn
from idp.oidc import interaction
from idp.oidc.authorize import CONTINUE, browser_hash, touch
from idp.oidc.client import RelyingParty
from idp.oidc.interaction import Interaction
from idp.oidc.logout import find_client
from idp.pages.values import Requester
from idp.pages.view import View, pick_locale

# Display choices carry no authority, so their cookies have plain names that a kiosk's image may preset.
OUR_PATH, OUR_VALUE = re.compile(r"/[a-z/-]{0,60}"), re.compile(r"[A-Za-z0-9_-]{1,64}")
KEPT = ("interaction", "kind", "session", "client", "before")  # of a page's address when language or print changes
CARE, LANG, THEME = "yimen_care", "yimen_lang", "yimen_theme"


@functools.cache
def view_of(issuer: str, production: bool) -> View:
    """One View for each process."""
    return View(issuer=issuer, production=production)


@dataclass(frozen=True, slots=True)
class Visitor:
    """One request to a page."""

    context: Context
    request: Request
    asked: Interaction | None = None

    @property
    def view(self) -> View:
        return view_of(self.context.config.issuer, self.context.config.production)

    @property
    def locale(self) -> str:
        wanted = self.asked.ui_locales if self.asked else self.request_value("ui_locales")
        cookie = self.request.cookies.get(LANG, "")
        return pick_locale(self.request.header("accept-language"), wanted, cookie)

    def request_value(self, name: str) -> str:
        """A value of the request, "" when absent or malformed: for choices that must never break a page."""
        try:
            return self.request.value(name)
        except InvalidInput:
            return ""

    @property
    def about(self) -> str:
        """What this visitor's forms are about: a form of one request cannot be used for another."""
        return self.asked.id if self.asked else ""

    def show(self, name: str, *, status: int = 200, leads_to_client: bool = False, **values: Any) -> Response:
        """A page in the visitor's language and print."""
        care = self.request.cookies.get(CARE, "0")
        theme = self.request.cookies.get(THEME, "auto")
        return self.view.render(
            name,
            locale=self.locale,
            care=int(care) if care in ("0", "1", "2") else 0,
            theme=theme if theme in ("light", "dark", "auto") else "auto",
            here=self.here,
            csrf=csrf.form_token(self.context, self.request, self.about),
            leads_to_client=leads_to_client,
            status=status,
            interaction=self.about,
            **values,
        )

    @property
    def here(self) -> str:
        """Where this page is, for the way back after changing language or print; what cannot be ours is left out."""
        kept = [(name, value) for name, value in self.request.query if name in KEPT]
        if self.request.method == "POST" and self.asked:
            kept = [("interaction", self.asked.id)]
        query = "&".join(f"{name}={value}" for name, value in dict(kept).items() if OUR_VALUE.fullmatch(value))
        path = self.request.path if OUR_PATH.fullmatch(self.request.path) else "/"
        return path + (f"?{query}" if query else "")

    def require_own_form(self) -> None:
        """Raise CsrfFailed unless the posted form was made for this browser, session and request."""
        csrf.require_form_token(self.context, self.request, self.about)

    def signed_in(self, db: Session) -> tuple[SignOn, Account] | None:
        return sessions.find_live(self.context, db, self.request.cookies.get(SESSION_COOKIE, ""))

    def must_be_signed_in(self, db: Session) -> tuple[SignOn, Account]:
        """As `signed_in`, for pages in the middle of a request. Raises InteractionExpired when nobody is."""
        found = self.signed_in(db)
        if found is None:
            raise InteractionExpired(detail="no session")
        return found

    def in_use(self, session: SignOn) -> None:
        """Note that the person is here. Only for pages that read: a page that writes holds SQLite's one writer."""
        anyio.from_thread.run(touch, self.context, session.id, session.last_seen_at)


def meet(context: Context, request: Request) -> Visitor:
    """The visitor, with the paused request that the address or the form names, if it names one.

    Raises InteractionExpired when that is gone or belongs to another browser.
    """
    interaction_id = request.value("interaction")
    if not interaction_id:
        return Visitor(context, request)
    asked = anyio.from_thread.run(interaction.load, context, interaction_id, browser_hash(request))
    return Visitor(context, request, asked)


def meet_with_request(context: Context, request: Request) -> tuple[Visitor, Interaction]:
    """As `meet`, for pages that make no sense without a paused request."""
    visitor = meet(context, request)
    if visitor.asked is None:
        raise InteractionExpired()
    return visitor, visitor.asked


def save(visitor: Visitor, asked: Interaction) -> None:
    """Keep the progress of a paused request. Raises InteractionExpired when it was used up meanwhile."""
    anyio.from_thread.run(interaction.keep, visitor.context, asked)


def next_step(context: Context, asked: Interaction) -> str:
    """Where the browser goes on with a paused request."""
    return context.url(f"{CONTINUE}?interaction={asked.id}")


def requester(visitor: Visitor, asked: Interaction, db: Session) -> tuple[Requester, RelyingParty]:
    """Who asks, for the line at the top of a page. Raises InteractionExpired when the client is gone."""
    party = find_client(visitor.context, db, asked.client_id)
    if party is None or not party.active:
        raise InteractionExpired(detail="client")
    host = urlsplit(asked.redirect_uri).hostname or urlsplit(asked.redirect_uri).scheme
    needed = min(asked.requested.levels, default=0)
    return Requester(name=party.name(visitor.locale), level=needed, host=host), party
