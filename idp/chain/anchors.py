"""Anchors: signed statements of where the chain stood, kept in the database, in a file, and in an outside store.

Whoever may write the database can cut its end off, or put an old backup in its place. What lies outside tells.

A statement is a JWS of type `yimen-audit+jwt` with the claims `iss`, `kind` (anchor or checkpoint), `sequence`,
`hash` and `mac` in hexadecimal, `iat`, `key_version`. The signature is for those who have only the public keys; the
`mac` stays good when a signing key is gone.
"""

import asyncio
import hmac
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from idp import leases
from idp.chain.links import Place, mac_of
from idp.context import Context
from idp.database import insert_into
from idp.encryption import ROOT_VERSION
from idp.errors import Unavailable, YimenError
from idp.models import AuditAnchor, AuditHead
from idp.outgoing import OutgoingFailed, OutgoingRefused

log = logging.getLogger(__name__)

TYPE, ALGORITHM = "yimen-audit+jwt", "ES256"
LEASE, LEASE_SECONDS = "audit anchors", 60
POLL_SECONDS = 2.0
BATCH = 50
PAUSE_LIMIT = 900  # seconds between attempts to reach the outside store: it is asked again for ever
RECEIPT_LIMIT = 8_192


def newest(session: Session, kind: str) -> AuditAnchor | None:
    return session.scalars(
        select(AuditAnchor).where(AuditAnchor.kind == kind).order_by(AuditAnchor.sequence.desc()).limit(1)
    ).one_or_none()


def make_if_due(context: Context, *, now_at_latest: bool = False) -> Place | None:
    """Anchor the head of the chain when the interval of time or of records is over; where, or None.

    `now_at_latest` anchors whatever is not anchored yet.
    """
    with context.database.session(write=False) as session:
        head, last = session.get(AuditHead, 1), newest(session, "anchor")
    if head is None or (last is not None and last.sequence >= head.sequence):
        return None
    config = context.config
    due = (
        last is None
        or now_at_latest
        or context.now() - last.at >= config.audit_anchor_seconds
        or head.sequence - last.sequence >= config.audit_anchor_records
    )
    if not due:
        return None
    place = Place(head.sequence, head.hash)
    with context.database.session() as session:
        add(context, session, "anchor", place)
    log.info("audit anchored", extra={"fields": {"sequence": place.sequence}})
    return place


def add(context: Context, session: Session, kind: str, place: Place) -> None:
    """Sign a statement about a place of the chain and keep it. Of two at once one stays."""
    now, version = context.now(), ROOT_VERSION
    mac = mac_of(context.vault, version, kind, place, now)
    claims = {
        "iss": context.config.issuer,
        "kind": kind,
        "sequence": place.sequence,
        "hash": place.hash.hex(),
        "iat": now,
        "key_version": version,
        "mac": mac.hex(),
    }
    values = {
        "kind": kind,
        "sequence": place.sequence,
        "hash": place.hash,
        "at": now,
        "key_version": version,
        "mac": mac,
        "statement": context.keys.sign(claims, typ=TYPE, algorithm=ALGORITHM),
        "attempts": 0,
        "next_at": now,
    }
    session.execute(insert_into(session, AuditAnchor.__table__).values(**values).on_conflict_do_nothing())


def is_proven(context: Context, anchor: AuditAnchor) -> bool:
    """Whether the holder of the master key made this row. Raises MasterKeyError when its version is missing."""
    place = Place(anchor.sequence, anchor.hash)
    mac = mac_of(context.vault, anchor.key_version, anchor.kind, place, anchor.at)
    return hmac.compare_digest(mac, anchor.mac)


# --- the file


def line_of(anchor: AuditAnchor) -> str:
    """The anchor as one JSON line: what a person wants to read, and the statement that counts."""
    told = {"kind": anchor.kind, "sequence": anchor.sequence, "at": anchor.at, "hash": anchor.hash.hex()}
    return json.dumps({**told, "statement": anchor.statement})


