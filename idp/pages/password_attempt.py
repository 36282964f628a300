"""One attempt to sign in with a password: limits, check, lockout, audit and metrics in their one order."""

import logging

import anyio.from_thread
from sqlalchemy.orm import Session

from idp import accounts, audit, known_devices, lockout, metrics, ratelimit
from idp.authn import password
from idp.context import Context
from idp.errors import TooManyRequests
from idp.models import Account
from idp.pages.devices import describe_device

log = logging.getLogger(__name__)


def sign_in(context: Context, db: Session, typed: str, secret: str, devices: str, client: str | None) -> Account | None:
    """The account when its password is right and nothing locks it; what makes it so holds until `db` commits.

    None for every other case, which nobody can tell apart: each costs the same work, and each is counted and
    audited in the transaction of `db`. `devices` is the cookie of known devices, `client` the system that asks.
    Raises TooManyRequests, Overloaded.
    """
    try:
        anyio.from_thread.run(ratelimit.refuse_excess, context)
    except TooManyRequests:
        metrics.LOGINS.labels("password", "limited").inc()
        raise
    account, version, tried = _check(context, typed, secret, devices)
    right = account is not None and version is not None and password.hold(db, account.id, version)
    if lockout.settle(context, db, tried, right=right):
        metrics.LOGINS.labels("password", "done").inc()
        return account
    metrics.LOGINS.labels("password", "refused").inc()
    if anyio.from_thread.run(ratelimit.count_failure, context):
        log.warning("so many sign-ins fail that every address may try less", extra={"fields": {"detail": "attack"}})
    audit.record(
        context,
        db,
        "session:login:refused",
        account=tried.account_id,
        client=client if tried.account_id else None,
        result="refused",
        detail={"method": "password", "device": describe_device(context.user_agent)},
    )
    return None


def _check(
    context: Context, typed: str, secret: str, devices: str
) -> tuple[Account | None, int | None, lockout.Attempt]:
    """Whose account that is, the version of its password when it is right, and what to count the attempt by.

    No transaction that writes is open while the password is being hashed.
    """
    with context.database.session(write=False) as reading:
        account = accounts.find_for_login(context, reading, typed)
        version = password.check(context, reading, account, secret)
        since = password.changed_at(reading, account)
    device = known_devices.find(context, devices, account.id, since) if account is not None else None
    return account, version, lockout.attempt(context, account.id if account else None, typed, device)
