"""Lanes: the way to each relying party, so that a silent one slows nobody but itself.

A party gets few calls at once over all workers; one that failed to answer gets one at a time, and after three failures
in a row nothing is sent to it for a growing while. Then one notice goes first and decides.
"""

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from idp.database import insert_into
from idp.models import Delivery, DeliveryLane

PER_CLIENT = 4  # calls at once
THRESHOLD = 3  # failures in a row that pause a lane
PAUSES = (30, 60, 120, 300, 900)  # seconds; the last one again and again

# the waiting clients one by one from the index, however many notices each has (a skip scan)
_DUE = text("""
with recursive waiting(client_id) as (
  select min(client_id) from deliveries where state = 'waiting'
  union all
  select (select min(more.client_id) from deliveries as more
           where more.state = 'waiting' and more.client_id > waiting.client_id)
    from waiting where waiting.client_id is not null),
first as (
  select waiting.client_id,
         (select min(next_at) from deliveries as earliest
           where earliest.state = 'waiting' and earliest.client_id = waiting.client_id) as due,
         (select count(*) from deliveries as flying
           where flying.state = 'waiting' and flying.client_id = waiting.client_id
             and flying.next_at > :now and flying.leased_until > :now) as busy
    from waiting where waiting.client_id is not null)
select first.client_id from first left join delivery_lanes on delivery_lanes.client_id = first.client_id
 where first.due <= :now and coalesce(delivery_lanes.paused_until, 0) <= :now
   and first.busy < case when coalesce(delivery_lanes.failures, 0) > 0 then 1 else :per_client end
 order by first.due, first.client_id limit :most""")


def due(db: Session, now: int, most: int) -> list[str]:
    """The clients to which something is to be sent now and that have room, the one that waits longest first."""
    return list(db.scalars(_DUE, {"now": now, "most": most, "per_client": PER_CLIENT}))


def take(db: Session, client_id: str, now: int) -> int:
    """How many more calls this client may get now. The lane is this transaction's until its end; 0 if another's."""
    values = {"client_id": client_id, "failures": 0, "paused_until": 0, "updated_at": now}
    db.execute(insert_into(db, DeliveryLane.__table__).values(**values).on_conflict_do_nothing())
    mine = select(DeliveryLane.failures, DeliveryLane.paused_until).where(DeliveryLane.client_id == client_id)
    lane = db.execute(mine.with_for_update(skip_locked=True)).one_or_none()
    if lane is None or lane.paused_until > now:
        return 0
    in_flight = db.scalar(
        select(func.count())
        .select_from(Delivery)
        .where(
            Delivery.client_id == client_id,
            Delivery.state == "waiting",
            Delivery.next_at > now,  # a lease moves it too, and the index knows it
            Delivery.leased_until > now,
        )
    )
    return max(0, (1 if lane.failures else PER_CLIENT) - (in_flight or 0))


def note(db: Session, client_id: str, now: int, *, answered: bool) -> None:
    """What an attempt tells about a lane: any answer opens it again, silence and errors of the server count."""
    lane = update(DeliveryLane).where(DeliveryLane.client_id == client_id)
    if answered:
        db.execute(lane.where(DeliveryLane.failures > 0).values(failures=0, paused_until=0, updated_at=now))
        return
    counted = lane.values(failures=DeliveryLane.failures + 1, updated_at=now).returning(DeliveryLane.failures)
    failures = db.scalar(counted.execution_options(synchronize_session=False))
    if failures is not None and failures >= THRESHOLD:
        pause = PAUSES[min(failures - THRESHOLD, len(PAUSES) - 1)]
        db.execute(lane.values(paused_until=now + pause).execution_options(synchronize_session=False))


def lift(db: Session, client_id: str, now: int) -> None:
    """End a pause: an operator says that the way is free again. The next notice still goes alone."""
    lifted = update(DeliveryLane).where(DeliveryLane.client_id == client_id, DeliveryLane.paused_until > now)
    db.execute(lifted.values(paused_until=0, updated_at=now).execution_options(synchronize_session=False))
