"""A load of people and relying parties with a ledger: every answer that was not the right one is written down.

Each thread is one person with one relying party: login, token, userinfo, refresh, and every ID token verified with
cached keys, which are fetched anew for an unknown `kid` only.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx2
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import extract_compact

from tests.support.citizen import Citizen
from tests.support.visitor import Rp, Visitor, sign_in

REFRESHES = 4  # for each login


@dataclass
class Ledger:
    """What was asked, what went wrong, and which ID tokens were given; shared by all threads."""

    done: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    id_tokens: list[str] = field(default_factory=list)
    longest: float = 0.0

    def note(self, act: str, seconds: float) -> None:
        self.done[act] += 1
        self.longest = max(self.longest, seconds)

    def fail(self, act: str, what: str) -> None:
        self.failures.append(f"{time.strftime('%H:%M:%S')} {act}: {what}")

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {act}" for act, count in sorted(self.done.items()))
        return f"{counts}; longest {self.longest:.2f} s; {len(self.failures)} failures {self.failures[:5]}"


class Keys:
    """The published keys of a server as one relying party caches them."""

    def __init__(self, url: str, http: httpx2.Client) -> None:
        self._url, self._http = url, http
        self._kids: set[str] = set()
        self._set: Any = None

    def verify(self, token: str, audience: str) -> str:
        """What is wrong with an ID token, "" when nothing is."""
        kid = _header_of(token)["kid"]
        if kid not in self._kids:
            self.fetch()
        if kid not in self._kids:
            return f"kid {kid} is not published"
        try:
            claims = jwt.decode(token, self._set, algorithms=["ES256", "RS256"]).claims
        except JoseError as error:
            return f"kid {kid}: {error}"
        return "" if (claims["iss"], claims["aud"]) == (self._url, audience) else "not for us"

    def fetch(self) -> None:
        document = self._http.get(f"{self._url}/jwks").json()
        self._kids = {key["kid"] for key in document["keys"]}
        self._set = KeySet.import_key_set(document)


def _header_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = extract_compact(token.encode()).protected
    return found


class Load:
    """A context manager that keeps `threads` pairs of a person and a relying party busy.

    `connect` makes the HTTP client of a thread; connections stay open between requests.
    """

    def __init__(
        self, url: str, citizen: Citizen, rp: Rp, *, connect: Callable[[], httpx2.Client], threads: int = 4
    ) -> None:
        self.url, self.citizen, self.rp = url, citizen, rp
        self.ledger = Ledger()
        self._connect, self._ending = connect, threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self) -> None:
        with self._connect() as http:
            keys = Keys(self.url, http)
            while not self._ending.is_set():
                try:
                    self._session(http, keys)
                except Exception as error:  # whatever goes wrong is a failure, and the next person comes
                    self.ledger.fail("session", f"{type(error).__name__}: {error}"[:500])

    def _session(self, http: httpx2.Client, keys: Keys) -> None:
        rp = Rp(self.url, self.rp.client_id, self.rp.client_secret)
        began = time.monotonic()
        answer = sign_in(Visitor(self.url, http), rp.authorize_url(), self.citizen.number, self.citizen.password)
        self.ledger.note("login", time.monotonic() - began)
        data = {"grant_type": "authorization_code", "code": answer["code"], "code_verifier": rp.verifier}
        tokens = self._token(http, keys, rp, {**data, "redirect_uri": rp.redirect_uri})
        for _ in range(REFRESHES):
            if tokens is None:
                return
            headers = {"authorization": f"Bearer {tokens['access_token']}"}
            self._ask(http, "userinfo", "GET", "/userinfo", headers=headers)
            data = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
            tokens = self._token(http, keys, rp, data)

    def _token(self, http: httpx2.Client, keys: Keys, rp: Rp, data: dict[str, str]) -> dict[str, Any] | None:
        auth = (rp.client_id, rp.client_secret)
        tokens = self._ask(http, data["grant_type"], "POST", "/token", data=data, auth=auth)
        if tokens is None:
            return None
        if wrong := keys.verify(tokens["id_token"], rp.client_id):
            self.ledger.fail("verification", wrong)
        self.ledger.note("verification", 0)
        self.ledger.id_tokens.append(tokens["id_token"])
        return tokens

    def _ask(self, http: httpx2.Client, act: str, method: str, path: str, **options: Any) -> dict[str, Any] | None:
        began = time.monotonic()
        response = http.request(method, self.url + path, **options)
        self.ledger.note(act, time.monotonic() - began)
        if response.status_code != 200:
            self.ledger.fail(act, f"{response.status_code} {response.text[:200]}")
            return None
        found: dict[str, Any] = response.json()
        return found
