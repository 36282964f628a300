"""What must reach relying parties: rows written by the commit that caused them, sent later, tried for a day."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from idp import metrics
from idp.context import Context
from idp.errors import YimenError
from idp.models import Client, Delivery, Grant
from idp.outgoing import OutgoingFailed, OutgoingRefused

log = logging.getLogger(__name__)

BACKCHANNEL_LOGOUT = "backchannel_logout"
PAUSES = (5, 15, 60, 300, 900, 3_600, 10_800, 21_600, 43_200)  # seconds between attempts: about a day in all
LEASE_SECONDS = 60  # a worker that dies while sending loses its claim after this
POLL_SECONDS = 1.0
BATCH = 20

Builder = Callable[[Context, "Claimed"], Mapping[str, str]]
"""Makes the form fields of a delivery at the moment it is sent."""


class Claimed(NamedTuple):
    """A delivery that this worker alone may send now."""

    id: UUID
    kind: str
    client_id: str
    sector: str
    metadata_json: str
    account_id: UUID
    session_id: UUID
    url: str
    attempts: int


def queue_logout_notices(context: Context, db: Session, session_id: UUID, account_id: UUID) -> None:
    """One notice for each client that was given something in this session and registered an address for it."""
    now = context.now()
    clients = db.execute(
        select(Client.id, Client.metadata_json)
        .where(Client.id.in_(select(Grant.client_id).where(Grant.session_id == session_id)))
        .order_by(Client.id)
    )
    for client_id, metadata_json in clients:
        url = json.loads(metadata_json).get("backchannel_logout_uri")
        if url:
            db.add(
                Delivery(
                    id=uuid4(),
                    kind=BACKCHANNEL_LOGOUT,
                    client_id=client_id,
                    account_id=account_id,
                    session_id=session_id,
                    url=url,
                    next_at=now,
                    created_at=now,
                    updated_at=now,
                )
            )


def claim(context: Context, db: Session) -> list[Claimed]:
    """Deliveries that are due, each claimed by compare-and-set so that two workers never send the same one."""
    now = context.now()
    due = db.execute(
        select(Delivery, Client.sector, Client.metadata_json)
        .join(Client, Client.id == Delivery.client_id)
        .where(Delivery.state == "waiting", Delivery.next_at <= now)
        .order_by(Delivery.next_at)
        .limit(BATCH)
    ).all()
    claimed = []
    for row, sector, metadata_json in due:
        won = db.execute(
            update(Delivery)
            .where(Delivery.id == row.id, Delivery.state == "waiting", Delivery.next_at == row.next_at)
            .values(next_at=now + LEASE_SECONDS, attempts=row.attempts + 1, updated_at=now)
            .returning(Delivery.attempts)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        if won is not None:
            claimed.append(
                Claimed(
                    row.id,
                    row.kind,
                    row.client_id,
                    sector,
                    metadata_json,
                    row.account_id,
                    row.session_id,
                    row.url,
                    won.attempts,
                )
            )
    return claimed


def settle(context: Context, db: Session, delivery: Claimed, *, result: str, final: bool, done: bool) -> None:
    """Record one attempt: done, failed for good, or to be tried again after a growing pause."""
    now = context.now()
    given_up = final or delivery.attempts > len(PAUSES)
    state = "done" if done else "failed" if given_up else "waiting"
    pause = PAUSES[min(delivery.attempts, len(PAUSES)) - 1]
    db.execute(
        update(Delivery)
        .where(Delivery.id == delivery.id, Delivery.attempts == delivery.attempts)
        .values(state=state, last_result=result[:200], next_at=now + pause, updated_at=now)
        .execution_options(synchronize_session=False)
    )


async def send(context: Context, delivery: Claimed, build: Builder) -> tuple[str, bool, bool]:
    """One attempt: what came of it, whether that is final, and whether it arrived.

    Answers 4xx other than 408 and 429 are final (protocol.md section 5); so is a refusal by the guard.
    """
    body = urlencode(build(context, delivery)).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        answer = await context.outgoing.request("POST", delivery.url, content=body, headers=headers)
    except OutgoingRefused as error:
        return f"refused: {error.message}", True, False
    except OutgoingFailed as error:
        return f"failed: {error.message}", False, False
    done = 200 <= answer.status < 300
    final = 300 <= answer.status < 500 and answer.status not in (408, 429)
    return f"status {answer.status}", final, done


def note_backlog(context: Context) -> None:
    """Measure how many deliveries wait, and how many were given up."""
    with context.database.session(write=False) as db:
        for state in ("waiting", "failed"):
            found = db.scalar(select(func.count()).select_from(Delivery).where(Delivery.state == state))
            metrics.BACKLOG.labels(state).set(found or 0)


async def run_once(context: Context, builders: Mapping[str, Builder]) -> int:
    """Send what is due. How many deliveries were tried."""

    def claim_some() -> list[Claimed]:
        with context.database.session() as db:
            return claim(context, db)

    def settle_one(delivery: Claimed, result: str, final: bool, done: bool) -> None:
        with context.database.session() as db:
            settle(context, db, delivery, result=result, final=final, done=done)

    async def send_one(delivery: Claimed) -> None:
        try:
            result, final, done = await send(context, delivery, builders[delivery.kind])
        except Exception as error:  # a notice that cannot be made is tried again like any other, and then given up
            log.exception("delivery failed", extra={"fields": {"client": delivery.client_id}})
            result, final, done = f"failed: {type(error).__name__}", False, False
        await asyncio.to_thread(settle_one, delivery, result, final, done)
        metrics.ATTEMPTS.labels(delivery.kind, "done" if done else "failed").inc()
        log.info(
            "delivery",
            extra={
                "fields": {
                    "kind": delivery.kind,
                    "client": delivery.client_id,
                    "attempt": delivery.attempts,
                    "result": result,
                }
            },
        )

    due = await asyncio.to_thread(claim_some)
    await asyncio.gather(*(send_one(delivery) for delivery in due))
    return len(due)


async def run_forever(context: Context, builders: Mapping[str, Builder]) -> None:
    """The delivery loop of one worker. An outage of the database pauses it and never ends it."""
    while True:
        try:
            sent = await run_once(context, builders)
        except YimenError as error:
            log.warning("deliveries wait", extra={"fields": {"detail": error.detail or error.code}})
            sent = 0
        if sent < BATCH:
            await asyncio.sleep(POLL_SECONDS)
