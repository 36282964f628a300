"""Clients: what may be registered, what is refused by name, and how secrets change over."""

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from clients import registry
from clients.metadata import InvalidClientMetadata
from clients.registry import Registered, WrongState
from idp.context import Context
from idp.errors import InvalidInput, NotFound
from idp.models import AuditRecord, Client, ClientSecret
from idp.oidc import client, store
from idp.oidc.client import RelyingParty
from tests.support.assertions import es256_key
from tests.support.context import events

CALLBACK = "https://rp.example.test/cb"


def create(context: Context, db: Session, profile: str = "baseline", **metadata: Any) -> Registered:
    given = {"client_name": "公积金", "redirect_uris": [CALLBACK], **metadata}
    return registry.create(context, db, metadata=given, profile=profile)


def seen_by_endpoints(context: Context, db: Session, client_id: str) -> RelyingParty:
    party = client.build(store.CLIENT.run(db, client=client_id), context.now())
    assert party is not None
    return party


# --- create


def test_create_with_the_least_gives_safe_defaults(context: Context, db: Session) -> None:
    made = create(context, db)
    described = registry.describe(made.client)
    assert described["token_endpoint_auth_method"] == "client_secret_basic"
    assert described["grant_types"] == ["authorization_code"]
    assert described["subject_type"] == "pairwise"
    assert described["id_token_signed_response_alg"] == "RS256"
    assert (described["profile"], described["status"]) == ("baseline", "active")
    assert made.client.sector == "rp.example.test"
    assert made.secret is not None
    assert len(made.secret) >= 43
    party = seen_by_endpoints(context, db, made.client.id)
    assert party.check_client_secret(made.secret)
    assert not party.check_client_secret(made.secret + "x")
    assert party.check_redirect_uri(CALLBACK)
    assert events(db) == ["client:registration:created"]
    assert made.secret not in json.dumps([*vars(made.client).values()], default=str)


def test_create_with_everything_keeps_everything(context: Context, db: Session) -> None:
    metadata = {
        "client_name": "公积金",
        "client_name#en": "Housing Fund",
        "client_name#zh-Hant": "公積金",
        "redirect_uris": [CALLBACK, CALLBACK + "?x=1"],
        "post_logout_redirect_uris": ["https://rp.example.test/out"],
        "backchannel_logout_uri": "https://rp.example.test/logout",
        "backchannel_logout_session_required": True,
        "token_endpoint_auth_method": "client_secret_post",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": "openid profile identity",
        "subject_type": "public",
        "id_token_signed_response_alg": "ES256",
        "default_max_age": 3_600,
        "require_auth_time": True,
        "application_type": "web",
        "client_uri": "https://rp.example.test/",
        "policy_uri": "https://rp.example.test/privacy",
        "tos_uri": "https://rp.example.test/terms",
        "logo_uri": "https://rp.example.test/logo.png",
        "contacts": ["ops@rp.example.test"],
        "initiate_login_uri": "https://rp.example.test/start",
    }
    made = registry.create(context, db, metadata=metadata, profile="classic")
    described = registry.describe(made.client)
    assert {name: described[name] for name in metadata} == metadata
    party = seen_by_endpoints(context, db, made.client.id)
    assert (party.name("en"), party.name("zh-CN")) == ("Housing Fund", "公积金")


def test_create_public_client_has_no_secret(context: Context, db: Session) -> None:
    made = create(context, db, token_endpoint_auth_method="none")
    assert made.secret is None
    assert db.scalars(select(ClientSecret)).all() == []
    with pytest.raises(InvalidInput, match="no secret"):
        registry.rotate_secret(context, db, made.client.id)


@pytest.mark.parametrize(
    "uris",
    [
        ["gov.gd.app:/cb", "http://127.0.0.1/cb", "http://[::1]/cb"],
        ["http://127.0.0.1:8001/cb"],
        ["http://localhost:3000/cb?x=a+b&y=%20"],
    ],
)
def test_create_client_on_the_own_device_is_a_sector_of_its_own(context: Context, db: Session, uris: list[str]) -> None:
    first = create(context, db, application_type="native", redirect_uris=uris)
    second = create(context, db, application_type="native", redirect_uris=uris)
    assert first.client.sector == first.client.id
    assert second.client.sector == second.client.id


# --- change


def test_rotate_secret_lets_the_old_one_overlap(context: Context, db: Session) -> None:
    made = create(context, db)
    old, new = str(made.secret), registry.rotate_secret(context, db, made.client.id, overlap_seconds=60)
    party = seen_by_endpoints(context, db, made.client.id)
    assert party.check_client_secret(old)
    assert party.check_client_secret(new)
    db.execute(update(ClientSecret).where(ClientSecret.last_four == old[-4:]).values(expires_at=context.now()))
    party = seen_by_endpoints(context, db, made.client.id)
    assert not party.check_client_secret(old)
    assert party.check_client_secret(new)
    registry.rotate_secret(context, db, made.client.id)
    hashes = db.scalars(select(ClientSecret.hash)).all()
    assert hashlib.sha256(old.encode()).digest() not in hashes
    assert len(hashes) == 2


