"""A deadline raises a job's own bid, from its start to its cap as time runs out, and never back with time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import DAY_US, HOUR_US, MINUTE_US
from pool_server.core.pricing.bid_path import LEAD_US, NEEDED_US_MAX, BidPath, needed_us
from pool_server.core.pricing.orders import PRICE_MICROS_PER_WU_MAX

DEADLINE_US = 1_800_000_000_000_000
TIMES = st.integers(DEADLINE_US - 40 * DAY_US, DEADLINE_US + DAY_US)
NEEDED = st.one_of(st.integers(0, 10 * MINUTE_US), st.integers(0, 20 * DAY_US))


@st.composite
def paths(draw: st.DrawFn) -> BidPath:
    start, cap = sorted((draw(st.integers(0, 100)), draw(st.integers(0, PRICE_MICROS_PER_WU_MAX))))
    return BidPath(start_micros_per_wu=start, cap_micros_per_wu=cap, deadline_us=DEADLINE_US)


@given(paths(), NEEDED, TIMES, TIMES)
def test_the_bid_never_falls_as_time_passes(path: BidPath, needed: int, one_us: int, other_us: int) -> None:
    earlier = path.bid(needed_us=needed, now_us=min(one_us, other_us))
    later = path.bid(needed_us=needed, now_us=max(one_us, other_us))
    assert path.start_micros_per_wu <= earlier <= later <= path.cap_micros_per_wu


@given(paths(), NEEDED, NEEDED, TIMES)
def test_more_work_left_never_bids_less(path: BidPath, one: int, other: int, now_us: int) -> None:
    low, high = sorted((one, other))
    assert path.bid(needed_us=low, now_us=now_us) <= path.bid(needed_us=high, now_us=now_us)


@given(paths(), NEEDED)
def test_start_and_cap_are_reached_at_the_stated_moments(path: BidPath, needed: int) -> None:
    rises_at_us, full_at_us = path.rises_at_us(needed_us=needed), path.full_at_us(needed_us=needed)
    assert path.bid(needed_us=needed, now_us=rises_at_us) == path.start_micros_per_wu
    assert path.bid(needed_us=needed, now_us=full_at_us) == path.cap_micros_per_wu
    # Twice the work's own time is left then, and an hour.
    assert DEADLINE_US - full_at_us == 2 * needed + LEAD_US
    assert path.bid(needed_us=needed, now_us=DEADLINE_US + DAY_US) == path.cap_micros_per_wu
    if path.start_micros_per_wu < path.cap_micros_per_wu:
        assert path.bid(needed_us=needed, now_us=full_at_us - 1) < path.cap_micros_per_wu


@pytest.mark.parametrize(
    ("left_us", "bid"),
    [(10 * HOUR_US, 20), (9 * HOUR_US, 20), (8 * HOUR_US, 30), (6 * HOUR_US, 50), (3 * HOUR_US, 80), (0, 80)],
)
def test_the_documented_example(left_us: int, bid: int) -> None:
    # One hour of work: F = 3 h, R = 9 h, a straight line from 20 to 80 between them.
    path = BidPath(start_micros_per_wu=20, cap_micros_per_wu=80, deadline_us=DEADLINE_US)
    assert path.bid(needed_us=HOUR_US, now_us=DEADLINE_US - left_us) == bid


def test_time_needed() -> None:
    assert needed_us(10_000_000, speed_uwu_per_s=3_000_000) == 3_333_334
    assert needed_us(0, speed_uwu_per_s=0) == 0
    assert needed_us(1, speed_uwu_per_s=0) == NEEDED_US_MAX
    assert needed_us(10**30, speed_uwu_per_s=1) == NEEDED_US_MAX


def test_without_cars_a_job_bids_its_cap() -> None:
    path = BidPath(start_micros_per_wu=20, cap_micros_per_wu=80, deadline_us=DEADLINE_US)
    needed = needed_us(1, speed_uwu_per_s=0)
    assert path.bid(needed_us=needed, now_us=DEADLINE_US - 30 * DAY_US) == 80


@pytest.mark.parametrize(
    ("start", "cap", "field"),
    [
        (-1, 5, "start_micros_per_wu"),
        (1, PRICE_MICROS_PER_WU_MAX + 1, "cap_micros_per_wu"),
        (6, 5, "start_micros_per_wu"),
    ],
)
def test_a_path_that_cannot_be_is_refused(start: int, cap: int, field: str) -> None:
    with pytest.raises(PoolError) as refused:
        BidPath(start_micros_per_wu=start, cap_micros_per_wu=cap, deadline_us=DEADLINE_US)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert refused.value.context["field"] == field


@pytest.mark.parametrize(("work", "speed"), [(-1, 1), (1, -1)])
def test_negative_work_or_speed_is_refused(work: int, speed: int) -> None:
    with pytest.raises(PoolError) as refused:
        needed_us(work, speed_uwu_per_s=speed)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
