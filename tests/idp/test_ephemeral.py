"""One suite for both stores of what may be forgotten, and how Redis fails."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import fakeredis
import pytest
import redis
from redis.exceptions import RedisClusterException

from idp import ephemeral
from idp.ephemeral import PREFIX, Ephemeral, MemoryEphemeral, RedisEphemeral, open_ephemeral, redis_client
from idp.errors import ConfigError, Unavailable
from tests.support.processes import bound_to_us, free_port, stop, wait_until

REAL = os.environ.get("TEST_REDIS_URL", "")


class Bench(Protocol):
    """A store and the hands to look at its clock."""

    @property
    def store(self) -> Ephemeral: ...

    async def seconds_left(self, key: str) -> float: ...

    async def let_end(self, key: str) -> None: ...


class MemoryBench:
    def __init__(self) -> None:
        self.now = 1_000.0
        self.store = MemoryEphemeral(clock=lambda: self.now)

    async def seconds_left(self, key: str) -> float:
        return self.store._entries[key][1] - self.now

    async def let_end(self, key: str) -> None:
        self.now += await self.seconds_left(key)


class RedisBench:
    def __init__(self, client: Any) -> None:
        self.client, self.store = client, RedisEphemeral(client)

    async def seconds_left(self, key: str) -> float:
        return float(await self.client.pttl(PREFIX + key)) / 1000

    async def let_end(self, key: str) -> None:
        await self.client.pexpire(PREFIX + key, 1)
        await asyncio.sleep(0.01)


BENCHES: dict[str, Callable[[], Bench]] = {
    "memory": MemoryBench,
    "fake": lambda: RedisBench(fakeredis.FakeAsyncRedis()),
    **({"redis": lambda: RedisBench(redis_client(REAL))} if REAL else {}),
}
Run = Callable[[Callable[[Bench], Awaitable[Any]]], Any]


@pytest.fixture(params=BENCHES)
def run(request: pytest.FixtureRequest) -> Run:
    return lambda story: run_on(BENCHES[request.param], story)


def run_on(make: Callable[[], Any], story: Callable[[Any], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        bench = make()
        try:
            return await story(bench)
        finally:
            await bench.store.close()

    return asyncio.run(whole())


def fresh(name: str) -> str:
    return f"{name}:{time.monotonic_ns()}"


# --- what every store does


def test_put_get_pop_give_the_value_once(run: Run) -> None:
    async def story(bench: Bench) -> None:
        store, name = bench.store, fresh("a")
        await store.ping()
        assert await store.get(name) is None
        await store.put(name, b"1", 60)
        await store.put(name, b"\0\xff", 60)
        assert await store.get(name) == b"\0\xff"
        assert await store.pop(name) == b"\0\xff"
        assert await store.pop(name) is None

    run(story)


def test_add_and_pop_of_fifty_at_once_succeed_once(run: Run) -> None:
    async def story(bench: Bench) -> None:
        store, name = bench.store, fresh("b")
        assert sum(await asyncio.gather(*(store.add(name, b"x", 60) for _ in range(50)))) == 1
        popped = await asyncio.gather(*(store.pop(name) for _ in range(50)))
        assert sum(value is not None for value in popped) == 1

    run(story)


def test_replace_never_brings_back_what_was_taken_away(run: Run) -> None:
    async def story(bench: Bench) -> None:
        store, name = bench.store, fresh("r")
        assert not await store.replace(name, b"1", 60)
        await store.put(name, b"1", 60)
        assert await store.replace(name, b"2", 600)
        assert 500 < await bench.seconds_left(name) <= 600
        assert await store.pop(name) == b"2"
        assert not await store.replace(name, b"3", 60)
        assert await store.get(name) is None
        await store.put(name, b"1", 60)
        await bench.let_end(name)
        assert not await store.replace(name, b"4", 60)

    run(story)


def test_incr_counts_and_ends_by_its_first_ttl(run: Run) -> None:
    async def story(bench: Bench) -> None:
        store, name = bench.store, fresh("c")
        assert sorted(await asyncio.gather(*(store.incr(name, 60) for _ in range(5)))) == [1, 2, 3, 4, 5]
        assert await store.incr(name, 6_000) == 6
        assert 50 < await bench.seconds_left(name) <= 60
        await bench.let_end(name)
        assert await store.incr(name, 6_000) == 1
        assert 5_900 < await bench.seconds_left(name) <= 6_000

    run(story)


def test_entry_ends_with_its_last_ttl(run: Run) -> None:
    async def story(bench: Bench) -> None:
        store, name = bench.store, fresh("d")
        await store.put(name, b"x", 1)
        await store.put(name, b"y", 60)
        assert not await store.add(name, b"z", 6_000)
        assert 50 < await bench.seconds_left(name) <= 60
        await bench.let_end(name)
        assert await store.get(name) is None
        assert await store.add(name, b"z", 1)
        assert await bench.seconds_left(name) <= 1
        await bench.let_end(name)
        assert await store.pop(name) is None

    run(story)


def test_cancelled_call_leaves_the_next_answer_alone(run: Run) -> None:
    async def story(bench: Bench) -> None:
        store, one, two = bench.store, fresh("e"), fresh("f")
        await store.put(one, b"mine", 60)
        await store.put(two, b"yours", 60)
        for ticks in range(20):
            gone = asyncio.create_task(store.get(one))
            for _ in range(ticks):
                await asyncio.sleep(0)
            gone.cancel()
            assert await store.get(two) == b"yours"

    run(story)


# --- memory is bounded


def test_memory_at_its_limit_forgets_what_ends_soonest() -> None:
    async def story() -> None:
        store = MemoryEphemeral(limit=3)
        for name, ttl in (("long", 600), ("short", 5), ("middle", 60), ("newest", 1), ("middle", 60)):
            await store.put(name, b"x", ttl)
        assert set(store._entries) == {"long", "middle", "newest"}
        await store.put("last", b"x", 30)
        assert set(store._entries) == {"long", "middle", "last"}

    asyncio.run(story())


def test_memory_keeps_its_limit_behind_many_stale_ends() -> None:
    async def story() -> None:
        store = MemoryEphemeral(limit=30)
        await store.put("first", b"x", 5)
        for ttl in range(10, 35):
            await store.put("again", b"x", ttl)
        for number in range(28):
            await store.put(str(number), b"x", 600)
        await store.pop("first")
        for name in ("28", "29"):
            await store.put(name, b"x", 600)
        assert len(store._entries) == 30
        assert "again" not in store._entries

    asyncio.run(story())


def test_memory_forgets_expired_entries_a_few_for_each_write() -> None:
    async def story() -> None:
        bench = MemoryBench()
        for number in range(1_000):
            await bench.store.put(str(number), b"x", 1)
        bench.now += 2
        await bench.store.put("new", b"x", 1)
        assert len(bench.store._entries) == 1_001 - ephemeral.TIDY_STEPS
        for _ in range(250):
            await bench.store.put("new", b"x", 1)
        assert set(bench.store._entries) == {"new"}

    asyncio.run(story())


def test_memory_does_not_grow_with_entries_taken_away() -> None:
    async def story() -> None:
        store = MemoryEphemeral()
        await store.put("first", b"x", 5)  # keeps the stale ends behind it from being met
        for number in range(20_000):
            await store.put(str(number), b"x", 600)
            await store.pop(str(number))
            await store.put("same", b"x", 600 + number)
        assert len(store._ends) < 2_000
        assert await store.get("first") == b"x"
        assert await store.get("same") == b"x"

    asyncio.run(story())


# --- Redis: trips


class Driver:
    """Stands in for the driver: counts trips, and answers, fails or waits as it is told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.hold = list(failures), asyncio.Event()
        self.hold.set()
        self.trips: list[list[tuple[Any, ...]]] = []
        self._commands: list[tuple[Any, ...]] = []

    def pipeline(self, transaction: bool) -> "Driver":
        assert not transaction
        self._commands = []
        return self

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    async def execute(self, raise_on_error: bool) -> list[Any]:
        self.trips.append(self._commands)
        await self.hold.wait()
        if self.failures:
            raise self.failures.pop(0)
        return [command[1].encode() for command in self._commands]

    async def aclose(self) -> None:
        """Nothing to close."""