def append(path: Path, lines: Sequence[str]) -> None:
    """Append lines and wait for the disk. A line may come twice when a process died after it. Raises Unavailable.

    What a crash left without its line end is closed first, so that it spoils no other line.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            data = ("\n" if torn else "").encode() + "".join(f"{line}\n" for line in lines).encode()
            if os.write(descriptor, data) != len(data):
                raise OSError(None, "no room")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Unavailable(detail=f"the file of audit anchors cannot be written: {error.strerror}") from None


def file_pending(context: Context) -> int:
    """Append the anchors that the file does not have yet. How many. Raises Unavailable."""
    with context.database.session(write=False) as session:
        found = _pending(session, AuditAnchor.filed_at.is_(None))
    if found:
        append(context.config.audit_anchor_file, [line_of(anchor) for anchor in found])
        with context.database.session() as session:
            for anchor in found:
                _mark(session, anchor, filed_at=context.now())
    return len(found)


# --- the outside store


async def store_pending(context: Context) -> int:
    """Offer the anchors that are due to the outside store, the oldest first. How many it took.

    `POST` of the line as `application/json`; 2xx means kept for good, and the body is the receipt. Any other answer
    is tried again with growing pauses: an anchor that an outside store never takes is an alarm and never given up.
    """

    def read() -> Sequence[AuditAnchor]:
        with context.database.session(write=False) as session:
            return _pending(session, AuditAnchor.stored_at.is_(None) & (AuditAnchor.next_at <= context.now()))

    def write(anchor: AuditAnchor, **values: object) -> None:
        with context.database.session() as session:
            _mark(session, anchor, **values)

    taken = 0
    for anchor in await asyncio.to_thread(read) if context.config.audit_store_url else ():
        result, receipt = await _offer(context, anchor)
        now, attempts = context.now(), anchor.attempts + 1
        values: dict[str, object] = {"attempts": attempts, "last_result": result}
        if receipt is not None:
            await asyncio.to_thread(write, anchor, **values, stored_at=now, receipt=receipt)
            taken += 1
            continue
        await asyncio.to_thread(write, anchor, **values, next_at=now + min(5 * 2 ** min(attempts, 10), PAUSE_LIMIT))
        log.warning("audit anchor not stored", extra={"fields": {"sequence": anchor.sequence, "result": result}})
        break  # the next ones would meet the same
    return taken


async def _offer(context: Context, anchor: AuditAnchor) -> tuple[str, str | None]:
    """What came of one attempt, and the receipt when the anchor was taken."""
    try:
        answer = await context.outgoing.request(
            "POST",
            context.config.audit_store_url,
            content=line_of(anchor).encode(),
            headers={"Content-Type": "application/json"},
        )
    except OutgoingRefused as error:
        return f"refused: {error.message}"[:200], None
    except OutgoingFailed as error:
        return f"failed: {error}"[:200], None
    taken = 200 <= answer.status < 300
    receipt = answer.body[:RECEIPT_LIMIT].decode("utf-8", "replace").replace("\0", "")
    return f"status {answer.status}", receipt if taken else None


def _pending(session: Session, condition: object) -> Sequence[AuditAnchor]:
    return session.scalars(
        select(AuditAnchor).where(condition).order_by(AuditAnchor.sequence, AuditAnchor.kind).limit(BATCH)  # type: ignore[arg-type]
    ).all()


def _mark(session: Session, anchor: AuditAnchor, **values: object) -> None:
    session.execute(
        update(AuditAnchor)
        .where(AuditAnchor.kind == anchor.kind, AuditAnchor.sequence == anchor.sequence)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


async def run_forever(context: Context) -> None:
    """The loop that carries anchors outside, in one process at a time. An outage pauses it and never ends it."""
    holder = uuid4().hex
    while True:
        try:
            await _turn(context, holder)
        except YimenError as error:
            _warn(error)
        await asyncio.sleep(POLL_SECONDS)


async def _turn(context: Context, holder: str) -> None:
    if not await asyncio.to_thread(leases.hold, context, LEASE, holder, LEASE_SECONDS):
        return
    try:
        await asyncio.to_thread(file_pending, context)
    except YimenError as error:  # a full disk here must not keep anchors from the outside store
        _warn(error)
    await store_pending(context)


def _warn(error: YimenError) -> None:
    log.warning("audit anchors wait", extra={"fields": {"detail": error.detail or error.message}})
