"""Retention of the audit: the oldest part of the chain goes, and a signed checkpoint proves the rest.

Nothing goes that is not sealed, anchored outside, verified and older than `YIMEN_AUDIT_KEEP_DAYS` (at least 180 days:
Cybersecurity Law of the PRC, Article 21, no less than six months).
"""

from sqlalchemy import and_, delete, select
from sqlalchemy.orm import Session

from idp import audit
from idp.chain import anchors
from idp.chain.links import Place
from idp.chain.verify import verify
from idp.context import Context
from idp.errors import Conflict
from idp.models import AuditAnchor, AuditRecord

BATCH = 1_000
DAY = 86_400


class ChainBroken(Conflict):
    """The part that would go is not whole: it is evidence and stays."""

    code = "audit_broken"


def purge(context: Context, *, pause: int = 0) -> int:
    """Remove the records whose time is over, in short transactions. How many. Raises ChainBroken.

    `pause` is the least number of seconds between two checkpoints.

    Killed at any point it goes on at the next call: the checkpoint is written first, and removal is from the front.
    """
    last = _checkpoint(context)
    removed = _remove(context, last.sequence) if last else 0
    place = None if last and context.now() - last.at < pause else _purgeable(context, last.sequence if last else 0)
    if place is None:
        return removed
    report = verify(context, through=place.sequence)
    if not report.intact or report.last != place.sequence:
        told = report.faults[0].message if report.faults else f"record {place.sequence} is missing"
        raise ChainBroken(f"the audit is not purged because {told}")
    with context.database.session() as session:
        anchors.add(context, session, "checkpoint", place)
        audit.record(context, session, "audit:records:purged", detail={"through": place.sequence})
    return removed + _remove(context, place.sequence)


def _checkpoint(context: Context) -> AuditAnchor | None:
    """The last checkpoint, when it can be believed."""
    with context.database.session(write=False) as session:
        found = anchors.newest(session, "checkpoint")
    if found is not None and not anchors.is_proven(context, found):
        raise ChainBroken("the audit is not purged because its checkpoint was changed")
    return found


def _purgeable(context: Context, last: int) -> Place | None:
    """The newest anchor outside that is older than the time to keep: every record before it is at least as old."""
    cutoff = context.now() - context.config.audit_keep_days * DAY
    places = [AuditAnchor.filed_at, *([AuditAnchor.stored_at] if context.config.audit_store_url else [])]
    outside = and_(*(place.is_not(None) for place in places))
    with context.database.session(write=False) as session:
        old = session.scalars(
            select(AuditAnchor)
            .where(AuditAnchor.kind == "anchor", AuditAnchor.at < cutoff, AuditAnchor.sequence > last, outside)
            .order_by(AuditAnchor.sequence.desc())
            .limit(1)
        ).one_or_none()
    return Place(old.sequence, old.hash) if old is not None and anchors.is_proven(context, old) else None


def _remove(context: Context, last: int) -> int:
    """Remove the records up to a checkpoint, the oldest first, then the anchors that it replaces."""
    total, removed = 0, BATCH
    while removed == BATCH:
        with context.database.session() as session:
            removed = _remove_batch(session, last)
        total += removed
    with context.database.session() as session:
        session.execute(delete(AuditAnchor).where(AuditAnchor.sequence < last))
    return total


def _remove_batch(session: Session, last: int) -> int:
    oldest = (
        select(AuditRecord.id).where(AuditRecord.sequence <= last).order_by(AuditRecord.sequence).limit(BATCH)
    ).scalar_subquery()
    gone = session.execute(
        delete(AuditRecord)
        .where(AuditRecord.id.in_(oldest))
        .returning(AuditRecord.id)
        .execution_options(synchronize_session=False)
    )
    return len(gone.all())
