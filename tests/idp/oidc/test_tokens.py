"""Handles that cannot be forged, subjects that cannot be compared, ID tokens whose facts nothing overrides."""

import base64
import hashlib
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from idp.context import Context
from idp.encryption import Vault
from idp.oidc import tokens
from idp.oidc.profiles import ACCESS_SECONDS
from tests.idp.oidc.test_client import party
from tests.idp.oidc.test_grants import grant

VAULT, OTHER = Vault({1: b"\1" * 32}), Vault({1: b"\2" * 32})
GRANT = uuid4()


def test_access_token_says_what_was_sealed() -> None:
    token, token_id = tokens.seal_access(VAULT, GRANT, 1_800_000_000, "openid email")
    assert tokens.open_access(VAULT, token) == tokens.AccessToken(GRANT, token_id, 1_800_000_000, "openid email")
    assert token.isascii()
    assert ACCESS_SECONDS <= 600


def test_refresh_token_of_a_generation_is_always_the_same_and_no_other() -> None:
    first = tokens.seal_refresh(VAULT, GRANT, 1)
    assert tokens.seal_refresh(VAULT, GRANT, 1) == first
    assert len({tokens.seal_refresh(VAULT, GRANT, n) for n in range(100)}) == 100
    assert tokens.open_refresh(VAULT, first) == tokens.RefreshToken(GRANT, 1)


@pytest.mark.parametrize("change", ["truncated", "longer", "flipped", "padded", "other key", "other kind", "nonsense"])
def test_handle_changed_in_any_way_is_nothing(change: str) -> None:
    access, _ = tokens.seal_access(VAULT, GRANT, 1, "openid")
    refresh = tokens.seal_refresh(VAULT, GRANT, 1)
    made: dict[str, Any] = {
        "truncated": (access[:-4], refresh[:-4]),
        "longer": (access + "AAAA", refresh + "AAAA"),
        "flipped": ("A" + access[1:] if access[0] != "A" else "B" + access[1:], refresh[:-2] + "__"),
        "padded": (access + "=", refresh + "="),
        "other key": (tokens.seal_access(OTHER, GRANT, 1, "")[0], tokens.seal_refresh(OTHER, GRANT, 1)),
        "other kind": (refresh, access),
        "nonsense": ("\u4f60" * 40, "." * 100_000),
    }
    wrong_access, wrong_refresh = made[change]
    assert tokens.open_access(VAULT, wrong_access) is None
    assert tokens.open_refresh(VAULT, wrong_refresh) is None


def test_subject_differs_by_sector_and_names_nobody() -> None:
    account = uuid4()
    one, same, public = party(), party(client_name="x"), party(subject_type="public")
    assert tokens.subject(VAULT, one, account) == tokens.subject(VAULT, same, account)
    assert tokens.subject(VAULT, public, account) != tokens.subject(VAULT, one, account)
    assert tokens.subject(OTHER, one, account) != tokens.subject(VAULT, one, account)
    assert str(account) not in tokens.subject(VAULT, one, account)


def test_sid_differs_by_client() -> None:
    session = uuid4()
    assert tokens.session_id(VAULT, "a", session) != tokens.session_id(VAULT, "b", session)


def test_id_token_facts_are_overridden_by_nothing(context: Context) -> None:
    row = grant(nonce="n")
    extra = {"iss": "evil", "aud": "evil", "sub": "evil", "exp": 1, "auth_time": 1, "acting_for": {"name": "x"}}
    claims = context.keys.verify(tokens.id_token(context, party(), row, "token", extra), typ="JWT")
    assert claims is not None
    assert (claims["iss"], claims["aud"], claims["auth_time"]) == (context.config.issuer, "c", row.auth_time)
    assert claims["exp"] > claims["iat"]
    assert claims["acting_for"] == {"name": "x"}
    half = hashlib.sha256(b"token").digest()[:16]
    assert claims["at_hash"] == base64.urlsafe_b64encode(half).rstrip(b"=").decode()


def test_service_token_says_what_was_sealed_and_passes_for_nothing_else() -> None:
    token = tokens.seal_service(VAULT, "c1", 1_800_000_000, "gjj:read gjj:write")
    found = tokens.open_service(VAULT, token)
    assert found is not None
    assert (found.client_id, found.expires_at, found.scope) == ("c1", 1_800_000_000, "gjj:read gjj:write")
    assert tokens.open_access(VAULT, token) is None
    assert tokens.open_refresh(VAULT, token) is None
    assert tokens.open_service(OTHER, token) is None
    assert tokens.open_service(VAULT, tokens.seal_access(VAULT, GRANT, 1, "openid")[0]) is None
    assert tokens.open_service(VAULT, token[:-4]) is None
    bare = tokens.open_service(VAULT, tokens.seal_service(VAULT, "c1", 1, ""))
    assert bare is not None
    assert bare.scope == ""


def test_d06_codes_are_long_unlike_and_flat() -> None:
    """10,000 codes: 256 bits each, no common beginning, every sign as often as every other (chi-square)."""
    codes = [tokens.new_code() for _ in range(10_000)]
    assert len(set(codes)) == 10_000
    assert all(len(code) >= 22 and code.isascii() for code in codes)
    assert len({code[0] for code in codes}) == 64
    assert len({code[:4] for code in codes}) > 9_900
    counts = Counter("".join(code[:-1] for code in codes))  # the last sign carries fewer bits
    expected = sum(counts.values()) / 64
    assert sum((seen - expected) ** 2 / expected for seen in counts.values()) < 130  # 63 degrees: p about 1e-6
