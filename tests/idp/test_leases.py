"""A lease is held by one at a time, kept by renewing, and taken over when its holder is gone."""

import threading

from sqlalchemy import update

from idp import leases
from idp.context import Context
from idp.models import Lease


def test_lease_is_held_by_one_kept_and_taken_over(context: Context) -> None:
    assert leases.hold(context, "work", "a", 60)
    assert not leases.hold(context, "work", "b", 60)
    assert leases.hold(context, "work", "a", 60)
    assert leases.hold(context, "other work", "b", 60)
    with context.database.session() as session:
        session.execute(update(Lease).where(Lease.name == "work").values(expires_at=context.now()))
    assert leases.hold(context, "work", "b", 60)
    assert not leases.hold(context, "work", "a", 60)


def test_lease_is_renewed_before_it_ends(context: Context) -> None:
    leases.hold(context, "work", "a", 60)
    with context.database.session() as session:
        session.execute(update(Lease).values(expires_at=context.now() + 20))
    assert leases.hold(context, "work", "a", 60)
    with context.database.session(write=False) as session:
        found = session.get(Lease, "work")
    assert found is not None
    assert found.expires_at > context.now() + 50


def test_of_many_that_try_at_once_one_gets_the_lease(context: Context) -> None:
    won: list[str] = []
    barrier = threading.Barrier(8)

    def try_it(name: str) -> None:
        barrier.wait(30)
        if leases.hold(context, "work", name, 60):
            won.append(name)

    for _ in range(2):  # the first time there is no row, the second time it is over
        won.clear()
        threads = [threading.Thread(target=try_it, args=(str(i),)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(won) == 1
        with context.database.session() as session:
            session.execute(update(Lease).values(expires_at=0, holder="gone"))
