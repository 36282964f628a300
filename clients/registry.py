"""Clients: the only writer of their registration. Create, change, suspend, rotate secrets, grant guarded scopes."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from clients import metadata as rules
from idp import audit
from idp.context import Context
from idp.database import insert_into
from idp.errors import Conflict, InvalidInput, NotFound
from idp.logs import mask_free_text
from idp.models import Client, ClientKeySet, ClientPermission, ClientSecret, LegalBasis
from idp.oidc.profiles import GUARDED_SCOPES, PERMISSIONS

OVERLAP_SECONDS = 7 * 86_400
SECRET_METHODS = ("client_secret_basic", "client_secret_post")
BASIS_LIMIT = 500


class WrongState(Conflict):
    """The client is not in the state from which this change starts, or somebody else changed it meanwhile."""

    code = "wrong_state"


@dataclass(frozen=True, slots=True)
class Registered:
    """A client and its secret in clear, which is known at this moment only; None for a client that has none."""

    client: Client
    secret: str | None


def create(context: Context, session: Session, *, metadata: Mapping[str, Any], profile: str = "baseline") -> Registered:
    """Register a client. Raises InvalidClientMetadata, InvalidRedirectUri (RFC 7591 section 3.2.2)."""
    checked, now = rules.check(context, metadata, profile), context.now()
    client_id = "c" + secrets.token_hex(10)
    client = Client(
        id=client_id,
        profile=profile,
        metadata_json=_text(checked),
        sector=rules.sector_host(checked) or client_id,
        created_at=now,
        updated_at=now,
    )
    session.add(client)
    session.flush()
    has_secret = checked["token_endpoint_auth_method"] in SECRET_METHODS
    secret = _new_secret(session, client_id, now) if has_secret else None
    if "jwks_uri" in checked:
        session.add(ClientKeySet(client_id=client_id, uri=checked["jwks_uri"]))
    session.flush()
    session.refresh(client)
    audit.record(context, session, "client:registration:created", client=client_id, detail={"profile": profile})
    return Registered(client, secret)


def _text(metadata: Mapping[str, Any]) -> str:
    return json.dumps(metadata, ensure_ascii=False, sort_keys=True)


def _new_secret(session: Session, client_id: str, now: int) -> str:
    """256 random bits; the database knows only their hash."""
    secret = secrets.token_urlsafe(32)
    row = ClientSecret(
        hash=hashlib.sha256(secret.encode()).digest(), client_id=client_id, last_four=secret[-4:], created_at=now
    )
    session.add(row)
    return secret


def get(session: Session, client_id: str) -> Client:
    """Raises NotFound."""
    found = session.get(Client, client_id)
    if found is None:
        raise NotFound("there is no such client")
    return found


def list_all(session: Session) -> list[Client]:
    """All clients, the oldest first."""
    return list(session.scalars(select(Client).order_by(Client.created_at, Client.id)))


def metadata_of(client: Client) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(client.metadata_json)
    return metadata


def _replace(session: Session, client: Client, **values: Any) -> None:
    """One compare-and-set on the version that was read. Raises WrongState when it is no longer in force."""
    changed = session.execute(
        update(Client)
        .where(Client.id == client.id, Client.version == client.version, Client.status == client.status)
        .values(version=client.version + 1, **values)
        .returning(Client.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if changed is None:
        raise WrongState("the client was changed meanwhile")
    session.refresh(client)


def change(
    context: Context, session: Session, client_id: str, *, metadata: Mapping[str, Any], version: int | None = None
) -> Client:
    """Replace the whole metadata. The method of authentication stays as it is, since secrets hang on it.

    A new sector would give every person a new subject at this client, so that is refused as well. With `version` the
    change holds only for the registration that the caller saw: WrongState when somebody changed it since.
    """
    client = get(session, client_id)
    if version is not None and client.version != version:
        raise WrongState(f"the client was changed meanwhile: it is at version {client.version}, not {version}")
    checked, old = rules.check(context, metadata, client.profile), metadata_of(client)
    if checked == old:
        return client
    for member in ("token_endpoint_auth_method", "subject_type"):
        if checked[member] != old[member]:
            raise rules.InvalidClientMetadata(f"{member} cannot be changed; register a new client")
    if (rules.sector_host(checked) or client.id) != client.sector:
        raise rules.InvalidClientMetadata("redirect_uris cannot move to another host; register a new client")
    _replace(session, client, metadata_json=_text(checked), updated_at=context.now())
    if checked.get("jwks_uri") != old.get("jwks_uri"):  # what was fetched from the old address counts no longer
        session.execute(delete(ClientKeySet).where(ClientKeySet.client_id == client_id))
        if "jwks_uri" in checked:
            session.add(ClientKeySet(client_id=client_id, uri=checked["jwks_uri"]))
            session.flush()
    changed = sorted(name for name in checked.keys() | old.keys() if checked.get(name) != old.get(name))
    audit.record(context, session, "client:registration:changed", client=client_id, detail={"members": changed})
    return client


def rotate_secret(context: Context, session: Session, client_id: str, *, overlap_seconds: int = OVERLAP_SECONDS) -> str:
    """A new secret. The old ones go on for the overlap, so that the client can change over without a break."""
    client, now = get(session, client_id), context.now()
    if metadata_of(client)["token_endpoint_auth_method"] not in SECRET_METHODS:
        raise InvalidInput("this client has no secret")
    if not 0 <= overlap_seconds <= 30 * 86_400:
        raise InvalidInput("the overlap must be 0 seconds to 30 days")
    _replace(session, client, updated_at=now)
    end = now + overlap_seconds
    session.execute(delete(ClientSecret).where(ClientSecret.client_id == client_id, ClientSecret.expires_at <= now))
    session.execute(
        update(ClientSecret)
        .where(
            ClientSecret.client_id == client_id,
            or_(ClientSecret.expires_at.is_(None), ClientSecret.expires_at > end),
        )
        .values(expires_at=end)
        .execution_options(synchronize_session=False)
    )
    secret = _new_secret(session, client_id, now)
    session.flush()
    detail = {"overlap_seconds": overlap_seconds}
    audit.record(context, session, "client:secret:rotated", client=client_id, detail=detail)
    return secret


def suspend(context: Context, session: Session, client_id: str, reason: str = "") -> Client:
    """Nothing works for a suspended client any more, at once. Raises WrongState."""
    return _change_status(context, session, client_id, "active", "suspended", reason)


def resume(context: Context, session: Session, client_id: str, reason: str = "") -> Client:
    """Raises WrongState."""
    return _change_status(context, session, client_id, "suspended", "active", reason)


def _change_status(context: Context, session: Session, client_id: str, old: str, new: str, reason: str) -> Client:
    client = get(session, client_id)
    if client.status != old:
        raise WrongState(f"the client is not {old}")
    _replace(session, client, status=new, updated_at=context.now())
    event = "client:registration:suspended" if new == "suspended" else "client:registration:resumed"
    audit.record(context, session, event, client=client_id, detail={"reason": mask_free_text(reason)})
    return client


def grant_scope(context: Context, session: Session, client_id: str, scope: str, legal_basis: str) -> None:
    """Record the ground on which a client may receive a guarded scope. A later record replaces an earlier one."""
    get(session, client_id)
    basis = " ".join(legal_basis.split())
    if scope not in GUARDED_SCOPES:
        raise InvalidInput(f"only {', '.join(sorted(GUARDED_SCOPES))} needs a legal basis")
    if not 1 <= len(basis) <= BASIS_LIMIT:
        raise InvalidInput(f"the legal basis is a text of 1 to {BASIS_LIMIT} characters")
    values = {"basis": basis, "created_at": context.now()}
    statement = insert_into(session, LegalBasis.__table__).values(client_id=client_id, scope=scope, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["client_id", "scope"], set_=values))
    detail = {"scope": scope, "basis": mask_free_text(basis)}
    audit.record(context, session, "client:scope:granted", client=client_id, detail=detail)


def permit(context: Context, session: Session, client_id: str, permission: str, reason: str) -> None:
    """Permit a client something beyond its profile (protocol.md section 4); recorded with the reason.

    `introspection`: it may ask about tokens that other clients present to it. `token_endpoint_audience`: its
    assertions may name the token endpoint as audience. A later record replaces an earlier one.
    """
    get(session, client_id)
    why = " ".join(reason.split())
    if permission not in PERMISSIONS:
        raise InvalidInput(f"a permission is one of {', '.join(PERMISSIONS)}")
    if not 1 <= len(why) <= BASIS_LIMIT:
        raise InvalidInput(f"the reason is a text of 1 to {BASIS_LIMIT} characters")
    values = {"reason": why, "created_at": context.now()}
    statement = insert_into(session, ClientPermission.__table__).values(
        client_id=client_id, permission=permission, **values
    )
    session.execute(statement.on_conflict_do_update(index_elements=["client_id", "permission"], set_=values))
    detail = {"permission": permission, "reason": mask_free_text(why)}
    audit.record(context, session, "client:permission:granted", client=client_id, detail=detail)


def forbid(context: Context, session: Session, client_id: str, permission: str, reason: str) -> None:
    """Withdraw a permission; it ends at once. Raises WrongState when there is none."""
    get(session, client_id)
    ended = session.execute(
        delete(ClientPermission)
        .where(ClientPermission.client_id == client_id, ClientPermission.permission == permission)
        .returning(ClientPermission.client_id)
    ).one_or_none()
    if ended is None:
        raise WrongState("the client has no such permission")
    detail = {"permission": permission, "reason": mask_free_text(" ".join(reason.split()))}
    audit.record(context, session, "client:permission:withdrawn", client=client_id, detail=detail)


def permissions(session: Session, client_id: str) -> dict[str, str]:
    """What a client is permitted beyond its profile, with the reasons."""
    rows = session.scalars(select(ClientPermission).where(ClientPermission.client_id == client_id))
    return {row.permission: row.reason for row in sorted(rows, key=lambda row: row.permission)}


def describe_keys(session: Session, client_id: str) -> dict[str, Any]:
    """What was fetched from the client's `jwks_uri`, and what came of the last attempt; {} without such an address."""
    row = session.get(ClientKeySet, client_id)
    if row is None:
        return {}
    kids = [key.get("kid") for key in json.loads(row.keys_json)["keys"]] if row.keys_json else []
    return {
        "uri": row.uri,
        "kids": kids,
        "fetched_at": row.fetched_at,
        "fresh_until": row.fresh_until or None,
        "tried_at": row.tried_at or None,
        "result": row.result,
    }


def describe(client: Client) -> dict[str, Any]:
    """A client's registration in force, in the registered names, with what the server knows besides."""
    return {
        **metadata_of(client),
        "client_id": client.id,
        "client_id_issued_at": client.created_at,
        "profile": client.profile,
        "status": client.status,
        "version": client.version,
    }


def describe_secrets(session: Session, client_id: str) -> list[dict[str, Any]]:
    """The secrets of a client by their last four signs, the newest first."""
    rows = session.scalars(
        select(ClientSecret).where(ClientSecret.client_id == client_id).order_by(ClientSecret.created_at.desc())
    )
    return [{"last_four": row.last_four, "created_at": row.created_at, "expires_at": row.expires_at} for row in rows]


def legal_bases(session: Session, client_id: str) -> dict[str, str]:
    """The recorded ground of each guarded scope that a client may receive."""
    rows = session.scalars(select(LegalBasis).where(LegalBasis.client_id == client_id).order_by(LegalBasis.scope))
    return {row.scope: row.basis for row in rows}
