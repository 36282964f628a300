"""Rate limits: how many failed sign-ins one address, one network and everybody together may cause.

The counters may be forgotten, so they live in the ephemeral store; while that does not answer, each worker counts
for itself. What must not be forgotten, the failures of one person, is in lockout.py.
"""

import asyncio
from typing import NamedTuple

from idp.context import Context
from idp.ephemeral import MemoryEphemeral
from idp.errors import TooManyRequests, Unavailable
from idp.lockout import network_of


class Limit(NamedTuple):
    """At most `most` failures in each window of `seconds`."""

    name: str
    most: int
    seconds: int


# A counter hall or a mobile carrier shows many people behind one address, and a few of a hundred mistype.
ADDRESS = (Limit("address", 60, 60), Limit("address", 600, 3_600))
NETWORK = (Limit("network", 300, 60), Limit("network", 3_000, 3_600))
EVERYBODY = Limit("everybody", 6_000, 60)  # more is an attack on the whole: every address may do less then
UNDER_ATTACK = Limit("address", 10, 60)

_spare = MemoryEphemeral(limit=20_000)


def _key(limit: Limit, whom: str, now: int) -> str:
    return f"limit:{limit.name}:{limit.seconds}:{now // limit.seconds}:{whom}"


def _counted(context: Context) -> list[tuple[Limit, str]]:
    """What a failure of this request counts against."""
    address, network = context.address or "unknown", network_of(context.address)
    return [*((limit, address) for limit in ADDRESS), *((limit, network) for limit in NETWORK), (EVERYBODY, "")]


async def refuse_excess(context: Context) -> None:
    """Raise TooManyRequests when the address or its network caused too many failures already. One trip."""
    if not context.config.rate_limits:
        return
    now, counted = context.now(), _counted(context)
    keys = [_key(limit, whom, now) for limit, whom in counted]
    try:
        found = await asyncio.gather(*(context.ephemeral.get(key) for key in keys))
    except Unavailable:
        found = await asyncio.gather(*(_spare.get(key) for key in keys))
    failures = [int(value or 0) for value in found]
    limits = [limit for limit, _ in counted]
    if failures[-1] >= EVERYBODY.most:
        limits[0] = UNDER_ATTACK
    for limit, number in zip(limits[:-1], failures, strict=False):
        if number >= limit.most:
            raise TooManyRequests(retry_after=limit.seconds - now % limit.seconds, detail=f"limit: {limit.name}")


async def count_failure(context: Context) -> bool:
    """Count a failed sign-in. True when it was the one with which an attack on everybody began."""
    if not context.config.rate_limits:
        return False
    now, counted = context.now(), _counted(context)
    wanted = [(_key(limit, whom, now), limit.seconds) for limit, whom in counted]
    try:
        numbers = await asyncio.gather(*(context.ephemeral.incr(key, ttl) for key, ttl in wanted))
    except Unavailable:
        numbers = await asyncio.gather(*(_spare.incr(key, ttl) for key, ttl in wanted))
    return numbers[-1] == EVERYBODY.most
