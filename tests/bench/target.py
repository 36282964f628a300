"""Target: a running provider with its metadata, clients and signed-in people, whoever made it."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.bench.load import WrongAnswer

REDIRECT_URI = "https://rp.example.test/cb"
SCOPE = "openid profile email phone offline_access"
VERIFIER = "bench-verifier-bench-verifier-bench-verifier-0"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True)
class Target:
    """`pid` is the process whose family is metered; `clients` are by algorithm, `people` have cookie and password."""

    name: str
    url: str
    pid: int
    metadata: Mapping[str, Any]
    clients: Mapping[str, Mapping[str, str]]
    people: list[dict[str, str]]
    scope: str = SCOPE

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 80

    def path(self, endpoint: str) -> str:
        """The path of an endpoint by its name in the metadata."""
        return urlsplit(str(self.metadata[endpoint])).path

    def basic(self, algorithm: str) -> str:
        client = self.clients[algorithm]
        return "Basic " + base64.b64encode(f"{client['id']}:{client['secret']}".encode()).decode()

    def authorize_path(self, algorithm: str, scope: str = "") -> str:
        query = {
            "client_id": self.clients[algorithm]["id"],
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "scope": scope or self.scope,
            "state": "state-of-the-bench",
            "nonce": "nonce-of-the-bench",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        return f"{self.path('authorization_endpoint')}?{urlencode(query)}"

    def code_form(self) -> dict[str, str]:
        """The token request of a code, but for the code."""
        return {"grant_type": "authorization_code", "redirect_uri": REDIRECT_URI, "code_verifier": VERIFIER}

    # --- by hand: what a load needs beforehand

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return httpx2.get(self.url + path, headers=headers, timeout=20, trust_env=False)

    def post(self, path: str, data: Mapping[str, str], **headers: str) -> httpx2.Response:
        return httpx2.post(self.url + path, data=dict(data), headers=headers, timeout=20, trust_env=False)

    def authorize(self, cookie: str, algorithm: str, scope: str = "") -> str:
        """A code for a signed-in person. Raises WrongAnswer."""
        answer = self.get(self.authorize_path(algorithm, scope), cookie=cookie)
        query = parse_qs(urlsplit(answer.headers.get("location", "")).query)
        if answer.status_code != 303 or "code" not in query:
            raise WrongAnswer(f"authorize: {answer.status_code} {answer.headers.get('location')} {answer.text[:300]}")
        return query["code"][0]

    def tokens(self, cookie: str, algorithm: str, scope: str = "") -> dict[str, Any]:
        """The tokens of one login flow, the ID token checked against the published keys. Raises WrongAnswer."""
        form = {**self.code_form(), "code": self.authorize(cookie, algorithm, scope)}
        answer = self.post(self.path("token_endpoint"), form, authorization=self.basic(algorithm))
        if answer.status_code != 200:
            raise WrongAnswer(f"token: {answer.status_code} {answer.text[:300]}")
        tokens: dict[str, Any] = answer.json()
        self.check_id_token(tokens["id_token"], algorithm)
        return tokens

    def check_id_token(self, token: str, algorithm: str) -> None:
        keys = KeySet.import_key_set(self.get(self.path("jwks_uri")).json())
        decoded = jwt.decode(token, keys, algorithms=[algorithm])
        if decoded.header["alg"] != algorithm or decoded.claims["aud"] != self.clients[algorithm]["id"]:
            raise WrongAnswer(f"the ID token is not what was asked for: {decoded.header} {decoded.claims}")