def test_commands_of_one_tick_leave_in_one_trip() -> None:
    async def story() -> None:
        driver = Driver()
        store = RedisEphemeral(driver)
        answers = await asyncio.gather(*(store.get(str(number)) for number in range(50)))
        assert answers == [f"{PREFIX}{number}".encode() for number in range(50)]
        assert [len(trip) for trip in driver.trips] == [50]
        await store.close()

    asyncio.run(story())


def test_commands_of_the_next_tick_are_gathered_too() -> None:
    async def story() -> None:
        driver = Driver()
        store = RedisEphemeral(driver)

        async def later() -> bytes | None:
            await asyncio.sleep(0)
            return await store.get("b")

        await asyncio.gather(store.get("a"), later())
        assert [len(trip) for trip in driver.trips] == [2]

    asyncio.run(story())


@pytest.mark.parametrize(
    "error", [redis.ConnectionError("x"), RedisClusterException("x"), OSError("x"), IndexError("x")]
)
def test_whatever_the_driver_raises_is_unavailable(error: Exception) -> None:
    async def story() -> None:
        store = RedisEphemeral(Driver(error))
        for answer in await asyncio.gather(store.get("a"), store.incr("b", 1), return_exceptions=True):
            assert isinstance(answer, Unavailable)
            assert answer.detail == f"redis: {type(error).__name__}"

    asyncio.run(asyncio.wait_for(story(), 5))


