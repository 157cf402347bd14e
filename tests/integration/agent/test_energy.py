"""The agent's economy against a pool that a test controls: energy in results, and work that does not pay."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from car_agent.cli.show import status_text
from car_agent.control import status_message
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from tests.integration.agent.rig import FakeFleet, Rig, bundle, inputs, until
from tests.unit.agent.test_energy import zone

pytestmark = pytest.mark.slow
#: 100 J are guessed for a work unit: at 0.36 that is ten micro-units, at 36 a thousand.
CHEAP = 'kind = "fixed"\ncurrency = "EUR"\nprice_per_kwh = 0.36\n'
DEAR = CHEAP.replace("0.36", "36")


@pytest.fixture
async def fleet() -> AsyncIterator[FakeFleet]:
    served = FakeFleet()
    await served.start()
    yield served
    await served.stop()


def rig_at(tmp_path: Path, *worker_arguments: str, tariff: str = "") -> Rig:
    """A car without counters, but where a test has made them."""
    rig = Rig(tmp_path / "car", *worker_arguments, watts=36_00.0, rapl_root=str(tmp_path / "powercap"))
    if tariff:
        rig.directory.tariff.write_text(tariff)
    return rig


@pytest.fixture
async def rigs() -> AsyncIterator[list[Rig]]:
    started: list[Rig] = []
    yield started
    for rig in started:
        if rig._tasks:
            await rig.crash()


def attempt(number: int, work_uwu: int) -> pb.AttemptSpec:
    return pb.AttemptSpec(attempt_id=number, inputs=bundle(inputs(number)), work_uwu=work_uwu)


async def test_results_carry_declared_energy_and_its_cost_and_the_car_keeps_its_sums(
    fleet: FakeFleet, tmp_path: Path, rigs: list[Rig]
) -> None:
    rig = rig_at(tmp_path, tariff=DEAR)
    rigs.append(rig)
    identity = fleet.identity()
    fleet.posted_price_micros_per_wu = 100_000
    specs = [attempt(11, 10**12), attempt(12, 10**12)]
    fleet.offers = [fleet.lease(1, attempts=specs, price_micros_per_wu=100_000)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: len(fleet.results()) == 2 and not rig.link.outbox)

    results = list(fleet.results().values())
    assert {result.energy_source for result in results} == {common_pb2.ENERGY_SOURCE_DECLARED}
    assert sum(result.energy_mj for result in results) > 0
    assert all(result.HasField("electricity_micros") for result in results)
    told_mj = sum(result.energy_mj for result in results)
    # 36 per kWh are ten micro-units a joule. What is cut is carried on, here or there to what is nobody's.
    assert abs(sum(result.electricity_micros for result in results) - told_mj / 100) < 3
    await until(lambda: rig.agent.snapshot().energy.today_mj >= told_mj)
    energy = rig.agent.snapshot().energy
    assert (energy.source, energy.tariff) == ("declared", "fixed")
    assert "no energy counters" in energy.not_measured
    assert energy.wu_per_hour > 0
    # Two short tasks tell of the worker's start: no net is promised on that.
    assert energy.estimated
    text = status_text(status_message(rig.agent.snapshot()))
    assert "declared watts" in text
    assert "36.000000 EUR per kWh (fixed)" in text
    rig.economy._efficiency = replace(rig.economy._efficiency, busy_us=3_600e6)
    energy = rig.agent.snapshot().energy
    assert not energy.estimated
    assert energy.net_micros_per_hour is not None
    text = status_text(status_message(rig.agent.snapshot()))
    assert "36.000000 EUR per kWh (fixed); an hour leaves" in text


async def test_where_the_processor_counts_the_counter_is_what_counts(
    fleet: FakeFleet, tmp_path: Path, rigs: list[Rig]
) -> None:
    counter = zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 1_000_000) / "energy_uj"
    rig = rig_at(tmp_path)
    rigs.append(rig)
    identity = fleet.identity()
    await rig.start(identity)
    assert rig.agent.snapshot().energy.not_measured == ""
    counter.write_text("1500000")  # half a joule while nothing is computed: nobody's
    rig.economy._meter._flow()
    fleet.offers = [fleet.lease(1, 11)]
    rig.charge()
    await until(lambda: rig.agent.worker_lives)
    counter.write_text("2500000")
    await until(lambda: len(fleet.results()) == 1 and not rig.link.outbox)

    [result] = fleet.results().values()
    assert result.energy_source == common_pb2.ENERGY_SOURCE_RAPL
    assert not result.HasField("electricity_micros"), "no tariff is set"
    # A joule, and a fifth for the wall: the attempt's, or nobody's where the worker's start took it.
    await until(lambda: rig.agent.snapshot().energy.today_mj == 1_200)
    assert 0 <= result.energy_mj <= 1_200
    assert rig.agent.snapshot().energy.electricity_today_micros is None
    assert "no tariff is set" in status_text(status_message(rig.agent.snapshot()))


async def test_a_lease_that_would_lose_money_goes_back_and_nothing_of_it_runs(
    fleet: FakeFleet, tmp_path: Path, rigs: list[Rig]
) -> None:
    rig = rig_at(tmp_path, tariff=DEAR)
    rigs.append(rig)
    identity = fleet.identity()
    fleet.posted_price_micros_per_wu = 2_000
    fleet.offers = [fleet.lease(1, 11, 12, price_micros_per_wu=1_000)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: len(fleet.results()) == 2)

    for result in fleet.results().values():
        assert (result.outcome, result.reason) == (pb.ATTEMPT_OUTCOME_ABANDONED, "PRICE_BELOW_RESERVE")
        assert result.energy_source == common_pb2.ENERGY_SOURCE_UNSPECIFIED, "it never ran"
    assert not (rig.directory.scratch / "ran").exists()
    assert "WORK_WOULD_LOSE" in rig.event_codes()
    wanted = [request.want for request in fleet.requests if request.want.attempts_max]
    # 1,000 of electricity, a tenth of margin, and the pool's tenth on top of that.
    assert wanted[0].reserve_price_micros_per_wu == 1_223


async def test_work_that_does_not_pay_is_asked_for_at_a_better_price_and_the_owner_reads_why(
    fleet: FakeFleet, tmp_path: Path, rigs: list[Rig]
) -> None:
    rig = rig_at(tmp_path, tariff=DEAR)
    rigs.append(rig)
    identity = fleet.identity()
    await rig.start(identity)
    rig.charge()
    await until(lambda: rig.agent.snapshot().energy.refusal == "PRICE_BELOW_RESERVE")

    # 1. It says why, and asks at its own price: its order in the auction.
    status = status_message(rig.agent.snapshot())
    assert status.reasons[0].code == "PRICE_BELOW_RESERVE"
    assert "pays 0.001 EUR per work unit; this car works from 0.001223" in status.reasons[0].message
    await until(lambda: asked_for(fleet, 1_223), what="it asks, at the price that pays its electricity")
    await until(lambda: "PRICE_BELOW_RESERVE" in rig.event_codes())

    # 2. A limit on an hour's net says it with that, and asks for more.
    await rig.switchboard.set_policy("start_after_s = 0\nmin_net_per_hour = 129.6\n")
    assert rig.agent.snapshot().verdict.reasons[0].code.value == "NET_BELOW_MINIMUM"
    # 3,600 W make 129,600 work units of a guess an hour: a thousand micro-units more for each.
    await until(lambda: asked_for(fleet, 2_223))

    # 3. A cheaper tariff ends it, without a restart.
    rig.directory.tariff.write_text(CHEAP)
    await rig.switchboard.set_policy("start_after_s = 0\n")
    rig.economy._owner_tariff.refresh()
    assert rig.agent.snapshot().verdict.reasons == ()
    await until(lambda: asked_for(fleet, 13))
    fleet.offers = [fleet.lease(1, 11, price_micros_per_wu=1_000)]
    await until(lambda: 11 in fleet.results())
    assert fleet.results()[11].outcome == pb.ATTEMPT_OUTCOME_COMPLETED


def asked_for(fleet: FakeFleet, reserve_micros: int) -> bool:
    """Whether work was asked for at this price last."""
    asked = [request.want for request in fleet.requests if request.want.attempts_max]
    return bool(asked) and asked[-1].reserve_price_micros_per_wu == reserve_micros


async def test_a_tariff_in_other_money_or_none_that_can_be_read_asks_for_no_work(
    fleet: FakeFleet, tmp_path: Path, rigs: list[Rig]
) -> None:
    rig = rig_at(tmp_path, tariff=CHEAP.replace("EUR", "USD"))
    rigs.append(rig)
    identity = fleet.identity()
    await rig.start(identity)
    rig.charge()
    await until(lambda: rig.agent.snapshot().energy.refusal == "TARIFF_UNKNOWN")

    before = len(fleet.requests)
    [reason] = rig.agent.snapshot().verdict.reasons
    assert "in USD, and the pool pays in EUR" in reason.message
    rig.directory.tariff.write_text("kind = 3")
    rig.economy._owner_tariff.refresh()
    [reason] = rig.agent.snapshot().verdict.reasons
    assert "cannot be read" in reason.message
    assert not any(request.want.attempts_max for request in fleet.requests[before:])


async def test_an_attempt_that_is_killed_says_what_it_took(
    fleet: FakeFleet, tmp_path: Path, rigs: list[Rig]
) -> None:
    rig = rig_at(tmp_path, "slow", "600")
    rigs.append(rig)
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11, 12)]
    await rig.start(identity)
    rig.charge()
    await until((rig.directory.scratch / "ran").exists)
    rig.unplug()
    await until(lambda: len(fleet.results()) == 2)

    results = fleet.results()
    assert results[11].outcome == pb.ATTEMPT_OUTCOME_ABANDONED
    assert results[11].energy_source == common_pb2.ENERGY_SOURCE_DECLARED
    assert results[11].energy_mj > 0
    assert results[12].energy_source == common_pb2.ENERGY_SOURCE_UNSPECIFIED
    await until(lambda: rig.agent.snapshot().energy.watts == 0)


async def test_what_a_cancelled_attempt_took_is_the_cars_own_and_no_result_says_it(
    fleet: FakeFleet, tmp_path: Path, rigs: list[Rig]
) -> None:
    rig = rig_at(tmp_path, "slow", "0.2")
    rigs.append(rig)
    identity = fleet.identity()
    await rig.start(identity)
    rig.charge()
    await until(
        lambda: any(request.want.attempts_max for request in fleet.requests), what="the probe is over"
    )
    now_us = rig.clock.now_us()
    before = await rig.journal(lambda journal: journal.energy_today(now_us=now_us))
    fleet.offers = [fleet.lease(1, 11, 12)]
    await until(lambda: rig.agent._driver.running_attempt == 11)
    fleet.pushes.put_nowait(pb.ExchangeResponse(cancel=pb.Cancel(attempt_ids=[11], reason="TASK_DECIDED")))
    await until(lambda: 12 in fleet.results())

    assert 11 not in fleet.results()
    after = await rig.journal(lambda journal: journal.energy_today(now_us=now_us))
    # 3,600 W for two tenths of a second, at least.
    assert after.energy_mj - before.energy_mj >= fleet.results()[12].energy_mj + 720_000
