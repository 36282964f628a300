"""Rate limits: how much one address, its network and everybody may fail; what holds without Redis."""

import asyncio
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from idp import ratelimit
from idp.context import Context
from idp.ephemeral import MemoryEphemeral
from idp.errors import TooManyRequests, Unavailable
from idp.ratelimit import ADDRESS, EVERYBODY, NETWORK, UNDER_ATTACK
from tests.support.context import opened


class Gone:
    """An ephemeral store that does not answer."""

    def __getattr__(self, name: str) -> Any:
        async def refuse(*_: Any, **__: Any) -> None:
            raise Unavailable

        return refuse


@pytest.fixture
def limited(stores: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    with opened(stores | {"YIMEN_RATE_LIMITS": "on"}) as found:
        monkeypatch.setattr(found.database, "now", lambda: 1_800_000_000)
        memory = dataclasses.replace(found, ephemeral=MemoryEphemeral())
        yield dataclasses.replace(memory, address="203.0.113.7")


async def fail(context: Context, times: int) -> None:
    for _ in range(times):
        await ratelimit.count_failure(context)


async def is_refused(context: Context) -> bool:
    try:
        await ratelimit.refuse_excess(context)
    except TooManyRequests as error:
        return 0 < error.retry_after <= 3_600
    return False


def test_address_is_refused_at_its_limit_and_its_neighbour_is_not(limited: Context) -> None:
    async def story() -> None:
        await fail(limited, ADDRESS[0].most - 1)
        assert not await is_refused(limited)
        await fail(limited, 1)
        assert await is_refused(limited)
        assert not await is_refused(dataclasses.replace(limited, address="203.0.113.8"))

    asyncio.run(story())


def test_spray_from_many_addresses_of_one_network_is_refused(limited: Context) -> None:
    """M08."""

    async def story() -> None:
        for i in range(NETWORK[0].most):
            await fail(dataclasses.replace(limited, address=f"203.0.113.{i % 250}"), 1)
        assert await is_refused(dataclasses.replace(limited, address="203.0.113.251"))
        assert not await is_refused(dataclasses.replace(limited, address="198.51.100.1"))

    asyncio.run(story())


def test_attack_on_everybody_makes_each_address_do_less(limited: Context) -> None:
    async def story() -> None:
        began = 0
        for i in range(EVERYBODY.most):
            began += await ratelimit.count_failure(dataclasses.replace(limited, address=f"10.{i // 250}.{i % 250}.1"))
        assert began == 1
        assert not await is_refused(limited)
        await fail(limited, UNDER_ATTACK.most)
        assert await is_refused(limited)

    asyncio.run(story())


def test_lost_store_leaves_each_worker_its_own_count(limited: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "_spare", MemoryEphemeral())
    lost = dataclasses.replace(limited, ephemeral=Gone())  # type: ignore[arg-type]

    async def story() -> None:
        await fail(lost, ADDRESS[0].most)
        assert await is_refused(lost)

    asyncio.run(story())


def test_switched_off_counts_nothing(limited: Context) -> None:
    off = dataclasses.replace(limited, config=dataclasses.replace(limited.config, rate_limits=False))

    async def story() -> None:
        await fail(off, ADDRESS[0].most + 1)
        assert not await is_refused(off)

    asyncio.run(story())
    assert not asyncio.run(is_refused(limited))