def test_rotate_secret_without_overlap_ends_the_old_one_at_once(context: Context, db: Session) -> None:
    made = create(context, db)
    registry.rotate_secret(context, db, made.client.id, overlap_seconds=0)
    assert not seen_by_endpoints(context, db, made.client.id).check_client_secret(str(made.secret))
    with pytest.raises(InvalidInput):
        registry.rotate_secret(context, db, made.client.id, overlap_seconds=-1)


def test_rotate_secret_keeps_the_old_one_for_a_week_and_tells_the_times(context: Context, db: Session) -> None:
    made = create(context, db)
    new = registry.rotate_secret(context, db, made.client.id)
    shown = {row["last_four"]: row for row in registry.describe_secrets(db, made.client.id)}
    assert shown[new[-4:]]["expires_at"] is None
    left = shown[str(made.secret)[-4:]]["expires_at"] - context.now()
    assert 7 * 86_400 - 60 < left <= 7 * 86_400
    assert all(abs(row["created_at"] - context.now()) < 60 for row in shown.values())
    for row in db.scalars(select(ClientSecret)):
        assert len(row.hash) == 32
        assert row.hash not in (new.encode(), str(made.secret).encode())
    assert events(db).count("client:secret:rotated") == 1


def rotate_at_once(context: Context, threads: int) -> None:
    """S06: whoever is told a secret has one that works; the others are told of the conflict (409)."""
    assert WrongState.status == 409
    with context.database.session() as session:
        made = create(context, session)
    client_id, barrier = made.client.id, threading.Barrier(threads)

    def rotate(_: int) -> str | None:
        barrier.wait()
        try:
            with context.database.session() as session:
                return registry.rotate_secret(context, session, client_id)
        except WrongState:
            return None

    with ThreadPoolExecutor(threads) as pool:
        told = [secret for secret in pool.map(rotate, range(threads)) if secret]
    assert told
    with context.database.session(write=False) as session:
        party = seen_by_endpoints(context, session, client_id)
        assert all(party.check_client_secret(secret) for secret in [str(made.secret), *told])
        assert len(party.secret_hashes) == 1 + len(told)
        forever = [row for row in registry.describe_secrets(session, client_id) if row["expires_at"] is None]
        assert len(forever) == 1
        assert registry.get(session, client_id).version == 1 + len(told)


def test_s06_secret_rotated_by_several_at_once_loses_nothing(context: Context) -> None:
    for _ in range(3):
        rotate_at_once(context, 4)


@pytest.mark.long
def test_s06_secret_rotated_by_several_at_once_two_hundred_times_loses_nothing(context: Context) -> None:
    for _ in range(200):
        rotate_at_once(context, 4)


def test_s06_redirect_uris_edited_by_two_from_one_version_keep_the_first(context: Context) -> None:
    with context.database.session() as session:
        made = create(context, session)
    client_id, seen = made.client.id, registry.describe(made.client)
    edits = [[CALLBACK, f"{CALLBACK}/{name}"] for name in ("a", "b")]
    base = registry.metadata_of(made.client)
    with context.database.session() as session:
        registry.change(
            context, session, client_id, metadata={**base, "redirect_uris": edits[0]}, version=seen["version"]
        )
    with context.database.session() as session, pytest.raises(WrongState, match="version 2, not 1"):
        registry.change(
            context, session, client_id, metadata={**base, "redirect_uris": edits[1]}, version=seen["version"]
        )
    with context.database.session(write=False) as session:
        assert registry.describe(registry.get(session, client_id))["redirect_uris"] == edits[0]


def test_client_that_signs_has_no_secret_and_may_change_its_keys(context: Context, db: Session) -> None:
    keys = [{"keys": [es256_key(name).public]} for name in ("a", "b")]
    made = create(context, db, token_endpoint_auth_method="private_key_jwt", jwks=keys[0])
    assert made.secret is None
    assert registry.describe_keys(db, made.client.id) == {}
    metadata = {**registry.metadata_of(made.client), "jwks": keys[1]}
    registry.change(context, db, made.client.id, metadata=metadata)
    assert seen_by_endpoints(context, db, made.client.id).metadata["jwks"] == keys[1]
    with pytest.raises(InvalidInput, match="no secret"):
        registry.rotate_secret(context, db, made.client.id)
    del metadata["jwks"]
    registry.change(context, db, made.client.id, metadata={**metadata, "jwks_uri": "https://rp.example.test/jwks"})
    assert registry.describe_keys(db, made.client.id)["uri"] == "https://rp.example.test/jwks"
    registry.change(context, db, made.client.id, metadata={**metadata, "jwks": keys[0]})
    assert registry.describe_keys(db, made.client.id) == {}


