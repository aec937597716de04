"""The asyncio face: the same results, and a loop that never waits."""

from __future__ import annotations

import asyncio
import time

import pytest

import usage

from .conftest import EVENT, World
from .test_reading import subscribe


def test_everything_can_be_awaited(embedded: World, meter: str, customer: str) -> None:
    subscription = subscribe(embedded, meter, customer)

    async def script() -> None:
        async with usage.AsyncClient() as client:
            await asyncio.gather(*(client.record(EVENT, customer, 1) for _ in range(50)))
            await client.record_many([{"event_name": EVENT, "customer": customer, "value": 10}])
            assert (await client.flush()).delivered == 51
            sent = await client.send(EVENT, customer, 40, identifier="fact")
            assert not sent.duplicate
            assert (await client.summaries(EVENT, customer)).total == 100
            assert (await client.preview_invoice(subscription=subscription)).total == 30_000
            assert (await client.verify()).complete
            assert (await client.cancel("fact")).outcome == "cancelled"
            assert await client.retry() == []
            assert await client.dead_letters() == []
            assert (await client.fetch_error_reports()).reports == 0
            with pytest.raises(usage.InvalidEvent):
                await client.error_report("{}")
            assert (await client.status()).complete
            with pytest.raises(usage.InvalidEvent):
                await client.record(EVENT, customer, -1)

    asyncio.run(script())
    assert embedded.total(meter, customer) == 60


def test_the_loop_runs_on_while_a_call_waits(served: str, world: World, meter: str, customer: str) -> None:
    world.control("faults", method="POST", path="/v1/billing/meter_events", delay=0.5)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async def script() -> None:
        async with usage.AsyncClient(limits="none") as client:
            ticking = asyncio.create_task(tick())
            before = time.monotonic()
            await client.send(EVENT, customer, 1)
            assert time.monotonic() - before >= 0.5
            ticking.cancel()

    asyncio.run(script())
    assert ticks >= 3


def test_leaving_the_block_delivers(embedded: World, meter: str, customer: str) -> None:
    async def script() -> None:
        async with usage.AsyncClient() as client:
            await client.record(EVENT, customer, 5)

    asyncio.run(script())
    assert embedded.total(meter, customer) == 5
