"""Sending: one attempt, and the loop of a worker, in which a slow relying party keeps nobody else waiting."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from idp import metrics
from idp.context import Context
from idp.deliveries.rows import Claimed, Outcome, claim, give_up_old, settle
from idp.errors import YimenError
from idp.outgoing import OutgoingFailed, OutgoingRefused

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
GATHER_SECONDS = 0.05  # after something was sent, before looking again
CAPACITY = 40  # attempts at once of one worker
SWEEP_SECONDS = 60

Builder = Callable[[Context, Claimed], Mapping[str, str]]
"""Makes the form fields of a delivery at the moment it is sent."""


async def attempt(context: Context, delivery: Claimed, build: Builder) -> Outcome:
    """One attempt. Answers 4xx other than 408 and 429 are final (protocol.md section 5); so is a refusal by the guard.

    Error classes: `refused`, `timeout`, `connection`, `status_3xx` `status_4xx` `status_5xx`, `build`.
    """
    try:
        body = urlencode(build(context, delivery)).encode()
    except Exception as error:  # a notice that cannot be made is tried again like any other, and then given up
        log.exception("delivery cannot be made", extra={"fields": {"client": delivery.client_id}})
        return Outcome(f"failed: {type(error).__name__}", "build", final=False, answered=True)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        answer = await context.outgoing.request("POST", delivery.url, content=body, headers=headers)
    except OutgoingRefused as error:
        return Outcome(f"refused: {error.message}", "refused", final=True, answered=True)
    except OutgoingFailed as error:
        kind = "timeout" if "Timeout" in error.message else "connection"
        return Outcome(f"failed: {error.message}", kind, final=False, answered=False)
    if 200 <= answer.status < 300:
        return Outcome(f"status {answer.status}", None, final=True, answered=True)
    later = answer.status in (408, 429) or answer.status >= 500
    kind = f"status_{answer.status // 100}xx"
    return Outcome(f"status {answer.status}", kind, final=not later, answered=not later)


class Sender:
    """The attempts of one worker that are under way."""

    def __init__(self, context: Context, builders: Mapping[str, Builder]) -> None:
        self._context, self._builders = context, builders
        self._tasks: set[asyncio.Task[None]] = set()

    async def start_due(self) -> int:
        """Start what is due and finds room; nothing is waited for. How many attempts were started."""
        room = CAPACITY - len(self._tasks)
        due = await asyncio.to_thread(self._claim, room) if room > 0 else []
        for delivery in due:
            task = asyncio.create_task(self._send(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(due)

    async def finish(self) -> None:
        """Wait for all that is under way."""
        await asyncio.gather(*self._tasks)

    async def pause(self) -> None:
        """Until an attempt has ended, which may make room for the next one, or for a second."""
        if not self._tasks:
            await asyncio.sleep(POLL_SECONDS)
            return
        await asyncio.wait(self._tasks, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(GATHER_SECONDS)

    async def cancel(self) -> None:
        """Leave what is under way: its leases run out and another worker takes it up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def sweep(self) -> None:
        """Give up what has waited too long."""

        def some() -> int:
            with self._context.database.session() as db:
                return give_up_old(self._context, db)

        while given_up := await asyncio.to_thread(some):
            log.warning("deliveries given up", extra={"fields": {"count": given_up}})

    def _claim(self, most: int) -> list[Claimed]:
        with self._context.database.session() as db:
            return claim(self._context, db, most)

    async def _send(self, delivery: Claimed) -> None:
        outcome = await attempt(self._context, delivery, self._builders[delivery.kind])
        try:
            await asyncio.to_thread(self._settle, delivery, outcome)
        except YimenError as error:  # the lease runs out and the notice is sent once more: at least once, not lost
            log.warning("delivery not settled", extra={"fields": {"detail": error.detail or error.code}})
        fields = {
            "kind": delivery.kind,
            "client": delivery.client_id,
            "attempt": delivery.attempts,
            "result": outcome.result,
            "error_class": outcome.error,
        }
        metrics.ATTEMPTS.labels(delivery.kind, "failed" if outcome.error else "done").inc()
        log.info("delivery", extra={"fields": fields})

    def _settle(self, delivery: Claimed, outcome: Outcome) -> None:
        with self._context.database.session() as db:
            settle(self._context, db, delivery, outcome)


async def run_once(context: Context, builders: Mapping[str, Builder]) -> int:
    """Send what is due and has room, and wait for it. How many attempts were made."""
    sender = Sender(context, builders)
    started = await sender.start_due()
    await sender.finish()
    return started


async def run_forever(context: Context, builders: Mapping[str, Builder]) -> None:
    """The delivery loop of one worker. An outage of the database pauses it and never ends it."""
    sender, swept = Sender(context, builders), 0.0
    loop = asyncio.get_running_loop()
    try:
        while True:
            try:
                started = await sender.start_due()
                if loop.time() - swept > SWEEP_SECONDS:
                    swept = loop.time()
                    await sender.sweep()
            except YimenError as error:
                log.warning("deliveries wait", extra={"fields": {"detail": error.detail or error.code}})
                started = 0
            await (asyncio.sleep(GATHER_SECONDS) if started else sender.pause())
    finally:
        await sender.cancel()
