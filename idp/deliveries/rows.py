"""The notices themselves: rows written by the commit that caused them, claimed by one worker at a time, settled."""

import json
from typing import NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from idp.context import Context
from idp.deliveries import lanes
from idp.models import Client, Delivery, Grant

BACKCHANNEL_LOGOUT = "backchannel_logout"
PAUSES = (5, 15, 60, 300, 900, 3_600, 10_800, 21_600, 43_200)  # seconds between attempts: about a day in all
LIFE_SECONDS = 2 * 86_400  # after this a notice is given up, however seldom its lane was open
LEASE_SECONDS = 60  # a worker that dies while sending loses its claim after this


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
    leased_until: int


class Outcome(NamedTuple):
    """What came of one attempt. `error` is its class (None when it arrived), `answered` whether the lane works."""

    result: str
    error: str | None
    final: bool
    answered: bool

    @property
    def done(self) -> bool:
        return self.error is None


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
                    give_up_at=now + LIFE_SECONDS,
                    created_at=now,
                    updated_at=now,
                )
            )


def claim(context: Context, db: Session, most: int) -> list[Claimed]:
    """At most `most` deliveries that are due, a few of each client, claimed so that two workers never send the same."""
    now, claimed = context.now(), list[Claimed]()
    for client_id in lanes.due(db, now, most):
        room = min(lanes.take(db, client_id, now), most - len(claimed))
        if room:
            claimed += _claim_of(db, client_id, now, room)
    return claimed


def _claim_of(db: Session, client_id: str, now: int, room: int) -> list[Claimed]:
    client = db.execute(select(Client.sector, Client.metadata_json).where(Client.id == client_id)).one()
    found = (
        select(Delivery.id, Delivery.next_at)
        .where(Delivery.client_id == client_id, Delivery.state == "waiting", Delivery.next_at <= now)
        .order_by(Delivery.next_at, Delivery.id)
        .limit(room)
    )
    claimed, lease = [], now + LEASE_SECONDS
    for delivery_id, next_at in db.execute(found).all():
        won = db.execute(
            update(Delivery)
            .where(Delivery.id == delivery_id, Delivery.state == "waiting", Delivery.next_at == next_at)
            .values(next_at=lease, leased_until=lease, attempts=Delivery.attempts + 1, updated_at=now)
            .returning(Delivery.kind, Delivery.account_id, Delivery.session_id, Delivery.url, Delivery.attempts)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        if won is not None:
            kind, account_id, session_id, url, attempts = won
            place = (client_id, client.sector, client.metadata_json, account_id, session_id, url)
            claimed.append(Claimed(delivery_id, kind, *place, attempts, lease))
    return claimed


def settle(context: Context, db: Session, delivery: Claimed, outcome: Outcome) -> None:
    """Record one attempt: done, failed for good, or to be tried again after a growing pause.

    A claim that was lost meanwhile (its lease ran out, an operator cancelled it) changes nothing but the lane.
    """
    now = context.now()
    lanes.note(db, delivery.client_id, now, answered=outcome.answered)
    given_up = outcome.final or delivery.attempts > len(PAUSES)
    state = "done" if outcome.done else "failed" if given_up else "waiting"
    pause = PAUSES[min(delivery.attempts, len(PAUSES)) - 1]
    db.execute(
        update(Delivery)
        .where(
            Delivery.id == delivery.id,
            Delivery.state == "waiting",
            Delivery.attempts == delivery.attempts,
            Delivery.leased_until == delivery.leased_until,
        )
        .values(
            state=state,
            last_result=outcome.result[:200],
            error_class=outcome.error,
            leased_until=None,
            next_at=now + pause,
            updated_at=now,
        )
        .execution_options(synchronize_session=False)
    )


def give_up_old(context: Context, db: Session, *, limit: int = 100) -> int:
    """Give up what has waited too long, a bounded number at a time. How many there were."""
    now = context.now()
    old = (
        select(Delivery.id)
        .where(
            Delivery.state == "waiting",
            func.coalesce(Delivery.give_up_at, Delivery.created_at + LIFE_SECONDS) <= now,
            or_(Delivery.leased_until.is_(None), Delivery.leased_until <= now),
        )
        .limit(limit)
    )
    ended = db.scalars(
        update(Delivery)
        .where(Delivery.id.in_(old.scalar_subquery()), Delivery.state == "waiting")
        .values(state="failed", error_class="too_late", last_result="waited too long", updated_at=now)
        .returning(Delivery.id)
        .execution_options(synchronize_session=False)
    ).all()
    return len(ended)
