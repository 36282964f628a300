"""What may be forgotten: paused interactions and counters, in this process or in Redis, one key per operation.

Forgetting may only ever deny: whatever must stay spent, revoked or ended is a row in SQL.
"""

import asyncio
import contextlib
import heapq
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import redis.asyncio
import redis.asyncio.cluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as Silent

from idp.errors import ConfigError, Unavailable

PREFIX = "yimen:"
MEMORY_LIMIT = 200_000  # entries
TIDY_STEPS = 4  # for each write, so that no write waits for a great sweep
TIMEOUT_SECONDS = 0.5  # to connect, and for an answer
TRIP_SECONDS = 1.0  # with everything: connect, say hello, send again, look for the nodes of a cluster
CIRCUIT_FAILURES = 3
CIRCUIT_SECONDS = 1.0


class Ephemeral(Protocol):
    """Keys and values that may be lost at any time. `ttl` is in seconds. Raises Unavailable without an answer."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, ttl: int) -> None: ...

    async def add(self, key: str, value: bytes, ttl: int) -> bool:
        """Put only if absent: whether it was."""

    async def replace(self, key: str, value: bytes, ttl: int) -> bool:
        """Put only if present: whether it was."""

    async def pop(self, key: str) -> bytes | None:
        """Take away; of two at once only one gets the value."""

    async def incr(self, key: str, ttl: int) -> int:
        """Count up; `ttl` counts from the first."""

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


def open_ephemeral(redis_url: str) -> Ephemeral:
    """The store that a setting names: Redis, a Redis cluster, or this process when it is empty. Raises ConfigError."""
    try:
        return RedisEphemeral(redis_client(redis_url)) if redis_url else MemoryEphemeral()
    except (ValueError, RedisClusterException):
        raise ConfigError("YIMEN_REDIS_URL is not an address of Redis") from None


class MemoryEphemeral:
    """A dictionary for the embedded default. Bounded: at the limit the entry that ends soonest makes room."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, limit: int = MEMORY_LIMIT) -> None:
        self._clock, self._limit = clock, limit
        self._entries: dict[str, tuple[bytes, float]] = {}
        self._ends: list[tuple[float, str]] = []  # a heap; an item without an entry of that end is stale

    def _living(self, key: str) -> tuple[bytes, float] | None:
        entry = self._entries.get(key)
        if entry is not None and entry[1] <= self._clock():
            del self._entries[key]
            return None
        return entry

    def _set(self, key: str, value: bytes, end: float) -> None:
        known = self._entries.get(key)
        self._tidy(self._limit if known else self._limit - 1)
        self._entries[key] = (value, end)
        if known is None or known[1] != end:
            heapq.heappush(self._ends, (end, key))

    def _tidy(self, most: int) -> None:
        """Take a few steps from the soonest end on, and as many as it takes to be left with `most` entries."""
        now, steps = self._clock(), 0
        while self._ends and (steps < TIDY_STEPS or len(self._entries) > most):
            end, key = self._ends[0]
            living = key in self._entries and self._entries[key][1] == end
            if living and end > now and len(self._entries) <= most:
                break
            heapq.heappop(self._ends)
            if living:
                del self._entries[key]
            steps += 1
        if len(self._ends) > 2 * len(self._entries) + 1_000:  # entries taken away or put anew left most of it behind
            self._ends = [(end, key) for key, (_, end) in self._entries.items()]
            heapq.heapify(self._ends)

    async def get(self, key: str) -> bytes | None:
        entry = self._living(key)
        return entry[0] if entry else None

    async def put(self, key: str, value: bytes, ttl: int) -> None:
        self._set(key, value, self._clock() + ttl)

    async def add(self, key: str, value: bytes, ttl: int) -> bool:
        if self._living(key) is not None:
            return False
        self._set(key, value, self._clock() + ttl)
        return True

    async def replace(self, key: str, value: bytes, ttl: int) -> bool:
        if self._living(key) is None:
            return False
        self._set(key, value, self._clock() + ttl)
        return True

    async def pop(self, key: str) -> bytes | None:
        entry = self._living(key)
        self._entries.pop(key, None)
        return entry[0] if entry else None

    async def incr(self, key: str, ttl: int) -> int:
        entry = self._living(key)
        count = int(entry[0]) + 1 if entry else 1
        self._set(key, b"%d" % count, entry[1] if entry else self._clock() + ttl)
        return count

    async def ping(self) -> None:
        """Always there."""

    async def close(self) -> None:
        self._entries.clear()


