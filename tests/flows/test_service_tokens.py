"""Tokens that clients get for themselves (RFC 6749 section 4.4), on both store set-ups."""

from pathlib import Path

import pytest

from tests.flows.signing import add, add_service, add_signing, records
from tests.support.servers import YimenServer
from tests.support.visitor import Rp

GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
def service(server: YimenServer, tmp_path: Path) -> Rp:
    return add_service(server, tmp_path, scope="gjj:read gjj:write")


def test_service_token_concerns_nobody_and_has_no_refresh_token(server: YimenServer, service: Rp) -> None:
    answer = service.post("/token", GRANT)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json()
    assert set(token) == {"access_token", "token_type", "expires_in", "scope"}
    assert (token["token_type"], token["expires_in"], token["scope"]) == ("Bearer", 600, "gjj:read gjj:write")
    seen = service.post("/introspect", {"token": token["access_token"]}).json()
    assert seen["active"] is True
    assert seen["client_id"] == service.client_id
    assert seen["exp"] - seen["iat"] == 600
    assert not {"sub", "acr", "auth_time", "username"} & set(seen)
    assert service.userinfo(token["access_token"]).status_code == 401
    assert [(row["result"], row["account"]) for row in records(server, "client:token:issued", service.client_id)] == [
        ("done", None)
    ]


def test_service_scope_narrows_and_never_widens(service: Rp) -> None:
    narrow = service.post("/token", {**GRANT, "scope": "gjj:read"}).json()
    assert narrow["scope"] == "gjj:read"
    for scope in ("gjj:read gjj:delete", "openid", "profile", "identity_number", "offline_access", "nonsense"):
        answer = service.post("/token", {**GRANT, "scope": scope})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


def test_service_client_without_scopes_gets_a_token_without_scope(server: YimenServer, tmp_path: Path) -> None:
    bare = add_service(server, tmp_path)
    token = bare.post("/token", GRANT).json()
    assert set(token) == {"access_token", "token_type", "expires_in"}
    assert "scope" not in bare.post("/introspect", {"token": token["access_token"]}).json()


def test_service_token_of_a_suspended_client_ends_at_once(server: YimenServer, service: Rp, tmp_path: Path) -> None:
    """F11."""
    asking = add_service(server, tmp_path)
    server.cli("client", "permit", asking.client_id, "--permission", "introspection", "--reason", "test")
    token = service.post("/token", GRANT).json()["access_token"]
    assert asking.post("/introspect", {"token": token}).json()["active"] is True
    server.cli("client", "suspend", service.client_id)
    assert asking.post("/introspect", {"token": token}).json() == {"active": False}
    answer = service.post("/token", GRANT)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    server.cli("client", "resume", service.client_id)
    assert service.post("/token", GRANT).status_code == 200


def test_service_token_is_revoked_by_its_owner_only(server: YimenServer, service: Rp, rp: Rp) -> None:
    token = service.post("/token", GRANT).json()["access_token"]
    assert rp.post("/revoke", {"token": token}).status_code == 200
    assert service.post("/introspect", {"token": token}).json()["active"] is True
    for _ in range(2):
        assert service.post("/revoke", {"token": token, "token_type_hint": "refresh_token"}).status_code == 200
    assert service.post("/introspect", {"token": token}).json() == {"active": False}
    assert len(records(server, "client:token:revoked", service.client_id)) == 1


def test_f13_grant_that_is_not_allowed_is_refused(service: Rp, rp: Rp, server: YimenServer) -> None:
    answer = rp.post("/token", GRANT)
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")
    for grant, error in [
        ("password", "unsupported_grant_type"),
        ("implicit", "unsupported_grant_type"),
        ("nonsense", "unsupported_grant_type"),
        ("refresh_token", "unauthorized_client"),
    ]:
        answer = service.post("/token", {"grant_type": grant, "username": "a", "password": "b"})
        assert (answer.status_code, answer.json()["error"]) == (400, error)
    for body in ("", "grant_type=client_credentials&grant_type=client_credentials"):
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = service.post("/token", {}, content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    code = service.post("/token", {"grant_type": "authorization_code", "code": "x", "redirect_uri": "https://x.test/"})
    assert code.json()["error"] in ("unauthorized_client", "invalid_grant")


def test_public_client_gets_no_service_token(server: YimenServer, tmp_path: Path) -> None:
    refused = add(server, tmp_path, status=1, grant_types=["client_credentials"], token_endpoint_auth_method="none")
    assert refused["error"] == "invalid_client_metadata"


def test_f01_failed_authentication_is_equal_and_recorded(server: YimenServer, service: Rp) -> None:
    """Wrong secret, empty secret, none, an unknown client: one answer; each is in the audit, with its reason."""
    wrong = [
        service.post("/token", GRANT, auth=(service.client_id, "wrong")),
        service.post("/token", GRANT, auth=(service.client_id, "")),
        service.post("/token", {**GRANT, "client_id": service.client_id}, auth=None),
        service.post("/token", {**GRANT, "client_id": service.client_id, "client_secret": "x"}, auth=None),
        service.post("/token", GRANT, auth=("nobody", "wrong")),
        service.post("/token", GRANT, auth=None),
    ]
    assert {(answer.status_code, answer.text) for answer in wrong} == {(401, wrong[0].text)}
    assert all(answer.headers["www-authenticate"].startswith("Basic") for answer in wrong)
    told = records(server, "client:authentication:refused", service.client_id)
    assert [(row["result"], row["reason"], row["endpoint"]) for row in told] == [
        ("refused", "credentials", "/token")
    ] * 4
    in_address = service.post(f"/token?client_secret={service.client_secret}", GRANT, auth=None)
    assert (in_address.status_code, in_address.json()["error"]) == (400, "invalid_request")
    twice = service.post("/token", {**GRANT, "client_secret": service.client_secret})
    assert (twice.status_code, twice.json()["error"]) == (400, "invalid_request")


def test_service_token_by_an_own_key(server: YimenServer, tmp_path: Path) -> None:
    signing = add_signing(server, tmp_path)
    answer = signing.post("/token", GRANT)
    assert answer.status_code == 200, answer.text
    assert answer.json()["scope"] == "gjj:read"
