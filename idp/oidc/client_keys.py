"""Keys of clients: registered (`jwks`), or fetched from the client (`jwks_uri`) and kept in one row for all workers.

A key that is not known makes us look again, at most once a minute for each client, so that nobody who invents key
names can use this server as a hammer. A client whose address fails keeps its old keys for a day.
"""

import asyncio
import json
import logging
import re
from dataclasses import dataclass
from uuid import uuid4

from idp.context import Context
from idp.oidc import jose, store
from idp.oidc.client import RelyingParty
from idp.oidc.jose import Malformed, PublicKey, Signed
from idp.oidc.store import KeySetRow
from idp.outgoing import OutgoingFailed, OutgoingRefused

log = logging.getLogger(__name__)

SET_LIMIT = 65_536  # bytes
FRESH_SECONDS = 3_600  # when the answer does not say
FRESH_RANGE = (60, 86_400)
STALE_SECONDS = 86_400  # how long old keys go on while their address fails
SEARCH_SECONDS = 60  # between two fetches because of unknown keys
RETRY_SECONDS = 15  # between two fetches because the last one failed; longer than a fetch may take
WAIT_SECONDS, PAUSE_SECONDS = 11.0, 0.1  # for the fetch of another worker
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=([0-9]{1,9})(?:$|[,\s])")

_flights: dict[tuple[int, str], asyncio.Task[None]] = {}  # fetches of this process, one for each database and client


@dataclass(frozen=True, slots=True)
class _Fetched:
    keys: tuple[PublicKey, ...]
    fresh_seconds: int


async def load_row(context: Context, client_id: str) -> KeySetRow | None:
    """What was fetched last. None for a client that has no `jwks_uri`."""
    return await context.database.load_one(store.KEY_SET, client=client_id)


async def find_key(context: Context, party: RelyingParty, row: KeySetRow | None, token: Signed) -> PublicKey | None:
    """The client's key that a token names. Without a reason to fetch there is no input or output here."""
    if "jwks" in party.metadata:
        return jose.choose(jose.known_set(json.dumps(party.metadata["jwks"], sort_keys=True)), token)
    uri = party.metadata.get("jwks_uri")
    if uri is None or row is None:
        return None
    key, fresh = jose.choose(_usable(row, context.now()), token), row.fresh_until > context.now()
    if key is not None and fresh:
        return key
    await _refresh(context, party.client_id, str(uri), unknown=fresh)
    again = await load_row(context, party.client_id)
    return jose.choose(_usable(again, context.now()), token) if again else None


def _usable(row: KeySetRow, now: int) -> tuple[PublicKey, ...]:
    if row.keys_json is None or row.fresh_until + STALE_SECONDS <= now:
        return ()
    return jose.known_set(row.keys_json)


async def _refresh(context: Context, client_id: str, uri: str, *, unknown: bool) -> None:
    """One fetch at a time for a client in this process; whoever comes meanwhile waits for it."""
    name = (id(context.database), client_id)
    task = _flights.get(name)
    if task is None:
        task = asyncio.create_task(_fetch_once(context, client_id, uri, unknown=unknown))
        _flights[name] = task
        task.add_done_callback(lambda _: _flights.pop(name, None))
    await asyncio.shield(task)


async def _fetch_once(context: Context, client_id: str, uri: str, *, unknown: bool) -> None:
    """Fetch if this worker gets the turn; else wait for the worker that has it."""
    attempt, now = uuid4(), context.now()
    turn = await context.database.commit(
        store.CLAIM_FETCH,
        client=client_id,
        uri=uri,
        attempt=attempt,
        at=now,
        tried=now - RETRY_SECONDS,
        searched=now - SEARCH_SECONDS if unknown else None,
    )
    if turn is None:
        await _wait(context, client_id)
        return
    try:
        found = await _fetch(context, uri)
    except (OutgoingFailed, OutgoingRefused, Malformed) as error:
        reason = error.message if isinstance(error, OutgoingFailed | OutgoingRefused) else str(error)
        log.warning("keys of a client not fetched", extra={"fields": {"client": client_id, "reason": reason}})
        kind = "refused" if isinstance(error, OutgoingRefused) else "failed"
        await context.database.commit(
            store.GIVE_UP_FETCH, client=client_id, attempt=attempt, result=f"{kind}: {reason}"[:200]
        )
        return
    done = context.now()
    await context.database.commit(
        store.KEEP_KEYS,
        client=client_id,
        attempt=attempt,
        keys=jose.write_set(found.keys),
        at=done,
        fresh_until=done + found.fresh_seconds,
        result=f"{len(found.keys)} keys",
    )


async def _wait(context: Context, client_id: str) -> None:
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        row = await load_row(context, client_id)
        if row is None or row.fetch_id is None or row.tried_at <= context.now() - RETRY_SECONDS:
            return
        await asyncio.sleep(PAUSE_SECONDS)


async def _fetch(context: Context, uri: str) -> _Fetched:
    """Raises OutgoingFailed, OutgoingRefused, Malformed. An empty set is an answer: every key was withdrawn."""
    headers = {"Accept": "application/jwk-set+json, application/json"}
    answer = await context.outgoing.request("GET", uri, headers=headers, limit=SET_LIMIT)
    if answer.status != 200:
        raise OutgoingFailed(f"status {answer.status}")
    return _Fetched(jose.read_set(answer.body), fresh_seconds(answer.headers.get("cache-control", "")))


def fresh_seconds(cache_control: str) -> int:
    """How long an answer counts as fresh (RFC 9111 section 5.2.2), within bounds."""
    directives = cache_control.lower()
    found = _MAX_AGE.search(directives)
    if "no-store" in directives or "no-cache" in directives:
        return FRESH_RANGE[0]
    return min(max(int(found[1]), FRESH_RANGE[0]), FRESH_RANGE[1]) if found else FRESH_SECONDS
