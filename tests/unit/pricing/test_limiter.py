"""The posted price: at most a step, never past the target, never stuck, inside its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.clearing import check_limiter
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import PPM
from pool_server.core.pricing.epoch import PriceRules
from pool_server.core.pricing.limiter import STEP_PPM_DEFAULT, limited
from pool_server.core.pricing.orders import PRICE_MICROS_PER_WU_MAX
from tests.unit.pricing.books import PRICES


@given(PRICES, PRICES, st.sampled_from([20_000, 50_000, 200_000, 333_333, PPM]), PRICES, PRICES)
def test_a_fixed_target_is_reached_in_steps(
    posted: int, target: int, step_ppm: int, one: int, other: int
) -> None:
    check_limiter(posted, target, PriceRules(step_ppm, min(one, other), max(one, other)))


@pytest.mark.parametrize(
    ("posted", "target", "after"),
    [
        pytest.param(100, 500, 120, id="a step up"),
        pytest.param(100, 5, 80, id="a step down"),
        pytest.param(100, 110, 110, id="no further than the target"),
        pytest.param(100, 100, 100, id="rests"),
        pytest.param(99, 500, 118, id="the step is rounded down"),
        pytest.param(4, 500, 5, id="at least 1 micro up"),
        pytest.param(4, 1, 3, id="at least 1 micro down"),
        pytest.param(1, 0, 2, id="the floor holds the target"),
        pytest.param(0, 9, 2, id="below the floor: to the floor at once"),
        pytest.param(900, 900, 700, id="above the cap: to the cap at once"),
        pytest.param(690, 900, 700, id="the cap holds the target"),
    ],
)
def test_one_step(posted: int, target: int, after: int) -> None:
    assert limited(posted, target, step_ppm=STEP_PPM_DEFAULT, floor=2, cap=700) == after


def test_a_price_of_zero_gets_away_from_it() -> None:
    assert limited(0, 50, step_ppm=1, floor=0, cap=PRICE_MICROS_PER_WU_MAX) == 1


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"posted": -1}, "posted_micros_per_wu"),
        ({"target": PRICE_MICROS_PER_WU_MAX + 1}, "target_micros_per_wu"),
        ({"step_ppm": 0}, "step_ppm"),
        ({"step_ppm": PPM + 1}, "step_ppm"),
        ({"floor": 9, "cap": 8}, "floor"),
        ({"floor": -1}, "floor"),
        ({"cap": PRICE_MICROS_PER_WU_MAX + 1}, "cap"),
    ],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, int], field: str) -> None:
    given_or = {"posted": 10, "target": 10, "step_ppm": 1, "floor": 0, "cap": 100} | arguments
    with pytest.raises(PoolError) as refused:
        limited(
            given_or["posted"],
            given_or["target"],
            step_ppm=given_or["step_ppm"],
            floor=given_or["floor"],
            cap=given_or["cap"],
        )
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert refused.value.context["field"] == field