def test_permission_is_recorded_shown_and_withdrawn(context: Context, db: Session) -> None:
    client_id = create(context, db).client.id
    assert not seen_by_endpoints(context, db, client_id).permissions
    for permission in ("introspection", "token_endpoint_audience", "introspection"):
        registry.permit(context, db, client_id, permission, " 文件  第 123456789 号 ")
    assert seen_by_endpoints(context, db, client_id).permissions == {"introspection", "token_endpoint_audience"}
    assert registry.permissions(db, client_id)["introspection"] == "文件 第 123456789 号"
    registry.forbid(context, db, client_id, "introspection", "")
    assert seen_by_endpoints(context, db, client_id).permissions == {"token_endpoint_audience"}
    with pytest.raises(WrongState):
        registry.forbid(context, db, client_id, "introspection", "")
    for permission, reason in (("everything", "x"), ("introspection", " "), ("introspection", "x" * 501)):
        with pytest.raises(InvalidInput):
            registry.permit(context, db, client_id, permission, reason)
    details = db.scalars(select(AuditRecord.detail).where(AuditRecord.event == "client:permission:granted")).all()
    assert len(details) == 3
    assert all("123456789" not in str(detail) for detail in details)
    assert events(db).count("client:permission:withdrawn") == 1


def test_suspend_and_resume_change_the_status_once(context: Context, db: Session) -> None:
    made = create(context, db)
    registry.suspend(context, db, made.client.id, "abuse")
    assert not seen_by_endpoints(context, db, made.client.id).active
    with pytest.raises(WrongState):
        registry.suspend(context, db, made.client.id)
    registry.resume(context, db, made.client.id)
    assert seen_by_endpoints(context, db, made.client.id).active
    with pytest.raises(WrongState):
        registry.resume(context, db, made.client.id)


def test_change_by_two_at_once_keeps_one(context: Context) -> None:
    with context.database.session() as session:
        made = create(context, session)
    with context.database.session() as session:
        stale = registry.get(session, made.client.id)
        session.execute(update(Client).values(version=Client.version + 1).execution_options(synchronize_session=False))
        with pytest.raises(WrongState, match="meanwhile"):
            registry._replace(session, stale, updated_at=0)


def test_change_replaces_metadata_and_keeps_what_people_are_known_by(context: Context, db: Session) -> None:
    made = create(context, db, contacts=["a@b.test"])
    metadata = {"client_name": "社保", "redirect_uris": [CALLBACK + "2"]}
    changed = registry.change(context, db, made.client.id, metadata=metadata)
    described = registry.describe(changed)
    assert (described["client_name"], "contacts" in described) == ("社保", False)
    assert changed.version == 2
    party = seen_by_endpoints(context, db, made.client.id)
    assert party.name("zh-CN") == "社保"
    assert not party.check_redirect_uri(CALLBACK)
    assert registry.change(context, db, made.client.id, metadata=metadata).version == 2
    for forbidden in (
        {"redirect_uris": ["https://other.example.test/cb"]},
        {"subject_type": "public"},
        {"token_endpoint_auth_method": "none"},
    ):
        with pytest.raises(InvalidClientMetadata, match="register a new client"):
            registry.change(context, db, made.client.id, metadata={**metadata, **forbidden})


def test_grant_scope_needs_a_guarded_scope_and_a_basis(context: Context, db: Session) -> None:
    made = create(context, db)
    asked = "openid identity_number"
    assert seen_by_endpoints(context, db, made.client.id).get_allowed_scope(asked) == "openid"
    registry.grant_scope(context, db, made.client.id, "identity_number", " 社会保险法  第五十八条 ")
    assert seen_by_endpoints(context, db, made.client.id).get_allowed_scope(asked) == asked
    assert registry.legal_bases(db, made.client.id) == {"identity_number": "社会保险法 第五十八条"}
    registry.grant_scope(context, db, made.client.id, "identity_number", "another")
    assert registry.legal_bases(db, made.client.id) == {"identity_number": "another"}
    for scope, basis in (("openid", "x"), ("identity_number", " "), ("identity_number", "x" * 501)):
        with pytest.raises(InvalidInput):
            registry.grant_scope(context, db, made.client.id, scope, basis)


def test_unknown_client_is_not_found(context: Context, db: Session) -> None:
    for attempt in (registry.suspend, registry.resume, registry.rotate_secret):
        with pytest.raises(NotFound):
            attempt(context, db, "c0")
    with pytest.raises(NotFound):
        registry.grant_scope(context, db, "c0", "identity_number", "x")


def test_list_all_gives_every_client(context: Context, db: Session) -> None:
    made = {create(context, db).client.id for _ in range(3)}
    assert {found.id for found in registry.list_all(db)} == made
