"""Energy over the wire: a car tells it with its results, its owner reads it back, in figures and as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pool_protocol.system import SystemClock
from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb
from pool_server.core.statement import date_of
from tests.support.clock import ManualClock
from tests.support.fake_car import FakeBuyer, FakeCar, vet_without_jax
from tests.support.pool import PoolHandle, running_pool

NET_MICROS = 900_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(SystemClock().now_us())


@pytest.fixture
def pool(tmp_path: Path, clock: ManualClock) -> Iterator[PoolHandle]:
    with running_pool(tmp_path, vet=vet_without_jax, clock=clock) as running:
        yield running


def test_a_car_tells_energy_and_its_owner_reads_it(pool: PoolHandle, clock: ManualClock) -> None:
    # 1. A car works two tasks; its own meter and its owner's tariff say what they cost. One figure is absurd.
    FakeBuyer.with_money(pool).open_job([1, 2])
    car = FakeCar(pool)
    lease = car.lease()
    assert lease is not None
    body = car.results(lease)
    body.results[0].energy_mj = 7_200_000
    body.results[0].energy_source = common_pb2.ENERGY_SOURCE_RAPL
    body.results[0].electricity_micros = 1_000_000
    body.results[1].energy_mj = -1
    body.results[1].energy_source = common_pb2.ENERGY_SOURCE_DECLARED
    clock.advance(seconds=3_600)

    acks = car.submit(car.seal(body))

    # 2. Both count; the absurd figure alone was refused.
    assert [ack.status for ack in acks] == [fleet_pb.ACK_STATUS_VERIFIED] * 2
    assert [ack.energy_refused for ack in acks] == ["", "ENERGY_OUT_OF_BOUNDS"]

    # 3. The owner reads what is left: less than nothing for the first line, not told for the second.
    month = date_of(clock.now_us())[:7]
    statement = pool.account().GetStatement(
        account_pb.GetStatementRequest(month=month), metadata=car.owner.metadata
    )
    first, second = statement.lines
    assert (first.net_micros, first.after_electricity_micros) == (NET_MICROS, NET_MICROS - 1_000_000)
    assert (first.energy_mj, first.energy_source) == (7_200_000, "rapl")
    assert not second.HasField("electricity_micros")
    assert not second.HasField("after_electricity_micros")
    assert statement.totals.after_electricity_micros == 2 * NET_MICROS - 1_000_000
    assert statement.totals.energy.measured_mj == 7_200_000
    assert b",0.002000000,rapl,1.000000,-0.100000" in statement.csv

    # 4. The same in the earnings, in all and by day; and the car hears what the pool pays and takes.
    earnings = pool.account().GetEarnings(account_pb.GetEarningsRequest(days=1), metadata=car.owner.metadata)
    assert earnings.after_electricity_micros == 2 * NET_MICROS - 1_000_000
    assert earnings.days[0].energy == earnings.energy
    figures = car.earnings()
    assert (figures.posted_price_micros_per_wu, figures.fee_ppm) == (1_000_000, 100_000)


def test_without_a_tariff_nothing_is_said_of_what_is_left(pool: PoolHandle) -> None:
    FakeBuyer.with_money(pool).open_job([1])
    car = FakeCar(pool)
    car.work()

    earnings = pool.account().GetEarnings(account_pb.GetEarningsRequest(days=1), metadata=car.owner.metadata)
    assert not earnings.HasField("after_electricity_micros")
    assert not earnings.days[0].HasField("after_electricity_micros")
    assert earnings.energy.attempts == 0
