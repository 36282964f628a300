"""Relying parties of the flow tests that sign with their own keys, and service clients."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import select

from idp.database import Database
from idp.models import AuditRecord
from tests.support.assertions import KeyPair, assertion, es256_key, form_of
from tests.support.servers import YimenServer
from tests.support.visitor import REDIRECT_URI, Rp


@dataclass
class SigningRp(Rp):
    """A relying party that authenticates by private_key_jwt."""

    key: KeyPair = field(default_factory=es256_key)

    def post(self, path: str, data: dict[str, str], **options: Any) -> httpx2.Response:
        if "client_assertion" not in data:
            data = form_of(assertion(self.key, self.client_id, self.server), **data)
        options.setdefault("auth", None)
        return super().post(path, data, **options)


def add(server: YimenServer, folder: Path, *arguments: str, status: int = 0, **metadata: Any) -> dict[str, Any]:
    """`client add` with this metadata."""
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return server.cli(
        "client", "add", "--name", "归集", *arguments, "--metadata", str(folder / "metadata.json"), status=status
    )


def add_signing(server: YimenServer, folder: Path, *arguments: str, **metadata: Any) -> SigningRp:
    """A client that signs people in, speaks for itself, and authenticates by a key of its own."""
    key = metadata.pop("key", None) or es256_key()
    given = {
        "redirect_uris": [REDIRECT_URI],
        "token_endpoint_auth_method": "private_key_jwt",
        "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
        "scope": "openid profile offline_access gjj:read",
        **({} if "jwks_uri" in metadata else {"jwks": {"keys": [key.public]}}),
        **metadata,
    }
    made = add(server, folder, *arguments, **given)
    assert "client_secret" not in made
    return SigningRp(server.url, made["client_id"], "", key=key)


def add_service(server: YimenServer, folder: Path, **metadata: Any) -> Rp:
    """A client with a secret that only speaks for itself."""
    made = add(server, folder, **{"grant_types": ["client_credentials"], **metadata})
    return Rp(server.url, made["client_id"], made["client_secret"])


def records(server: YimenServer, event: str, client_id: str) -> list[dict[str, Any]]:
    """The audit records of an event about a client."""
    database = Database(server.environment["YIMEN_DATABASE_URL"])
    with database.session(write=False) as db:
        rows = db.scalars(select(AuditRecord).where(AuditRecord.event == event, AuditRecord.client_id == client_id))
        found = [{"result": row.result, "account": row.account_id, **json.loads(row.detail or "{}")} for row in rows]
    database.engine.dispose()
    return found