def redis_client(url: str) -> Any:
    """A client with short limits; the driver's own hold a login for many seconds.

    A lost connection is tried again once. Silence is not: the command may have run, and waiting twice is too long.
    """
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 1, (Disconnected,)),
    }
    if url.startswith("redis+cluster://"):
        return redis.asyncio.cluster.RedisCluster.from_url(url.replace("redis+cluster", "redis", 1), **options)
    return redis.asyncio.from_url(url, **options)


Command = tuple[Any, ...]


class RedisEphemeral:
    """Redis. Commands of one event-loop tick leave together in one pipeline.

    A caller that goes away never leaves an answer behind for the next one: the trip belongs to no caller. After
    CIRCUIT_FAILURES failed trips in a row nobody waits for CIRCUIT_SECONDS; then a single trip finds out more.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._waiting: list[tuple[Sequence[Command], asyncio.Future[list[Any]]]] = []
        self._trip: asyncio.Task[None] | None = None
        self._failures, self._closed_until = 0, 0.0

    async def _ask(self, *commands: Command) -> list[Any]:
        """The answers to commands on one key, which leave together. Raises Unavailable."""
        under_way = self._trip is not None and not self._trip.done()
        if self._failures >= CIRCUIT_FAILURES and (under_way or time.monotonic() < self._closed_until):
            raise Unavailable(detail="redis: circuit open")
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((commands, answer))
        if not under_way:
            self._trip = asyncio.create_task(self._drain())
        answers = await answer
        for value in answers:
            if isinstance(value, Exception):  # its name alone: the text may repeat a key or a value
                raise Unavailable(detail=f"redis: {type(value).__name__}")
        return answers

    async def _drain(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # one tick of gathering
            batch, self._waiting = self._waiting, []
            try:
                async with asyncio.timeout(TRIP_SECONDS):
                    answers = await self._send([command for commands, _ in batch for command in commands])
            except Exception as error:  # whatever the driver raises: nobody may be left waiting
                self._failures += 1
                self._closed_until = time.monotonic() + CIRCUIT_SECONDS
                batch += self._waiting  # they have waited for this trip; they need not wait for another
                self._waiting = []
                answers = [error] * sum(len(commands) for commands, _ in batch)
            else:
                self._failures = 0
            rest = iter(answers)
            for commands, answer in batch:
                share = [next(rest) for _ in commands]
                if not answer.done():
                    answer.set_result(share)

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        lost = [value for value in answers if isinstance(value, Disconnected | Silent | ClusterDownError)]
        if lost:  # only a cluster says so in its answers; closed, its client looks for the nodes again
            await self._client.aclose()
            if len(lost) == len(answers):
                raise lost[0]
        return answers

    async def get(self, key: str) -> bytes | None:
        value: bytes | None
        [value] = await self._ask(("GET", PREFIX + key))
        return value

    async def put(self, key: str, value: bytes, ttl: int) -> None:
        await self._ask(("SET", PREFIX + key, value, "EX", ttl))

    async def add(self, key: str, value: bytes, ttl: int) -> bool:
        [done] = await self._ask(("SET", PREFIX + key, value, "EX", ttl, "NX"))
        return bool(done)

    async def replace(self, key: str, value: bytes, ttl: int) -> bool:
        [done] = await self._ask(("SET", PREFIX + key, value, "EX", ttl, "XX"))
        return bool(done)

    async def pop(self, key: str) -> bytes | None:
        value: bytes | None
        [value] = await self._ask(("GETDEL", PREFIX + key))
        return value

    async def incr(self, key: str, ttl: int) -> int:
        """NX lets the time count from the first increment (Redis 7.0), and mends a counter that lost its end."""
        count, _ = await self._ask(("INCR", PREFIX + key), ("EXPIRE", PREFIX + key, ttl, "NX"))
        return int(count)

    async def ping(self) -> None:
        await self._ask(("GET", PREFIX + "ping"))

    async def close(self) -> None:
        if self._trip is not None:
            await asyncio.gather(self._trip, return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()
