"""Seed: clients and people of an installation, described as JSON on standard output.

`seed.py PEOPLE` makes them; `seed.py PEOPLE ACCOUNTS CLIENTS` puts them among so many others.
"""

import asyncio
import json
import sys
from typing import Any

from sqlalchemy.orm import Session

from clients import registry
from idp.config import load_config
from idp.context import Context
from idp.oidc import profiles
from server import close, open_context
from tests.bench import growth, people
from tests.bench.target import REDIRECT_URI


def main(count: int, others: int = 0, clients: int = 0) -> None:
    """Print the clients by algorithm, and each person's number, password and session cookie."""
    context = open_context(load_config())
    try:
        with context.database.session() as session:
            measured = {algorithm: _client(context, session, algorithm) for algorithm in profiles.ALGORITHMS}
            client_ids = [client["id"] for client in measured.values()]
            made = [] if others else people.make(context, session, count, client_ids)
        if others:
            made = growth.fill(context, others, clients, count, client_ids)
        print(json.dumps({"clients": measured, "people": made}))
    finally:
        asyncio.run(close(context))


def _client(context: Context, session: Session, algorithm: str) -> dict[str, Any]:
    grant_types = ["authorization_code", "refresh_token"]
    if "client_credentials" in profiles.GRANT_TYPES:
        grant_types.append("client_credentials")
    metadata = {
        "client_name": f"测速 {algorithm}",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": grant_types,
        "id_token_signed_response_alg": algorithm,
    }
    made = registry.create(context, session, metadata=metadata)
    return {"id": made.client.id, "secret": made.secret}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
