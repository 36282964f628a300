"""The board: what operators see of deliveries and may do with them; each act is recorded with its reason."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from idp import audit, metrics
from idp.context import Context
from idp.deliveries import lanes
from idp.deliveries.rows import LIFE_SECONDS
from idp.errors import Conflict, InvalidInput, NotFound
from idp.logs import mask_free_text
from idp.models import Client, Delivery, DeliveryLane
from idp.statements import Change, Done

STATES = {"waiting": "waiting", "done": "delivered", "failed": "given_up"}
RETRIED_AT_ONCE = 500


class WrongState(Conflict):
    """The delivery is not in the state from which this act starts."""

    code = "wrong_state"


RETRY = Change(
    "delivery retried",
    wanted={"id": "uuid", "at": "bigint", "give_up_at": "bigint"},
    row=Done,
    then=(audit.RECORD,),
    sql="""
    update deliveries set state = 'waiting', attempts = 0, next_at = wanted.at, give_up_at = wanted.give_up_at,
           leased_until = null, updated_at = wanted.at
      from wanted
     where deliveries.id = wanted.id and deliveries.state in ('waiting', 'failed')
       and coalesce(deliveries.leased_until, 0) <= wanted.at
    returning {ordinal}""",
)

CANCEL = Change(
    "delivery cancelled",
    wanted={"id": "uuid", "at": "bigint"},
    row=Done,
    then=(audit.RECORD,),
    sql="""
    update deliveries set state = 'failed', error_class = 'cancelled', leased_until = null, updated_at = wanted.at
      from wanted
     where deliveries.id = wanted.id and deliveries.state = 'waiting'
    returning {ordinal}""",
)


def get(db: Session, delivery_id: UUID) -> Delivery:
    """Raises NotFound."""
    found = db.get(Delivery, delivery_id)
    if found is None:
        raise NotFound("there is no such delivery")
    return found


def describe(row: Delivery) -> dict[str, Any]:
    """A delivery for operators: times in epoch seconds, no token, nobody's name."""
    return {
        "delivery": str(row.id),
        "kind": row.kind,
        "client_id": row.client_id,
        "account": str(row.account_id),
        "session": str(row.session_id),
        "url": row.url,
        "state": STATES[row.state],
        "attempts": row.attempts,
        "last_result": row.last_result,
        "error_class": row.error_class,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "next_at": row.next_at if row.state == "waiting" else None,
        "give_up_at": row.give_up_at if row.state == "waiting" else None,
    }


def listing(
    db: Session, *, client: str = "", state: str = "", before: str = "", limit: int = 50
) -> tuple[Sequence[Delivery], str]:
    """Deliveries, the newest first, and the cursor of the page after ("" at the end). Raises InvalidInput."""
    found = select(Delivery).order_by(Delivery.created_at.desc(), Delivery.id.desc()).limit(limit + 1)
    if client:
        found = found.where(Delivery.client_id == client)
    if state:
        stored = next((name for name, shown in STATES.items() if shown == state), None)
        if stored is None:
            raise InvalidInput(f"the state is one of {', '.join(STATES.values())}")
        found = found.where(Delivery.state == stored)
    if before:
        at, last = _place(before)
        found = found.where(or_(Delivery.created_at < at, and_(Delivery.created_at == at, Delivery.id < last)))
    rows = db.scalars(found).all()
    shown = rows[:limit]
    return shown, f"{shown[-1].created_at}-{shown[-1].id.hex}" if len(rows) > limit else ""


def _place(cursor: str) -> tuple[int, UUID]:
    at, _, name = cursor.partition("-")
    try:
        return int(at), UUID(hex=name)
    except ValueError:
        raise InvalidInput("before is no place in the list") from None


def count_by_client(db: Session, now: int) -> list[dict[str, Any]]:
    """Each client that was ever to be told something: counts by state, the longest wait, and its lane."""
    counted = db.execute(
        select(Delivery.client_id, Delivery.state, func.count(), func.min(Delivery.created_at)).group_by(
            Delivery.client_id, Delivery.state
        )
    )
    clients: dict[str, dict[str, Any]] = {}
    for client_id, state, count, oldest in counted:
        row = clients.setdefault(client_id, _empty(client_id))
        row[STATES[state]] = count
        if state == "waiting":
            row["waiting_seconds"] = max(0, now - oldest)
    for lane in db.scalars(select(DeliveryLane).where(DeliveryLane.failures > 0)):
        if lane.client_id in clients:
            clients[lane.client_id] |= _lane(lane, now)
    return sorted(clients.values(), key=lambda row: (-row["waiting"], -row["given_up"], row["client_id"]))


def _empty(client_id: str) -> dict[str, Any]:
    zero = dict.fromkeys((*STATES.values(), "waiting_seconds", "failures_in_a_row"), 0)
    return {"client_id": client_id, **zero, "paused_until": None}


def _lane(lane: DeliveryLane, now: int) -> dict[str, Any]:
    paused = lane.paused_until if lane.paused_until > now else None
    return {"failures_in_a_row": lane.failures, "paused_until": paused}


def retry(context: Context, db: Session, delivery_id: UUID) -> Delivery:
    """Send a delivery now and for another life, and lift the pause of its client. Raises NotFound, WrongState."""
    row, now = get(db, delivery_id), context.now()
    lanes.lift(db, row.client_id, now)
    record = audit.values(context, "delivery:notice:retried", **_about(row))
    if RETRY.one(db, id=row.id, at=now, give_up_at=now + LIFE_SECONDS, **record) is None:
        raise WrongState("the delivery has arrived, or is being sent at this moment")
    db.refresh(row)
    return row


def retry_client(context: Context, db: Session, client_id: str) -> int:
    """`retry` for what was given up of a client, and not cancelled: at most 500 at once. Raises NotFound."""
    if db.get(Client, client_id) is None:
        raise NotFound("there is no such client")
    lanes.lift(db, client_id, context.now())
    lost = Delivery.error_class.is_distinct_from("cancelled")
    given_up = (
        select(Delivery.id)
        .where(Delivery.client_id == client_id, Delivery.state == "failed", lost)
        .order_by(Delivery.created_at, Delivery.id)
        .limit(RETRIED_AT_ONCE)
    )
    return len([retry(context, db, delivery_id) for delivery_id in db.scalars(given_up).all()])


def cancel(context: Context, db: Session, delivery_id: UUID, reason: str) -> Delivery:
    """Give a waiting delivery up. Raises NotFound, WrongState."""
    row = get(db, delivery_id)
    record = audit.values(context, "delivery:notice:cancelled", **_about(row, reason=mask_free_text(reason)))
    if CANCEL.one(db, id=row.id, at=context.now(), **record) is None:
        raise WrongState("the delivery is not waiting")
    db.refresh(row)
    return row


def _about(row: Delivery, **more: str) -> dict[str, Any]:
    return {"account": row.account_id, "client": row.client_id, "detail": {"delivery": str(row.id), **more}}


def note_backlog(context: Context) -> None:
    """Measure how many deliveries wait, and how many were given up."""
    with context.database.session(write=False) as db:
        for state in ("waiting", "failed"):
            found = db.scalar(select(func.count()).select_from(Delivery).where(Delivery.state == state))
            metrics.BACKLOG.labels(state).set(found or 0)
