"""A steady mixed load that speaks the protocol: many browsers and relying parties at once, every answer in a ledger.

One flow signs in with a password, authorizes again and again with its session, redeems codes, refreshes in chains,
asks userinfo, revokes some families, and signs out. It behaves as honest clients do: after 503 or a lost answer the
same request comes again.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2

from tests.support.citizen import Citizen
from tests.support.ledger import Code, Family, Ledger, Login
from tests.support.visitor import Forms, Rp

PATIENCE = 30.0  # seconds after which a client gives up on an answer: a hang guard
PROGRESS_SECONDS = 120.0  # the same for a load that gets nowhere
TRIES = 8
PAGES = ("authorize", "login", "consent", "logout")


class Stopped(Exception):
    """The load is over."""


class Load:
    """`via` are the addresses that requests really go to, by turns; the issuer stays what the server says it is."""

    def __init__(
        self,
        citizens: Sequence[Citizen],
        rp: Rp,
        ledger: Ledger,
        *,
        via: Sequence[str] = (),
        flows: int = 12,
        rate: float = 60,
    ) -> None:
        self._citizens, self._rp, self.ledger = citizens, rp, ledger
        self.via = list(via) or [rp.server]
        self._flows, self._pause, self._next = flows, 1 / rate, 0.0
        self._running = False
        self._client = httpx2.AsyncClient(timeout=PATIENCE, trust_env=False)
        self._random = random.Random(7)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        """The load runs inside; every flow has finished its request when this is left."""
        self._running = True
        tasks = [asyncio.create_task(self._flow(number)) for number in range(self._flows)]
        try:
            yield self
        finally:
            self._running = False
            for done in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(done, BaseException):
                    raise done

    async def close(self) -> None:
        await self._client.aclose()

    async def progress(self, families: int = 6) -> None:
        """Return when so many more grants were acknowledged: the load is under way, however slow the machine."""
        enough = len(self.ledger.families) + families
        async with asyncio.timeout(PROGRESS_SECONDS):
            while len(self.ledger.families) < enough:
                await asyncio.sleep(0.05)

    # --- one request

    async def send(
        self, flow: int, kind: str, method: str, url: str, *, thing: str = "", **options: Any
    ) -> httpx2.Response | None:
        """The answer, None when none came. `url` is an address of the issuer. Flow -1 is the reckoning, unpaced."""
        if flow >= 0:
            await self._turn()
        entry = self.ledger.begin(flow, kind, thing)
        # A person stays at one server, as an in-process store demands; a relying party may meet any of them.
        base = self.via[(flow if kind in PAGES else entry.id) % len(self.via)]
        headers = {"host": urlsplit(self._rp.server).netloc, **options.pop("headers", {})}
        try:
            answer = await self._client.request(
                method, base + url.removeprefix(self._rp.server), headers=headers, **options
            )
        except httpx2.HTTPError:
            self.ledger.finish(entry, 0)
            return None
        self.ledger.finish(entry, answer.status_code, answer.content, answer.headers.get("retry-after", ""))
        return answer

    async def _turn(self) -> None:
        """Wait for the next place in the steady stream. Raises Stopped when the load is over."""
        now = time.monotonic()
        self._next = max(self._next + self._pause, now - 0.2)
        await asyncio.sleep(max(0.0, self._next - now))
        if not self._running:
            raise Stopped

    async def _again(self, flow: int) -> None:
        """A short pause before the same thing is tried again."""
        if flow >= 0 and not self._running:
            raise Stopped
        await asyncio.sleep(0.25)

    async def browse(
        self, flow: int, kind: str, login: Login, url: str, method: str = "GET", data: dict[str, str] | None = None
    ) -> httpx2.Response | None:
        """Walk as a browser does, until a page or a redirect that leaves the server."""
        for _ in range(10):
            cookies = "; ".join(f"{name}={value}" for name, value in login.cookies.items())
            headers = {"cookie": cookies} if cookies else {}
            answer = await self.send(flow, kind, method, url, headers=headers, data=data)
            if answer is None:
                return None
            for line in answer.headers.get_list("set-cookie"):
                name, _, value = line.partition(";")[0].partition("=")
                login.cookies[name] = value
                if "max-age=0" in line.lower():
                    del login.cookies[name]
            url = answer.headers.get("location", "")
            if not url.startswith(self._rp.server):
                return answer
            method, data = "GET", None
        return None

    # --- one flow

    async def _flow(self, flow: int) -> None:
        citizen = self._citizens[flow % len(self._citizens)]
        try:
            while True:
                login = await self._sign_in(flow, citizen)
                if login is None:
                    await self._again(flow)
                    continue
                for _ in range(self._random.randint(3, 6)):
                    await self._round(flow, login)
                if self._random.random() < 0.7:
                    await self._sign_out(flow, login)
        except Stopped:
            return

    async def _sign_in(self, flow: int, citizen: Citizen) -> Login | None:
        """A new browser that signs in; None when anything on the way failed, as a person would begin again."""
        login = Login({})
        url = self._rp.authorize_url()
        verifier = self._rp.verifier  # before anything is awaited: the next flow makes its own
        answer = await self.browse(flow, "authorize", login, url)
        if answer is None or answer.status_code != 200:
            return None
        values = {"identifier": citizen.number, "password": citizen.password}
        answer = await self._submit(flow, "login", login, answer, "login-form", values)
        if answer is not None and answer.status_code == 200 and "consent-form" in Forms(answer.text).forms:
            answer = await self._submit(flow, "consent", login, answer, "consent-form", {"decision": "approve"})
        if answer is None or answer.status_code != 303:
            return None
        self.ledger.logins.append(login)
        self._code(answer, verifier)
        return login

    async def _submit(
        self, flow: int, kind: str, login: Login, page: httpx2.Response, name: str, values: dict[str, str]
    ) -> httpx2.Response | None:
        form = Forms(page.text).forms.get(name)
        if form is None:
            return None
        url = urljoin(self._rp.server + "/", form.action or kind)
        data = {**form.fields, **values}
        if "decision" in data:
            button = form.buttons["consent-approve"]
            data = {**form.fields, button[0]: button[1]}
        return await self.browse(flow, kind, login, url, form.method.upper(), data)

    def _code(self, answer: httpx2.Response, verifier: str) -> Code | None:
        found = parse_qs(urlsplit(answer.headers.get("location", "")).query).get("code")
        if not found:
            return None
        code = Code(found[0], verifier, time.monotonic())
        self.ledger.codes.append(code)
        return code

    async def authorize(self, flow: int, login: Login) -> tuple[Code | None, str]:
        """A code for the session without a question, or the error that says why not."""
        for _ in range(TRIES):
            url = self._rp.authorize_url(prompt="none")
            verifier = self._rp.verifier
            answer = await self.browse(flow, "authorize", login, url)
            if answer is not None and answer.status_code == 303:
                errors = parse_qs(urlsplit(answer.headers["location"]).query).get("error", [""])
                return self._code(answer, verifier), errors[0]
            await self._again(flow)
        return None, ""

    async def _round(self, flow: int, login: Login) -> None:
        code, error = await self.authorize(flow, login)
        if error == "login_required":
            self.ledger.missing.append("a session that was acknowledged is gone")
        if code is None:
            return
        family = await self.redeem(flow, code)
        if family is None:
            return
        for _ in range(self._random.randint(0, 4)):
            if not await self.refresh(flow, family):
                return
        await self.userinfo(flow, family)
        if self._random.random() < 0.3:
            await self.revoke(flow, family)

    # --- what a relying party does

    async def _post(self, flow: int, kind: str, thing: str, data: dict[str, str]) -> httpx2.Response | None:
        auth = (self._rp.client_id, self._rp.client_secret)
        path = "/revoke" if kind == "revoke" else "/token"
        return await self.send(flow, kind, "POST", self._rp.server + path, thing=thing, data=data, auth=auth)

    async def redeem(self, flow: int, code: Code) -> Family | None:
        """The code's tokens. A code whose answer was lost is shown again: by then it may be spent."""
        data = {
            "grant_type": "authorization_code",
            "code": code.value,
            "redirect_uri": self._rp.redirect_uri,
            "code_verifier": code.verifier,
        }
        for _ in range(TRIES):
            answer = await self._post(flow, "token", code.value, data)
            if answer is not None and answer.status_code == 200:
                if code.state == "fresh" or code.state == "sent":
                    code.state = "spent"
                body = answer.json()
                self.ledger.used(code.value, body["access_token"])
                family = Family(code, [body["access_token"]], [body["refresh_token"]])
                self.ledger.families.append(family)
                return family
            if answer is not None and answer.status_code < 500:
                if code.state == "fresh" and time.monotonic() - code.at < 40:
                    self.ledger.missing.append(f"a code that was acknowledged is refused: {answer.text[:80]}")
                code.state = "refused"
                return None
            if code.state == "fresh":
                code.state = "sent"
            await self._again(flow)
        return None

    async def refresh(self, flow: int, family: Family) -> bool:
        """One step of the chain; the same token comes again while there is no answer."""
        parent = family.refresh[-1]
        data = {"grant_type": "refresh_token", "refresh_token": parent}
        for _ in range(TRIES):
            answer = await self._post(flow, "refresh", parent, data)
            if answer is not None and answer.status_code == 200:
                body = answer.json()
                self.ledger.used(parent, body["refresh_token"])
                family.access.append(body["access_token"])
                family.refresh.append(body["refresh_token"])
                family.doubtful = False
                return True
            if answer is not None and answer.status_code < 500:
                if family.state == "live" and not family.doubtful:
                    self.ledger.missing.append(f"a refresh token that was acknowledged is refused: {answer.text[:80]}")
                elif family.state == "live":
                    self.ledger.unacknowledged += 1
                family.state = "refused"
                return False
            family.doubtful = True
            await self._again(flow)
        return False

    async def userinfo(self, flow: int, family: Family) -> int:
        """The status of the newest access token."""
        headers = {"authorization": f"Bearer {family.access[-1]}"}
        answer = await self.send(flow, "userinfo", "GET", self._rp.server + "/userinfo", headers=headers)
        if answer is not None and answer.status_code == 401 and family.state == "live":
            self.ledger.missing.append("an access token that was acknowledged is refused")
        return answer.status_code if answer is not None else 0

    async def revoke(self, flow: int, family: Family) -> None:
        """Revoke the family. A 200 is an acknowledged write."""
        family.state = "revoking"
        answer = await self._post(flow, "revoke", "", {"token": family.refresh[-1]})
        if answer is not None and answer.status_code == 200:
            family.state = "revoked"

    async def _sign_out(self, flow: int, login: Login) -> None:
        url = self._rp.server + "/logout"
        page = await self.browse(flow, "logout", login, url)
        if page is None or page.status_code != 200:
            return
        form = Forms(page.text).forms.get("logout-form")
        if form is None:
            return
        button = form.buttons["logout-confirm"]
        login.state = "ending"
        before = dict(login.cookies)
        answer = await self.browse(
            flow, "logout", login, urljoin(url, form.action), "POST", {**form.fields, button[0]: button[1]}
        )
        if answer is not None and answer.status_code < 400:
            login.state = "ended"
        login.cookies = before  # the cookie that must no longer open anything