def test_three_failures_open_the_circuit_and_one_trip_finds_out_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ephemeral, "CIRCUIT_SECONDS", 0.1)

    async def story() -> None:
        driver = Driver(*[redis.TimeoutError("x")] * 4)
        store = RedisEphemeral(driver)

        async def fails(detail: str) -> None:
            with pytest.raises(Unavailable) as error:
                await store.get("a")
            assert error.value.detail == f"redis: {detail}"

        for _ in range(3):
            await fails("TimeoutError")
        await fails("circuit open")
        assert len(driver.trips) == 3
        await asyncio.sleep(0.12)
        driver.hold.clear()
        probe = asyncio.create_task(fails("TimeoutError"))
        await asyncio.sleep(0.01)
        await fails("circuit open")  # while the probe is under way
        driver.hold.set()
        await probe
        await fails("circuit open")
        assert len(driver.trips) == 4
        await asyncio.sleep(0.12)
        assert await store.get("a") == f"{PREFIX}a".encode()
        assert await asyncio.gather(store.get("b"), store.get("c"))

    asyncio.run(story())


def test_those_who_wait_for_a_failing_trip_need_not_wait_for_another() -> None:
    async def story() -> None:
        driver = Driver(redis.TimeoutError("x"))
        store = RedisEphemeral(driver)
        driver.hold.clear()
        first = asyncio.create_task(store.get("a"))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(store.get("b"))
        await asyncio.sleep(0.01)
        driver.hold.set()
        answers = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
        assert len(driver.trips) == 1

    asyncio.run(story())


def test_lost_node_of_a_cluster_makes_the_client_look_again() -> None:
    class Cluster(Driver):
        closed = 0

        async def execute(self, raise_on_error: bool) -> list[Any]:
            await super().execute(raise_on_error)
            return [redis.ConnectionError("gone"), b"there"]

        async def aclose(self) -> None:
            self.closed += 1

    async def story() -> None:
        driver = Cluster()
        store = RedisEphemeral(driver)
        lost, found = await asyncio.gather(store.get("a"), store.get("b"), return_exceptions=True)
        assert isinstance(lost, Unavailable)
        assert found == b"there"
        assert driver.closed == 1

    asyncio.run(story())


# --- Redis: a server that refuses, is silent, or comes back


