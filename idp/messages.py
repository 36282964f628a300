"""What people are told by phone or mail: rows written by the commit that caused them, sent by a worker right after.

A message goes to the first contact that the person proved, a phone before a mail address, looked up when it is sent.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from idp import metrics
from idp.context import Context
from idp.errors import YimenError
from idp.models import Contact, Message
from idp.senders import Outgone, Sender

log = logging.getLogger(__name__)

PAUSES = (5, 30, 300)  # seconds between attempts; what is told later than that is no news
LEASE_SECONDS = 60
POLL_SECONDS = 1.0
BATCH = 20
CHINA = timezone(timedelta(hours=8))

Words = Callable[[Mapping[str, Any]], str]


class Claimed(NamedTuple):
    """A message that this worker alone may send now. `to` is "" when the person proved no contact."""

    id: UUID
    purpose: str
    detail: Mapping[str, Any]
    to: str
    channel: str
    attempts: int


def queue(
    context: Context, db: Session, account_id: UUID, purpose: str, detail: Mapping[str, Any], *, pause: int = 0
) -> bool:
    """Tell a person something, in the transaction of `db`. False when the same was told within `pause` seconds."""
    now = context.now()
    if pause:
        told = select(Message.id).where(
            Message.account_id == account_id, Message.purpose == purpose, Message.created_at > now - pause
        )
        if db.scalars(told.limit(1)).first() is not None:
            return False
    db.add(
        Message(
            id=uuid4(),
            account_id=account_id,
            purpose=purpose,
            detail=json.dumps(detail, sort_keys=True),
            next_at=now,
            created_at=now,
            updated_at=now,
        )
    )
    return True


def _login_locked(detail: Mapping[str, Any]) -> str:
    until = datetime.fromtimestamp(int(detail["until"]), CHINA).strftime("%H:%M")
    return (
        f"【一门】有人多次输错您账户的密码，{until} 前暂停从陌生网络用密码登录；您常用的设备不受影响。"
        "如非本人操作，请勿理会任何索要验证码的来电，可拨打 12345 或到政务大厅窗口核实。"
    )


WORDS: Mapping[str, Words] = {"login_locked": _login_locked}  # purpose: its text


def claim(context: Context, db: Session) -> list[Claimed]:
    """Messages that are due, each claimed by compare-and-set so that two workers never send the same one."""
    now = context.now()
    due = db.scalars(
        select(Message)
        .where(Message.state == "waiting", Message.next_at <= now)
        .order_by(Message.next_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    claimed = []
    for row in due:
        row.next_at, row.attempts, row.updated_at = now + LEASE_SECONDS, row.attempts + 1, now
        to, channel = _contact(context, db, row.account_id)
        claimed.append(Claimed(row.id, row.purpose, json.loads(row.detail), to, channel, row.attempts))
    return claimed


def _contact(context: Context, db: Session, account_id: UUID) -> tuple[str, str]:
    proved = db.scalars(
        select(Contact)
        .where(Contact.account_id == account_id, Contact.verified_at.is_not(None), Contact.type != "username")
        .order_by(Contact.created_at, Contact.id)
    ).all()
    for type, channel in (("phone", "sms"), ("email", "email")):
        for row in proved:
            if row.type == type:
                return context.vault.unseal("contacts", "sealed_value", row.id, row.sealed_value), channel
    return "", ""


def settle(context: Context, db: Session, message: Claimed, outgone: Outgone) -> None:
    """Record one attempt: done, failed for good, or to be tried again after a growing pause."""
    now = context.now()
    given_up = outgone.final or message.attempts > len(PAUSES)
    state = "done" if outgone.done else "failed" if given_up else "waiting"
    pause = PAUSES[min(message.attempts, len(PAUSES)) - 1]
    db.execute(
        update(Message)
        .where(Message.id == message.id, Message.attempts == message.attempts, Message.state == "waiting")
        .values(state=state, last_result=outgone.result[:200], next_at=now + pause, updated_at=now)
        .execution_options(synchronize_session=False)
    )


async def send(sender: Sender, message: Claimed) -> Outgone:
    """One attempt. Whatever the other side does ends in an answer."""
    if not message.to:
        return Outgone("no proved contact", done=False, final=True)
    text = WORDS[message.purpose](message.detail)
    try:
        return await sender.send(message.id, message.to, message.channel, message.purpose, "", text)
    except Exception as error:  # a message that cannot be sent is tried again like any other, and then given up
        log.exception("message failed", extra={"fields": {"purpose": message.purpose}})
        return Outgone(f"failed: {type(error).__name__}", done=False, final=False)


async def run_once(context: Context, sender: Sender) -> int:
    """Send what is due. How many messages were tried."""

    def claim_some() -> list[Claimed]:
        with context.database.session() as db:
            return claim(context, db)

    def settle_one(message: Claimed, outgone: Outgone) -> None:
        with context.database.session() as db:
            settle(context, db, message, outgone)

    async def send_one(message: Claimed) -> None:
        outgone = await send(sender, message)
        await asyncio.to_thread(settle_one, message, outgone)
        metrics.ATTEMPTS.labels(message.channel or "message", "done" if outgone.done else "failed").inc()
        fields = {"purpose": message.purpose, "attempt": message.attempts, "result": outgone.result}
        log.info("message", extra={"fields": fields})

    due = await asyncio.to_thread(claim_some)
    await asyncio.gather(*(send_one(message) for message in due))
    return len(due)


async def run_forever(context: Context, sender: Sender) -> None:
    """The loop of one worker. An outage of the database pauses it and never ends it."""
    while True:
        try:
            sent = await run_once(context, sender)
        except YimenError as error:
            log.warning("messages wait", extra={"fields": {"detail": error.detail or error.code}})
            sent = 0
        if sent < BATCH:
            await asyncio.sleep(POLL_SECONDS)
