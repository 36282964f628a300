"""A provider in miniature that agrees to everything, and can be told to lie in one point."""

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT_ID, CLIENT_SECRET = "hall", "a secret"
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class FakeProvider:
    """Everything a test may twist: what goes into the answer, the ID token, the userinfo, and what it refuses."""

    def __init__(self) -> None:
        self.issuer = ""
        self.reset()

    def reset(self) -> None:
        self.key = self.new_key("k1")
        self.answer: dict[str, Any] = {}
        self.id_claims: dict[str, Any] = {}
        self.id_header: dict[str, Any] = {}
        self.user: dict[str, Any] = {"legal_name": "张三例", "masked_number": "4***X"}
        self.metadata: dict[str, Any] = {}
        self.refusal = ""  # an error code of the authorization endpoint
        self.token_answer: Response | None = None
        self.tamper = False
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[dict[str, str]] = []
        self.key_reads = 0

    @staticmethod
    def new_key(kid: str) -> ECKey:
        return ECKey.generate_key("P-256", {"kid": kid, "use": "sig", "alg": "ES256"})

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        made = {"alg": "ES256", "kid": self.key.kid, "typ": "JWT", **header}
        return jwt.encode({k: v for k, v in made.items() if v is not None}, claims, self.key)

    def logout_token(self, *, typ: str = "logout+jwt", **changes: Any) -> str:
        """A genuine notice about the session `s1`, with changes; None takes a claim away."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_hex(8),
            "sub": "person",
            "sid": "s1",
            "events": {LOGOUT_EVENT: {}},
        } | changes
        return self.sign({k: v for k, v in claims.items() if v is not None}, typ=typ)

    # --- endpoints

    async def get_metadata(self, request: Request) -> Response:
        names = ("authorization", "token", "userinfo", "end_session")
        document = {f"{name}_endpoint": f"{self.issuer}/{name}" for name in names}
        return JSONResponse({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks", **document, **self.metadata})

    async def get_jwks(self, request: Request) -> Response:
        self.key_reads += 1
        strange = {"kty": "OKP", "crv": "X448000", "x": "AA", "kid": "strange"}
        return JSONResponse({"keys": [strange, self.key.as_dict(private=False)]})

    async def authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.asked.append(asked)
        answer = {"state": asked["state"], "iss": self.issuer}
        if self.refusal:
            answer["error"] = self.refusal
        else:
            answer["code"] = secrets.token_hex(8)
            self.codes[answer["code"]] = asked
        twisted = {k: v for k, v in (answer | self.answer).items() if v is not None}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(twisted)}", 303)

    async def token(self, request: Request) -> Response:
        if self.token_answer is not None:
            return self.token_answer
        form = dict(parse_qsl((await request.body()).decode()))
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        asked = self.codes.pop(form.get("code", ""), None)
        if request.headers.get("authorization") != f"Basic {basic}":
            return JSONResponse({"error": "invalid_client"}, 401)
        if asked is None or b64(sha(form["code_verifier"])) != asked["code_challenge"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        access, now = secrets.token_hex(8), int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "person",
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 600,
            "nonce": asked["nonce"],
            "acr": "urn:yimen:loa:3",
            "sid": "s1",
            "at_hash": b64(sha(access)[:16]),
        } | self.id_claims
        token = self.sign({k: v for k, v in claims.items() if v is not None}, **self.id_header)
        if self.tamper:
            head, payload, signature = token.split(".")
            token = f"{head}.{b64(base64.urlsafe_b64decode(payload + '==').replace(b'person', b'nobody'))}.{signature}"
        return JSONResponse({"access_token": access, "token_type": "Bearer", "expires_in": 600, "id_token": token})

    async def userinfo(self, request: Request) -> Response:
        return JSONResponse({"sub": "person", **self.user})

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.get_metadata),
                Route("/jwks", self.get_jwks),
                Route("/authorization", self.authorize),
                Route("/token", self.token, methods=["POST"]),
                Route("/userinfo", self.userinfo),
            ]
        )


@contextmanager
def running(provider: FakeProvider) -> Iterator[FakeProvider]:
    """The provider on a free port of the loopback address."""
    server = uvicorn.Server(uvicorn.Config(provider.app(), port=0, log_level="warning", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < end, "the provider did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        provider.issuer = f"http://127.0.0.1:{port}"
        yield provider
    finally:
        server.should_exit = True
        thread.join()
