"""One suite for both stores of what may be forgotten."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import fakeredis
import pytest

from idp.ephemeral import Ephemeral, MemoryEphemeral, RedisEphemeral, open_ephemeral, redis_client
from idp.errors import Unavailable


def fake() -> Ephemeral:
    return RedisEphemeral(fakeredis.FakeAsyncRedis())


def real() -> Ephemeral:
    return open_ephemeral(os.environ["YIMEN_TEST_REDIS_URL"])


STORES = [MemoryEphemeral, fake, *([real] if "YIMEN_TEST_REDIS_URL" in os.environ else [])]


@pytest.fixture(params=STORES, ids=lambda make: make.__name__)
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[Ephemeral], Awaitable[Any]]], Any]:
    def run_story(story: Callable[[Ephemeral], Awaitable[Any]]) -> Any:
        async def whole() -> Any:
            store = request.param()
            try:
                return await story(store)
            finally:
                await store.close()

        return asyncio.run(whole())

    return run_story


def key(name: str) -> str:
    return f"{name}:{time.monotonic_ns()}"


def test_put_get_pop_give_the_value_once(run: Any) -> None:
    async def story(store: Ephemeral) -> None:
        name = key("a")
        assert await store.get(name) is None
        await store.put(name, b"1", 60)
        await store.put(name, b"2", 60)
        assert await store.get(name) == b"2"
        assert await store.pop(name) == b"2"
        assert await store.pop(name) is None

    run(story)


def test_add_of_fifty_at_once_succeeds_once(run: Any) -> None:
    async def story(store: Ephemeral) -> None:
        name = key("b")
        assert sum(await asyncio.gather(*(store.add(name, b"x", 60) for _ in range(50)))) == 1
        popped = await asyncio.gather(*(store.pop(name) for _ in range(50)))
        assert sum(value is not None for value in popped) == 1

    run(story)


def test_incr_counts_and_ends_by_its_first_ttl(run: Any) -> None:
    async def story(store: Ephemeral) -> None:
        name = key("c")
        counts = await asyncio.gather(*(store.incr(name, 1) for _ in range(5)))
        assert sorted(counts) == [1, 2, 3, 4, 5]
        await asyncio.sleep(0.6)
        assert await store.incr(name, 60) == 6
        await asyncio.sleep(0.6)
        assert await store.incr(name, 60) == 1

    run(story)


def test_entry_expires(run: Any) -> None:
    async def story(store: Ephemeral) -> None:
        name = key("d")
        await store.put(name, b"x", 1)
        await asyncio.sleep(1.1)
        assert await store.get(name) is None
        assert await store.add(name, b"y", 1)

    run(story)


def test_cancelled_call_leaves_the_next_answer_alone(run: Any) -> None:
    async def story(store: Ephemeral) -> None:
        one, two = key("e"), key("f")
        await store.put(one, b"mine", 60)
        await store.put(two, b"yours", 60)
        for _ in range(20):
            gone = asyncio.create_task(store.get(one))
            await asyncio.sleep(0)
            gone.cancel()
            assert await store.get(two) == b"yours"

    run(story)


def test_memory_is_bounded() -> None:
    async def story() -> None:
        store = MemoryEphemeral(limit=100)
        for n in range(1_000):
            await store.put(str(n), b"x", 60)
        assert len(store._entries) <= 100
        assert await store.get("999") == b"x"

    asyncio.run(story())


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9/0"])
def test_redis_out_of_reach_is_unavailable_at_once(url: str) -> None:
    async def story() -> None:
        store = RedisEphemeral(redis_client(url))
        started = time.monotonic()
        for _ in range(20):
            with pytest.raises(Unavailable):
                await store.get("x")
        assert time.monotonic() - started < 4
        await store.close()

    asyncio.run(story())
