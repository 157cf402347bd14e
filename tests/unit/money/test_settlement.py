"""What accepted work pays: exact to the micro-unit, and the same however it is cut into commands."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import work_price_micros
from pool_server.core.settlement import (
    AttemptSettlement,
    MoneyTerms,
    fees_by_owner,
    pay_of,
    unresolved_expiry_us,
)
from tests.support.books import TERMS, settlement


def priced(work_uwu: int, price: int) -> AttemptSettlement:
    return settlement(1, 1)._replace(
        work_uwu=work_uwu, price_micros_per_wu=price, gross_micros=work_price_micros(work_uwu, price)
    )


@given(st.integers(0, 10**13), st.integers(0, 10**5), st.integers(0, 999_999))
def test_gross_is_fee_plus_net_and_rounds_in_the_owners_favour(
    work_uwu: int, price: int, fee_ppm: int
) -> None:
    pay = pay_of(priced(work_uwu, price), fee_ppm=fee_ppm)

    assert pay.gross_micros == pay.fee_micros + pay.net_micros
    assert pay.gross_micros * 1_000_000 >= work_uwu * price
    assert pay.fee_micros * 1_000_000 <= pay.gross_micros * fee_ppm
    assert pay.net_micros >= 0


def test_a_gross_that_is_not_the_price_of_the_work_is_refused() -> None:
    with pytest.raises(PoolError) as refusal:
        pay_of(priced(10, 10**6)._replace(gross_micros=11), fee_ppm=0)

    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


def test_fees_are_summed_per_owner_and_owners_without_a_fee_left_out() -> None:
    pay = pay_of(priced(100, 10**6), fee_ppm=50_000)
    nothing = pay_of(priced(1, 10**6), fee_ppm=50_000)

    assert fees_by_owner([("b", pay), ("a", pay), ("b", pay), ("c", nothing)]) == {"b": 10, "a": 5}


@pytest.mark.parametrize(
    "change",
    [
        {"fee_ppm": -1},
        {"fee_ppm": 1_000_000},
        {"dispute_window_us": -1},
        {"posted_price_micros_per_wu": -1},
        {"payout_schedule_us": -1},
        {"currency": "eur"},
        {"currency": "EURO"},
    ],
    ids=str,
)
def test_terms_out_of_range_are_refused(change: dict[str, object]) -> None:
    values = {
        "pool_id": TERMS.pool_id,
        "currency": TERMS.currency,
        "fee_ppm": TERMS.fee_ppm,
        "dispute_window_us": 0,
        "posted_price_micros_per_wu": 0,
        **change,
    }
    with pytest.raises(PoolError) as refusal:
        MoneyTerms(**values)  # type: ignore[arg-type]

    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_result_may_wait_a_month_for_its_second_opinion() -> None:
    assert unresolved_expiry_us(5) == 5 + 30 * 24 * 3600 * 1_000_000
