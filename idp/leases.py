"""Leases: background work that one process among all workers and hosts does at a time.

A lease saves work; it guards nothing. Whatever it protects is a compare-and-set of its own, because a holder that
was paused wakes up without knowing that its time is over.
"""

from sqlalchemy import update

from idp.context import Context
from idp.database import insert_into
from idp.models import Lease


def hold(context: Context, name: str, holder: str, seconds: int) -> bool:
    """Take or keep the lease. Whether `holder` has it now, for at least half of `seconds`; one read when it is quiet.

    Two that try at once are told apart by compare-and-set.
    """
    now = context.now()
    with context.database.session(write=False) as session:
        found = session.get(Lease, name)
    if found is not None and found.holder == holder and found.expires_at - now > seconds // 2:
        return True
    if found is not None and found.holder != holder and found.expires_at > now:
        return False
    with context.database.session() as session:
        if found is None:
            values = {"name": name, "holder": holder, "expires_at": now + seconds}
            change = insert_into(session, Lease.__table__).values(**values).on_conflict_do_nothing()
            return session.scalar(change.returning(Lease.name)) is not None
        taken = session.execute(
            update(Lease)
            .where(Lease.name == name, Lease.holder == found.holder, Lease.expires_at == found.expires_at)
            .values(holder=holder, expires_at=now + seconds)
            .returning(Lease.name)
            .execution_options(synchronize_session=False)
        )
        return taken.one_or_none() is not None
