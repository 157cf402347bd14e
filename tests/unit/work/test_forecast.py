"""Estimates: price bands from the past, times from speeds and queues, energy from work."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import SECOND_US
from pool_server.core.forecast.completion import (
    TIME_US_MAX,
    Completion,
    Demand,
    completion,
    known_speeds,
    low_availability,
)
from pool_server.core.forecast.energy import energy_estimate
from pool_server.core.forecast.price import WINDOWS_MIN, PriceBand, PricePoint, decile, price_band
from pool_server.core.pricing.epoch import EPOCH_US

START_US = 1_000_000 * EPOCH_US


def history(prices: list[int]) -> list[PricePoint]:
    return [PricePoint(START_US + index * EPOCH_US, price) for index, price in enumerate(prices)]


def band(prices: list[int], *, horizon_epochs: int = 1) -> PriceBand:
    return price_band(
        history(prices),
        price_micros_per_wu=prices[-1] if prices else 20,
        horizon_us=horizon_epochs * EPOCH_US,
        now_us=START_US + max(0, len(prices) - 1) * EPOCH_US,
    )


# --- price --------------------------------------------------------------------------------------


def test_without_history_the_price_is_taken_to_stay_and_that_is_said() -> None:
    assert band([]) == PriceBand(20, 20, 20, epochs=0)
    assert band([30] * WINDOWS_MIN) == PriceBand(30, 30, 30, epochs=WINDOWS_MIN)


def test_a_price_that_never_moved_has_a_band_of_one_point() -> None:
    assert band([50] * 200, horizon_epochs=8) == PriceBand(50, 50, 50, epochs=200)


def test_a_price_that_doubles_and_halves_in_turn_is_seen_over_one_epoch_and_gone_over_two() -> None:
    prices = list(itertools.islice(itertools.cycle([100, 200]), 201))
    assert prices[-1] == 100
    over_one = band(prices)
    assert (over_one.p10_micros_per_wu, over_one.p90_micros_per_wu) == (50, 200)
    assert band(prices, horizon_epochs=2)[:3] == (100, 100, 100)


def test_a_rising_price_is_expected_to_rise_on() -> None:
    prices = [round(1_000 * 1.01**index) for index in range(120)]
    later = band(prices, horizon_epochs=10)
    assert later.p50_micros_per_wu == pytest.approx(prices[-1] * 1.01**10, rel=0.01)


def test_a_horizon_beyond_the_history_is_stretched_as_a_random_walk() -> None:
    moves = [1, -1, -1, 1, 1, 1, -1, -1, 1, -1] * 3
    prices, price = [], 10_000.0
    for move in [0, *moves]:
        price *= 1.1**move
        prices.append(round(price))
    near, far = band(prices, horizon_epochs=11), band(prices, horizon_epochs=1_100)
    assert far.p90_micros_per_wu > near.p90_micros_per_wu > prices[-1]
    assert far.p10_micros_per_wu < near.p10_micros_per_wu


def test_a_price_of_zero_breaks_nothing() -> None:
    assert band([0] * 100)[:3] == (0, 0, 0)
    assert band([0] * 50 + [10] * 50).p50_micros_per_wu == 10


@given(st.lists(st.integers(0, 10**9), max_size=120), st.integers(0, 400))
def test_deciles_are_in_order_and_never_negative(prices: list[int], horizon: int) -> None:
    found = band(prices, horizon_epochs=horizon)
    assert 0 <= found.p10_micros_per_wu <= found.p50_micros_per_wu <= found.p90_micros_per_wu
    assert found.epochs == len(prices)


def test_a_negative_horizon_is_refused() -> None:
    with pytest.raises(PoolError) as refused:
        price_band([], price_micros_per_wu=1, horizon_us=-1, now_us=0)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_decile_lies_between_its_neighbours() -> None:
    assert [decile([1.0, 2.0, 3.0], share) for share in (0.0, 0.25, 0.5, 1.0)] == [1.0, 1.5, 2.0, 3.0]
    with pytest.raises(PoolError):
        decile([], 0.5)


# --- time ---------------------------------------------------------------------------------------


def demand(
    tasks: int = 100, work: int = 1_000_000, *, own: int = 0, executions: float = 1.0, **others: int
) -> Demand:
    return Demand(
        task_count=tasks,
        work_uwu_per_task=work,
        executions_per_task=executions,
        others_uwu=others,
        own_uwu=own,
    )


def test_alone_a_job_takes_its_work_over_all_speeds() -> None:
    times = completion([1_000_000, 3_000_000], demand(), low_availability=0.5)
    assert times == Completion(25 * SECOND_US, 25 * SECOND_US, 50 * SECOND_US)


def test_another_buyer_costs_at_most_as_much_time_as_the_job_itself() -> None:
    def median_s(**others: int) -> float:
        times = completion([1_000_000], demand(), low_availability=1.0)
        assert times is not None
        shared = completion([1_000_000], demand(**others), low_availability=1.0)
        assert shared is not None
        assert shared.p10_us == times.p10_us
        return shared.p50_us / SECOND_US

    assert median_s(b=10_000_000) == 110
    assert median_s(b=10**15) == 200
    assert median_s(b=10**15, c=10**15) == 300
    assert median_s(b=10**15, c=40_000_000) == 240


def test_the_same_buyers_other_jobs_wait_before_it() -> None:
    times = completion([1_000_000], demand(own=50_000_000), low_availability=1.0)
    assert times is not None
    assert times.p50_us == 150 * SECOND_US


def test_few_tasks_cannot_use_all_cars() -> None:
    few = completion([1_000_000] * 100, demand(tasks=2), low_availability=1.0)
    many = completion([1_000_000] * 100, demand(tasks=200), low_availability=1.0)
    assert few is not None
    assert many is not None
    assert few.p50_us == SECOND_US  # one task each, and no task is faster
    assert many.p50_us == 2 * SECOND_US


def test_audits_and_quorums_are_work_too() -> None:
    times = completion([1_000_000], demand(executions=2.5), low_availability=1.0)
    assert times is not None
    assert times.p50_us == 250 * SECOND_US


def test_unknown_speeds_count_as_the_median_and_none_known_as_nothing() -> None:
    assert known_speeds([0, 5, 1, 3, 0]) == [1, 3, 3, 3, 5]
    assert known_speeds([0, 0]) == []
    assert completion([0, 0], demand(), low_availability=0.5) is None
    assert completion([], demand(), low_availability=0.5) is None


@given(
    st.lists(st.integers(0, 10**9), max_size=20),
    st.tuples(st.integers(1, 10**6), st.integers(1, 10**12), st.floats(1, 5)),
    st.dictionaries(st.text(max_size=3), st.integers(0, 10**18), max_size=4),
    st.floats(0.01, 1),
)
def test_times_are_in_order_and_bounded(
    speeds: list[int], size: tuple[int, int, float], others: dict[str, int], stays: float
) -> None:
    asked = Demand(*size, others_uwu=others, own_uwu=0)
    times = completion(speeds, asked, low_availability=stays)
    assert (times is None) == (not any(speeds))
    if times is not None:
        assert 0 < times.p10_us <= times.p50_us <= times.p90_us <= TIME_US_MAX


def test_a_share_out_of_range_is_refused() -> None:
    with pytest.raises(PoolError):
        completion([1], demand(), low_availability=0.0)


def test_availability_is_read_from_a_week_of_days() -> None:
    assert low_availability([10] * 6) is None
    assert low_availability([10] * 7) == 1.0
    assert low_availability([100] * 8 + [20, 0, 20]) == pytest.approx(0.2, abs=0.2)


# --- energy -------------------------------------------------------------------------------------


def test_energy_is_work_times_joules_and_co2_follows() -> None:
    # 60 WU of 60 J each are one watt-hour; at 240 g/kWh 0.24 g.
    assert energy_estimate(work_uwu=60_000_000, joules_per_wu=60, co2_g_per_kwh=240) == (1_000, 240)
