"""T24: steady mixed load; memory and descriptors of the processes that serve do not grow."""

import asyncio
import os
import statistics
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.faults.conftest import Embedded, Installation, Loaded
from tests.faults.test_workers import workers
from tests.support.load import Load
from tests.support.reckoning import assert_sound, reckon
from tests.support.servers import YimenServer

PAGE = os.sysconf("SC_PAGE_SIZE")
STEP = 6_000_000  # bytes between two samples; a password hash takes 19 MiB or more


class Watch:
    """What each process of a server holds, sample by sample: bytes of resident memory, open descriptors."""

    def __init__(self, pids: list[int]) -> None:
        self.pids, self.samples = pids, [self._measure(pids)]

    @staticmethod
    def _measure(pids: list[int]) -> list[tuple[int, int]]:
        return [
            (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE, len(os.listdir(f"/proc/{pid}/fd")))
            for pid in pids
        ]

    def look(self) -> None:
        self.samples.append(self._measure(self.pids))

    def growth(self) -> tuple[float, float]:
        """The worst process after the first quarter of the time: megabytes that crept in, descriptors more.

        A thread that checks its first password takes the memory of one hash at once and keeps it for the next; such
        steps are few, as the threads are, and no creeping.
        """
        late = self.samples[len(self.samples) // 4 :]

        def crept(process: int) -> float:
            memory = [sample[process][0] for sample in late]
            return sum(after - before for before, after in pairwise(memory) if abs(after - before) < STEP)

        def opened(process: int) -> float:
            descriptors = [sample[process][1] for sample in late]
            third = max(1, len(descriptors) // 3)
            return statistics.median(descriptors[-third:]) - statistics.median(descriptors[:third])

        each = range(len(self.pids))
        return max(map(crept, each)) / 1e6, max(map(opened, each))


async def soak(watched: list[tuple[Loaded, Watch]], seconds: float, rate: float) -> None:
    async def one(loaded: Loaded, watch: Watch) -> None:
        load: Load = loaded.load(rate=rate)
        end = time.monotonic() + seconds
        async with load.running():
            while time.monotonic() < end:
                await asyncio.sleep(seconds / 40)
                watch.look()
        print(load.ledger.statuses())
        assert_sound(load.ledger, await reckon(load, most=50))

    await asyncio.gather(*(one(loaded, watch) for loaded, watch in watched))


def soaked(
    spoiled: Installation, embedded: Embedded, folder: Path, *, seconds: float, rate: float, megabytes: float
) -> None:
    with YimenServer(embedded.environment(folder)) as server:
        assert server.process is not None
        watched: list[tuple[Loaded, Watch]] = [
            (spoiled, Watch(workers(spoiled))),
            (embedded.loaded(server), Watch([server.process.pid])),
        ]
        asyncio.run(soak(watched, seconds, rate))
        for _, watch in watched:
            memory, descriptors = watch.growth()
            print(f"{memory:+.1f} MB, {descriptors:+.0f} descriptors")
            assert memory < megabytes
            assert descriptors <= 12, "more than connections that open on demand"


def test_load_for_seconds_leaves_memory_and_descriptors_flat(
    spoiled: Installation, embedded: Embedded, tmp_path: Path
) -> None:
    soaked(spoiled, embedded, tmp_path, seconds=6, rate=30, megabytes=15)


@pytest.mark.long
def test_load_for_half_an_hour_leaves_memory_and_descriptors_flat(
    spoiled: Installation, embedded: Embedded, tmp_path: Path
) -> None:
    soaked(spoiled, embedded, tmp_path, seconds=1_800, rate=50, megabytes=10)