def test_refused_command_leaves_its_neighbours_alone_and_tells_no_value() -> None:
    async def story(bench: Bench) -> None:
        one, two = fresh("g"), fresh("h")
        await bench.store.put(one, b"secret", 60)
        refused, count = await asyncio.gather(
            bench.store.incr(one, 60), bench.store.incr(two, 60), return_exceptions=True
        )
        assert isinstance(refused, Unavailable)
        assert one not in refused.detail
        assert "secret" not in refused.detail
        assert count == 1

    for name in BENCHES.keys() - {"memory"}:
        run_on(BENCHES[name], story)


def test_redis_that_comes_back_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ephemeral, "CIRCUIT_SECONDS", 0.05)
    server = fakeredis.FakeServer()

    async def story(bench: RedisBench) -> None:
        await bench.store.put("a", b"x", 60)
        server.connected = False
        for _ in range(5):
            with pytest.raises(Unavailable):
                await bench.store.get("a")
        server.connected = True
        await asyncio.sleep(0.06)
        assert await bench.store.get("a") == b"x"

    run_on(lambda: RedisBench(fakeredis.FakeAsyncRedis(server=server)), story)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9/0", "rediss://127.0.0.1:9/0", "redis+cluster://127.0.0.1:9"])
def test_redis_out_of_reach_is_unavailable_at_once(url: str) -> None:
    async def story() -> None:
        store = open_ephemeral(url)
        started = time.monotonic()
        for _ in range(20):
            with pytest.raises(Unavailable):
                await store.get("x")
        assert time.monotonic() - started < 2
        await store.close()

    asyncio.run(asyncio.wait_for(story(), 10))


@pytest.mark.parametrize(
    ("scheme", "limit"), [("redis", ephemeral.TIMEOUT_SECONDS), ("redis+cluster", ephemeral.TRIP_SECONDS)]
)
def test_silent_redis_holds_nobody_for_longer_than_a_second(scheme: str, limit: float) -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def wait_in_vain(store: Ephemeral, delay: float) -> float:
        await asyncio.sleep(delay)
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await store.get("x")
        return time.monotonic() - started

    async def story() -> None:
        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        store = open_ephemeral(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        waits = await asyncio.gather(*(wait_in_vain(store, tenths / 10) for tenths in range(0, 20, 3)))
        assert max(waits) < limit + 0.3
        await store.close()
        server.close()
        await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(story(), 20))


@pytest.mark.parametrize("url", ["redis://127.0.0.1:port", "redis+cluster://127.0.0.1:6379/3"])
def test_open_with_a_wrong_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="YIMEN_REDIS_URL"):
        open_ephemeral(url)


def test_open_without_an_address_stays_in_this_process() -> None:
    assert isinstance(open_ephemeral(""), MemoryEphemeral)


# --- a real cluster of one node


@pytest.fixture
def cluster_url(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    options = ["--port", port, "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--cluster-port", free_port()]
    options += ["--save", "", "--appendonly", "no", "--dir", tmp_path]
    log = tmp_path / "log"
    with log.open("wb") as output, redis.Redis(port=port) as client:
        command = [*bound_to_us("KILL"), "redis-server", *map(str, options)]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: answers(client), process, log, 10)
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16_383)
            wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", process, log, 10)
            yield f"redis+cluster://127.0.0.1:{port}"
        finally:
            stop(process)


def answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.mark.skipif(not REAL or not shutil.which("redis-server"), reason="needs the services of `make test`")
def test_cluster_answers_for_keys_of_many_slots(cluster_url: str) -> None:
    async def story() -> None:
        store = open_ephemeral(cluster_url)
        names = [str(number) for number in range(40)]
        await asyncio.gather(*(store.put(name, name.encode(), 60) for name in names))
        assert await asyncio.gather(*(store.get(name) for name in names)) == [name.encode() for name in names]
        popped = await asyncio.gather(*(store.pop("7") for _ in range(50)))
        assert sum(value is not None for value in popped) == 1
        assert sum(await asyncio.gather(*(store.add("7", b"x", 60) for _ in range(50)))) == 1
        assert sorted(await asyncio.gather(*(store.incr("c", 60) for _ in range(5)))) == [1, 2, 3, 4, 5]
        await store.close()

    asyncio.run(asyncio.wait_for(story(), 20))
