"""What may be forgotten: paused interactions and counters, in this process or in Redis, one key per operation.

Forgetting may only ever deny: whatever must stay spent, revoked or ended is a row in SQL.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Protocol

import redis.asyncio
import redis.asyncio.cluster
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from idp.errors import Unavailable

PREFIX = "yimen:"
MEMORY_LIMIT = 200_000  # entries
TIMEOUT_SECONDS = 0.5
CIRCUIT_FAILURES = 3
CIRCUIT_SECONDS = 1.0


class Ephemeral(Protocol):
    """Keys and values that may be lost at any time. `ttl` is in seconds. Raises Unavailable without an answer."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, ttl: int) -> None: ...

    async def add(self, key: str, value: bytes, ttl: int) -> bool:
        """Put only if absent: whether it was."""

    async def pop(self, key: str) -> bytes | None:
        """Take away; of two at once only one gets the value."""

    async def incr(self, key: str, ttl: int) -> int:
        """Count up; `ttl` counts from the first."""

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


def open_ephemeral(redis_url: str) -> Ephemeral:
    """The store that a setting names: Redis, a Redis cluster, or this process when it is empty."""
    return RedisEphemeral(redis_client(redis_url)) if redis_url else MemoryEphemeral()


class MemoryEphemeral:
    """A dictionary for the embedded default. Bounded: at the limit the oldest entries go first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, limit: int = MEMORY_LIMIT) -> None:
        self._clock, self._limit = clock, limit
        self._entries: dict[str, tuple[bytes, float]] = {}

    def _living(self, key: str) -> tuple[bytes, float] | None:
        entry = self._entries.get(key)
        if entry is not None and entry[1] <= self._clock():
            del self._entries[key]
            return None
        return entry

    def _set(self, key: str, value: bytes, end: float) -> None:
        self._entries.pop(key, None)
        if len(self._entries) >= self._limit:
            self._make_room()
        self._entries[key] = (value, end)

    def _make_room(self) -> None:
        """Drop what has expired, and the oldest tenth when nothing has."""
        now = self._clock()
        self._entries = {key: entry for key, entry in self._entries.items() if entry[1] > now}
        surplus = len(self._entries) - self._limit + self._limit // 10
        for key in list(self._entries)[: max(surplus, 0)]:
            del self._entries[key]

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
    """A client with short limits: the driver's defaults hold a login for tens of seconds (libraries: redis-py)."""
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 1),
    }
    if url.startswith("redis+cluster://"):
        return redis.asyncio.cluster.RedisCluster.from_url(url.replace("redis+cluster", "redis", 1), **options)
    return redis.asyncio.from_url(url, **options)


Command = tuple[str, tuple[Any, ...]]


class RedisEphemeral:
    """Redis. Commands of one event-loop tick leave together in one pipeline.

    A caller that goes away never leaves an answer behind for the next one: the trip belongs to no caller.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._trip: asyncio.Task[None] | None = None
        self._failures, self._closed_until = 0, 0.0

    async def _command(self, name: str, *arguments: Any) -> Any:
        if self._failures >= CIRCUIT_FAILURES and time.monotonic() < self._closed_until:
            raise Unavailable(detail="redis: circuit open")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(((name, arguments), answer))
        if self._trip is None or self._trip.done():
            self._trip = asyncio.create_task(self._drain())
        return await answer

    async def _drain(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # one tick of gathering
            batch, self._waiting = self._waiting, []
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS * 2):
                    answers = await self._send([command for command, _ in batch])
            except (RedisError, OSError, TimeoutError) as error:
                self._failures += 1
                self._closed_until = time.monotonic() + CIRCUIT_SECONDS
                answers = [Unavailable(detail=f"redis: {type(error).__name__}")] * len(batch)
            else:
                self._failures = 0
            for (_, answer), value in zip(batch, answers, strict=True):
                if answer.done():
                    continue
                if isinstance(value, Exception):
                    answer.set_exception(value if isinstance(value, Unavailable) else Unavailable(detail=str(value)))
                else:
                    answer.set_result(value)

    async def _send(self, commands: list[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for name, arguments in commands:
            getattr(pipeline, name)(*arguments)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def get(self, key: str) -> bytes | None:
        value: bytes | None = await self._command("get", PREFIX + key)
        return value

    async def put(self, key: str, value: bytes, ttl: int) -> None:
        await self._command("set", PREFIX + key, value, ttl)

    async def add(self, key: str, value: bytes, ttl: int) -> bool:
        return bool(await self._command("set", PREFIX + key, value, ttl, None, True))

    async def pop(self, key: str) -> bytes | None:
        value: bytes | None = await self._command("getdel", PREFIX + key)
        return value

    async def incr(self, key: str, ttl: int) -> int:
        """Both commands leave in one pipeline; `nx` lets the time count from the first increment (Redis 7.0)."""
        count, _ = await asyncio.gather(
            self._command("incr", PREFIX + key), self._command("expire", PREFIX + key, ttl, True)
        )
        return int(count)

    async def ping(self) -> None:
        await self._command("get", PREFIX + "ping")

    async def close(self) -> None:
        if self._trip is not None:
            await asyncio.gather(self._trip, return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()
