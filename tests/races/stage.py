"""What a race needs: a person with a session, a client, and the requests of both as bytes."""

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from sqlalchemy import func, select

from clients import registry
from idp import accounts, sessions
from idp.authn import password
from idp.context import Context
from idp.http import csrf
from idp.http.request import Request
from idp.http.response import BROWSER_COOKIE, SESSION_COOKIE, new_browser
from idp.models import Account, AuditRecord, Grant, SignOn
from tests.support.citizen import PASSWORD
from tests.support.context import agree, new_person
from tests.support.servers import YimenServer
from tests.support.visitor import REDIRECT_URI
from tests.support.wire import Answer, Barrier, request

SCOPE = "openid profile offline_access"
AFTER_LOGOUT = "https://rp.example.test/bye"
METADATA = {
    "client_name": "公积金",
    "redirect_uris": [REDIRECT_URI],
    "grant_types": ["authorization_code", "refresh_token"],
    "post_logout_redirect_uris": [AFTER_LOGOUT],
    "backchannel_logout_uri": "http://127.0.0.1:9/logout",
}


class Stage:
    """A running server, a context on its stores, and fifty connections. `renew` brings a new person and client."""

    def __init__(self, server: YimenServer, context: Context, barrier: Barrier) -> None:
        self.server, self.url, self.context, self.barrier = server, server.url, context, barrier
        self.account = self.session = UUID(int=0)
        self.number = self.client_id = self.secret = ""
        self.cookies: dict[str, str] = {}

    def renew(self) -> None:
        """A person with a password and a client; then as `sign_in`."""
        with self.context.database.session() as db:
            made = registry.create(self.context, db, metadata=METADATA)
            account = new_person(self.context, db)
            password.set_password(self.context, db, account, PASSWORD)
            self.account, self.client_id, self.secret = account.id, made.client.id, made.secret or ""
            self.number = accounts.reveal(self.context, db, account).number
        self.sign_in()

    def sign_in(self) -> None:
        """A new session of the person in a new browser, and the consent to everything the client asks."""
        with self.context.database.session() as db:
            account = accounts.get(db, self.account)
            started, handle = sessions.start(self.context, db, account, sessions.Proof(3, ("pwd",)))
            self.terms = agree(self.context, db, self.account, self.client_id, SCOPE).hex()
            self.session = started.id
        self.cookies = {SESSION_COOKIE: handle, BROWSER_COOKIE: new_browser()}

    # --- requests

    def ask(self, raw: bytes) -> Answer:
        """The answer to a single request."""
        return self.barrier.lines[0].ask(raw)

    def get(self, path: str, **parameters: str) -> bytes:
        return request("GET", f"{self.url}{path}?{urlencode(parameters)}", cookies=self.cookies)

    def post(self, path: str, about: str = "", **form: str) -> bytes:
        """One of our own forms, made for this browser and its session."""
        fields = {"csrf": self.form_value(about), **form}
        if about:
            fields["interaction"] = about
        return request("POST", self.url + path, form=fields, cookies=self.cookies)

    def form_value(self, about: str = "") -> str:
        seen = Request(method="GET", path="/", cookies=self.cookies)
        return csrf.form_token(self.context, seen, about)

    def authorize(self, **changes: str) -> bytes:
        parameters = {
            "client_id": self.client_id,
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "scope": SCOPE,
            "state": "st",
            "nonce": "n",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        return self.get("/authorize", **{**parameters, **changes})

    def pause(self, **changes: str) -> str:
        """The id of a paused interaction of this browser, whose page was shown."""
        asked = self.ask(self.authorize(**changes))
        assert self.ask(request("GET", asked.headers["location"], cookies=self.cookies)).status == 200
        return asked.query["interaction"]

    def code(self) -> str:
        return self.ask(self.authorize()).query["code"]

    def redeem(self, code: str, verifier: str = "") -> bytes:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT_URI}
        return self._token({**form, "code_verifier": verifier or VERIFIER})

    def tokens(self) -> dict[str, Any]:
        answer = self.ask(self.redeem(self.code()))
        assert answer.status == 200, answer
        return answer.json

    def refresh(self, token: str) -> bytes:
        return self._token({"grant_type": "refresh_token", "refresh_token": token})

    def revoke(self, token: str) -> bytes:
        return self._token({"token": token}, "/revoke")

    def _token(self, form: Mapping[str, str], path: str = "/token") -> bytes:
        return request("POST", self.url + path, form=form, basic=(self.client_id, self.secret))

    def userinfo(self, token: str) -> bytes:
        return request("GET", f"{self.url}/userinfo", bearer=token)

    # --- what the stores say

    def events(self, event: str) -> int:
        """How often something was recorded about this person."""
        with self.context.database.session(write=False) as db:
            wanted = AuditRecord.event == event, AuditRecord.account_id == self.account
            return db.scalar(select(func.count()).select_from(AuditRecord).where(*wanted)) or 0

    def living(self) -> tuple[int, int]:
        """How many sessions and grants of this person are in force."""
        with self.context.database.session(write=False) as db:
            signed_on = select(func.count()).select_from(SignOn).where(
                SignOn.account_id == self.account, SignOn.ended_at.is_(None)
            )  # fmt: skip
            grants = select(func.count()).select_from(Grant).where(
                Grant.account_id == self.account, Grant.revoked_at.is_(None)
            )  # fmt: skip
            return db.scalar(signed_on) or 0, db.scalar(grants) or 0

    def account_in(self, db: Any) -> Account:
        return accounts.get(db, self.account)


VERIFIER = secrets.token_urlsafe(48)
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


def codes_of(answers: Iterable[Answer]) -> list[str]:
    return [answer.query["code"] for answer in answers if "code" in answer.query]
