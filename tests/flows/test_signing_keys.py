"""Signing keys move on under load: every token verifies against a key set that was fetched before."""

import time
from typing import Any

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.flows.test_master_key import Load, ok
from tests.support.citizen import Citizen
from tests.support.servers import YimenServer
from tests.support.visitor import Rp, Visitor, answer_of, sign_in


class CachingClient:
    """A relying party that keeps the key set for as long as the server said, and never looks for an unknown kid."""

    def __init__(self, server: YimenServer, rp: Rp, visitor: Visitor) -> None:
        self.server, self.visitor, self.kids = server, visitor, set[str]()
        self.rp = Rp(server.url, rp.client_id, rp.client_secret)
        self._keys: KeySet | None = None
        self._until = 0.0
        self.fetches = 0

    def keys(self) -> KeySet:
        if self._keys is None or time.monotonic() > self._until:
            answer = httpx2.get(f"{self.server.url}/jwks", trust_env=False)
            self._until = time.monotonic() + int(answer.headers["cache-control"].partition("max-age=")[2])
            self._keys = KeySet.import_key_set(answer.json())
            self.fetches += 1
        return self._keys

    def login(self) -> None:
        """A token from the code and one from a refresh, both verified; the first serves as a hint."""
        tokens = ok(self.rp.redeem(answer_of(self.visitor.walk(self.rp.authorize_url()))["code"]))
        refreshed = ok(self.rp.refresh(tokens["refresh_token"]))
        for token in (tokens["id_token"], refreshed["id_token"]):
            verified = jwt.decode(token, self.keys(), algorithms=["RS256", "ES256"])
            assert verified.claims["iss"] == self.server.url
            self.kids.add(verified.header["kid"])
        hinted = self.visitor.walk(self.rp.authorize_url(prompt="none", id_token_hint=tokens["id_token"]))
        assert "code" in answer_of(hinted)


def rotations_under_load(
    server: YimenServer, citizen: Citizen, rp: Rp, at: list[float], seconds: float
) -> list[CachingClient]:
    """Clients that saw `len(at)` rotations, at these seconds, and no failure."""
    clients = []
    for _ in range(2):
        visitor = Visitor(server.url)
        sign_in(visitor, rp.authorize_url(), citizen.number, citizen.password)
        clients.append(CachingClient(server, rp, visitor))
        clients[-1].keys()
    began, old = time.monotonic(), kids(server)
    with Load(*(client.login for client in clients)) as load:
        for second in at:
            time.sleep(max(0, began + second - time.monotonic()))
            server.cli("keys", "rotate", *(["--careful"] if second > 200 else []))
        time.sleep(max(0, began + seconds - time.monotonic()))
    assert load.failures == []
    assert load.done >= 5
    assert old <= kids(server), "what verifies a living token is still published"
    return clients


def kids(server: YimenServer) -> set[str]:
    found: dict[str, Any] = httpx2.get(f"{server.url}/jwks", trust_env=False).json()
    return {key["kid"] for key in found["keys"]}


def test_rotation_under_load_fails_no_verification_with_a_cached_key_set(
    server: YimenServer, citizen: Citizen, rp: Rp
) -> None:
    clients = rotations_under_load(server, citizen, rp, [0.5], 8)
    assert all(client.fetches == 1 for client in clients)
    assert len(set().union(*(client.kids for client in clients))) == 2, "both the old and the new key have signed"


@pytest.mark.long
def test_rotations_under_load_for_ten_minutes_fail_no_verification(
    server: YimenServer, citizen: Citizen, rp: Rp
) -> None:
    clients = rotations_under_load(server, citizen, rp, [5, 315], 630)
    assert len(set().union(*(client.kids for client in clients))) == 3
