"""The window in which a repeated parent gets the same child (security.md section 3.2), to the second."""

from uuid import uuid4

import pytest

from idp.oidc.grants import RefreshGrant, in_force
from idp.oidc.store import ActingRow, GrantRow

NOW = 1_800_000_000


def grant(**changes: object) -> GrantRow:
    row = GrantRow(
        id=uuid4(), client_id="c", account_id=uuid4(), session_id=uuid4(), scope="openid offline_access",
        code_expires_at=NOW, code_spent_at=NOW, redirect_uri="u", code_challenge=None, nonce=None, auth_time=NOW,
        level=3, amr="pwd", channel="web_hall", mandate_id=None, claims=None, generation=5, rotated_at=NOW,
        refresh_expires_at=NOW + 100, revoked_at=None, account_status="active", session_ended_at=None,
        client_status="active", token_revoked=0,
    )  # fmt: skip
    return row._replace(**changes)


@pytest.mark.parametrize(
    ("generation", "later", "repeated"),
    [(4, 0, True), (4, 9, True), (4, 10, False), (4, 3_600, False), (3, 0, False), (5, 0, False), (6, 0, False)],
)
def test_repeated_parent_is_known_for_ten_seconds(generation: int, later: int, repeated: bool) -> None:
    assert RefreshGrant._repeated(grant(), generation, NOW + later) == repeated


def test_repeated_parent_of_a_first_token_is_none() -> None:
    assert not RefreshGrant._repeated(grant(generation=1, rotated_at=None), 0, NOW)


ACTING = ActingRow(uuid4(), "agent", "*", None, uuid4(), b"", b"")


@pytest.mark.parametrize(
    ("changes", "acting", "expected"),
    [
        ({}, None, True),
        ({"revoked_at": NOW}, None, False),
        ({"consent_expires_at": 0}, None, False),
        ({"consent_expires_at": NOW - 1}, None, True),
        ({"account_status": "locked"}, None, False),
        ({"client_status": "suspended"}, None, False),
        ({"session_ended_at": NOW}, None, True),
        ({"session_ended_at": NOW, "scope": "openid"}, None, False),
        ({"mandate_id": uuid4()}, None, False),
        ({"mandate_id": uuid4()}, ACTING, True),
    ],
)
def test_grant_is_in_force_only_while_all_that_it_hangs_on_is(
    changes: dict[str, object], acting: ActingRow | None, expected: bool
) -> None:
    assert in_force(grant(**changes), acting) == expected
