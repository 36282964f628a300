"""T24: steady mixed load; memory and descriptors of the processes that serve do not grow."""

import asyncio
import os
import statistics
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Embedded, Installation, Loaded
from tests.faults.test_workers import workers
from tests.support.load import Load
from tests.support.reckoning import assert_sound, reckon
from tests.support.servers import YimenServer

PAGE = os.sysconf("SC_PAGE_SIZE")


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
        """The worst process: megabytes and descriptors from the second quarter of the time to the last."""
        quarter = max(1, len(self.samples) // 4)
        early, late = self.samples[quarter : 2 * quarter], self.samples[-quarter:]

        def rise(what: int) -> float:
            return max(
                statistics.median(sample[i][what] for sample in late)
                - statistics.median(sample[i][what] for sample in early)
                for i in range(len(self.pids))
            )

        return rise(0) / 1e6, rise(1)


async def soak(watched: list[tuple[Loaded, Watch]], seconds: float, rate: float) -> None:
    async def one(loaded: Loaded, watch: Watch) -> None:
        load: Load = loaded.load(flows=8, rate=rate)
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
    soaked(spoiled, embedded, tmp_path, seconds=10, rate=30, megabytes=25)


@pytest.mark.long
def test_load_for_half_an_hour_leaves_memory_and_descriptors_flat(
    spoiled: Installation, embedded: Embedded, tmp_path: Path
) -> None:
    soaked(spoiled, embedded, tmp_path, seconds=1_800, rate=50, megabytes=10)
