"""A new epoch: nothing that was given out before it is taken any more (security.md section 3.4 e).

For a database that was restored from a backup. Between the backup and the loss sessions were ended, tokens revoked
and refresh tokens used; the backup knows nothing of it, and would count the same generations a second time.
"""

from sqlalchemy import CursorResult, update
from sqlalchemy.orm import Session

from idp import audit
from idp.context import Context
from idp.models import Grant, SignOn

REASON = "restored"


def bump(context: Context, session: Session) -> dict[str, int]:
    """End every session and revoke every grant, with its code and tokens, in one transaction. How many of each.

    Clients get no logout notices: the backup does not know which of these sessions they still had. What a later way
    to sign in gives out before a session exists (links, one-time codes) lives for minutes and ends by itself.
    """
    now = context.now()
    sessions = session.execute(
        update(SignOn).where(SignOn.ended_at.is_(None)).values(ended_at=now, end_reason=REASON),
        execution_options={"synchronize_session": False},
    )
    grants = session.execute(
        update(Grant).where(Grant.revoked_at.is_(None)).values(revoked_at=now, revoke_reason=REASON),
        execution_options={"synchronize_session": False},
    )
    counted = {"sessions": _count(sessions), "grants": _count(grants)}
    audit.record(context, session, "installation:epoch:bumped", detail=counted)
    return counted


def _count(result: object) -> int:
    assert isinstance(result, CursorResult)
    return result.rowcount
