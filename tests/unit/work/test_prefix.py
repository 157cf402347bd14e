"""The worth of an unfinished step task: by its steps, rounded down, never more than the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import work_price_micros
from pool_server.core.verification.prefix import StepTask

TASKS = st.builds(
    StepTask,
    steps=st.integers(1, 10_000),
    unit_steps=st.integers(1, 300),
    work_uwu=st.integers(0, 10**14),
)


@pytest.mark.parametrize(
    ("units", "steps", "uwu", "micros"),
    [(0, 0, 0, 0), (1, 4, 400, 41), (2, 8, 800, 81), (3, 10, 1_000, 101)],
    ids=["nothing", "one unit", "two units", "the whole, whose last unit is shorter"],
)
def test_a_prefix_is_worth_its_steps(units: int, steps: int, uwu: int, micros: int) -> None:
    task = StepTask(steps=10, unit_steps=4, work_uwu=1_000)
    assert task.units == 3
    assert task.prefix_steps(units) == steps
    assert task.prefix_uwu(units) == uwu
    assert task.prefix_micros(units, price_micros_per_wu=100_001) == micros


PRICES = st.integers(0, 10**9)


@given(task=TASKS, price=PRICES)
def test_the_whole_is_worth_the_whole_and_more_units_are_never_worth_less(task: StepTask, price: int) -> None:
    shown = range(min(task.units, 40) + 1)
    worth = [task.prefix_uwu(units) for units in shown]
    assert worth == sorted(worth)
    assert task.prefix_uwu(task.units) == task.work_uwu
    whole_micros = work_price_micros(task.work_uwu, price)
    paid = [task.prefix_micros(units, price_micros_per_wu=price) for units in shown]
    assert paid == sorted(paid)
    assert task.prefix_micros(task.units, price_micros_per_wu=price) == whole_micros
    assert max(paid) <= whole_micros
    assert paid[0] == 0


@given(task=TASKS, data=st.data())
def test_work_is_rounded_down_by_less_than_one(task: StepTask, data: st.DataObject) -> None:
    units = data.draw(st.integers(0, task.units))
    steps = task.prefix_steps(units)
    uwu = task.prefix_uwu(units)
    assert uwu * task.steps <= task.work_uwu * steps < (uwu + 1) * task.steps


@pytest.mark.parametrize("units", [-1, 4])
def test_units_that_the_task_does_not_have_are_refused(units: int) -> None:
    with pytest.raises(PoolError) as refused:
        StepTask(steps=10, unit_steps=4, work_uwu=1).prefix_uwu(units)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_task_has_a_step() -> None:
    with pytest.raises(PoolError):
        StepTask(steps=0, unit_steps=4, work_uwu=1)
