"""What runs beside the requests goes on, whatever happens to it."""

import asyncio
from collections.abc import Awaitable, Callable

from idp.errors import Unavailable
from server import every, unending


async def run_for(seconds: float, start: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(start())
    await asyncio.sleep(seconds)
    assert not task.done()
    task.cancel()


def test_every_goes_on_through_an_outage() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise Unavailable(detail="no database")

    asyncio.run(run_for(0.5, every(0.01, work)))
    assert len(calls) > 3


def test_unending_starts_anew_after_an_unexpected_error() -> None:
    calls: list[int] = []

    async def work() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError

    asyncio.run(run_for(1.5, unending(work)))
    assert len(calls) == 2
