"""Budgets: what is reserved, what is refused, and that nothing is ever reserved beyond the buyer's words."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chargepool
from chargepool._opening import JobOptions
from chargepool._session import Session
from chargepool._terms import Wishes, settle_price, with_margin
from chargepool._values import Quote
from pool_protocol.v1 import common_pb2
from tests.support.clock import START_US, ManualClock

PROGRAM = "a" * 64


class Quoting:
    """A session that only quotes: `per_task` for each, with `available` in the account."""

    def __init__(self, *, per_task: int = 100, available: int = 10**12) -> None:
        self.clock = ManualClock()
        self.per_task = per_task
        self.available = available
        self.asked: list[int] = []

    def quote(
        self, *, program_sha256: str, tasks: int, level: str, steps: int, certified: bool = False
    ) -> Quote:
        self.asked.append(tasks)
        return Quote(
            quote_id=f"q{len(self.asked)}",
            program_sha256=program_sha256,
            tasks=tasks,
            level=level,
            steps=steps,
            price_micros_per_wu=self.per_task,
            work_uwu_per_task=1_000_000,
            cost_micros_per_task=self.per_task,
            attempts_per_task=1,
            total_micros=self.per_task * tasks,
            expires_at_us=START_US + 1,
            currency="EUR",
            vehicles_now=1,
            available_micros=self.available,
            certified=certified,
        )


def settle(session: Quoting, **words: Any) -> Any:
    chosen: dict[str, Any] = {"tasks": 10, "level": "standard", "steps": 0} | words
    wishes = Wishes(**chosen)
    return settle_price(cast("Session", session), program_sha256=PROGRAM, wishes=wishes)


def test_left_alone_the_budget_is_the_total_and_a_quarter() -> None:
    price = settle(Quoting(), tasks=1_000)
    assert price.budget_micros == 125_000
    assert price.mode == common_pb2.PRICE_MODE_QUOTE
    assert price.quote_id == "q1"


def test_the_quote_is_for_certified_work_where_the_job_is() -> None:
    assert settle(Quoting(), certified=True).quote.certified
    assert not settle(Quoting()).quote.certified


def test_a_small_job_has_room_for_four_more_tasks() -> None:
    assert settle(Quoting(), tasks=1).budget_micros == 500


@given(
    tasks=st.integers(1, 10**6),
    per_task=st.integers(0, 10**6),
    available=st.integers(0, 10**13),
    budget=st.none() | st.integers(0, 10**13),
)
def test_the_budget_covers_the_tasks_and_passes_neither_account_nor_words(
    tasks: int, per_task: int, available: int, budget: int | None
) -> None:
    session = Quoting(per_task=per_task, available=available)
    total = tasks * per_task
    try:
        price = settle(session, tasks=tasks, budget_micros=budget)
    except chargepool.BudgetExceeded:
        assert budget is not None
        assert budget < total
    except chargepool.InsufficientFunds:
        assert available < (total if budget is None else budget)
    else:
        assert total <= price.budget_micros <= available
        assert price.budget_micros <= (with_margin(total, per_task) if budget is None else budget)


def test_inputs_of_unknown_number_need_a_bound() -> None:
    with pytest.raises(chargepool.BudgetRequired, match="how many") as caught:
        settle(Quoting(), tasks=None)
    assert "tasks=N" in caught.value.next_step


def test_a_budget_bounds_inputs_of_unknown_number() -> None:
    session = Quoting()
    price = settle(session, tasks=None, budget_micros=1_050)
    assert price.budget_micros == 1_050
    assert session.asked == [1, 10], "the quote is for as many tasks as the budget covers"


def test_a_budget_that_covers_no_task_is_refused() -> None:
    with pytest.raises(chargepool.BudgetExceeded, match="covers no task"):
        settle(Quoting(), tasks=None, budget_micros=99)


def test_a_price_cap_is_what_each_task_may_cost() -> None:
    price = settle(Quoting(), price_cap_micros_per_wu=300)
    assert price.mode == common_pb2.PRICE_MODE_SPOT
    assert (price.price_cap_micros_per_wu, price.quote_id) == (300, "")
    assert price.budget_micros == with_margin(3_000, 300)


def test_donated_work_reserves_nothing() -> None:
    price = settle(Quoting(available=0), donated=True, tasks=None)
    assert (price.mode, price.budget_micros) == (common_pb2.PRICE_MODE_DONATE, 0)


def test_a_quote_is_used_as_it_is() -> None:
    session = Quoting()
    quote = session.quote(program_sha256=PROGRAM, tasks=10, level="standard", steps=0)
    assert settle(session, quote=quote).quote_id == quote.quote_id
    assert session.asked == [10]


def test_a_quote_for_something_else_is_refused() -> None:
    session = Quoting()
    quote = session.quote(program_sha256=PROGRAM, tasks=10, level="careful", steps=0)
    with pytest.raises(chargepool.InputRefused, match="another program, level"):
        settle(session, quote=quote)
    quote = session.quote(program_sha256=PROGRAM, tasks=9, level="standard", steps=0)
    with pytest.raises(chargepool.BudgetExceeded, match="for 9 tasks, the inputs are 10"):
        settle(session, quote=quote)


def test_an_old_quote_is_refused_here_already() -> None:
    session = Quoting()
    quote = session.quote(program_sha256=PROGRAM, tasks=10, level="standard", steps=0)
    session.clock.advance(us=1)
    with pytest.raises(chargepool.QuoteExpired):
        settle(session, quote=quote)


@pytest.mark.parametrize(
    "words",
    [{"price_cap_micros_per_wu": -1}, {"budget_micros": -1}, {"donated": True, "price_cap_micros_per_wu": 1}],
)
def test_words_that_contradict_each_other_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(chargepool.InputRefused):
        settle(Quoting(), **words)


@pytest.mark.parametrize(
    "words", [{"level": "sloppy"}, {"deadline_s": 0}, {"attempts_max": 99}, {"name": "n" * 81}]
)
def test_options_that_no_pool_takes_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(chargepool.InputRefused):
        JobOptions(**words)


# --- caps, start prices, patience ---------------------------------------------------------------


def test_a_cap_below_the_price_is_refused_with_both_numbers_before_anything_is_spent() -> None:
    with pytest.raises(chargepool.PriceAboveCap) as refused:
        settle(Quoting(per_task=100), price_cap_micros_per_wu=99)
    assert refused.value.context == {"price_micros_per_wu": "100", "price_cap_micros_per_wu": "99"}
    assert "100 micro-EUR per WU, above the job's cap of 99" in str(refused.value)
    assert "wait_for_price=True" in refused.value.next_step


def test_a_job_that_may_wait_is_not_refused_and_reserves_by_its_cap() -> None:
    price = settle(Quoting(per_task=100), price_cap_micros_per_wu=80, waits_for_price=True, tasks=1_000)
    assert (price.mode, price.price_cap_micros_per_wu) == (common_pb2.PRICE_MODE_SPOT, 80)
    assert price.budget_micros == with_margin(80_000, 80)


def test_a_start_price_goes_with_a_cap_and_a_deadline() -> None:
    words = {"price_cap_micros_per_wu": 150, "price_start_micros_per_wu": 50, "has_deadline": True}
    assert settle(Quoting(), **words).price_start_micros_per_wu == 50
    assert settle(Quoting(), price_cap_micros_per_wu=150).price_start_micros_per_wu == 0


@pytest.mark.parametrize(
    "words",
    [
        {"price_start_micros_per_wu": 50},
        {"price_start_micros_per_wu": 50, "price_cap_micros_per_wu": 150},
        {"price_start_micros_per_wu": 50, "has_deadline": True},
        {"price_start_micros_per_wu": 151, "price_cap_micros_per_wu": 150, "has_deadline": True},
        {"price_start_micros_per_wu": -1, "price_cap_micros_per_wu": 150, "has_deadline": True},
        {"waits_for_price": True},
    ],
)
def test_wishes_that_contradict_each_other_are_refused_before_the_pool_is_asked(
    words: dict[str, Any],
) -> None:
    session = Quoting()
    with pytest.raises(chargepool.InputRefused):
        settle(session, **words)
    assert session.asked == []
