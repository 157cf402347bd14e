"""The worth of an unfinished step task: by its steps, rounded down, never more than the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.verification.prefix import StepTask

TASKS = st.builds(
    StepTask,
    steps=st.integers(1, 10_000),
    unit_steps=st.integers(1, 300),
    work_uwu=st.integers(0, 10**14),
)


@pytest.mark.parametrize(
    ("units", "steps", "uwu", "micros"),
    [(0, 0, 0, 0), (1, 4, 400, 40), (2, 8, 800, 80), (3, 10, 1_000, 101)],
    ids=["nothing", "one unit", "two units", "the whole, whose last unit is shorter"],
)
def test_a_prefix_is_worth_its_steps(units: int, steps: int, uwu: int, micros: int) -> None:
    task = StepTask(steps=10, unit_steps=4, work_uwu=1_000)
    assert task.units == 3
    assert task.prefix_steps(units) == steps
    assert task.prefix_uwu(units) == uwu
    assert task.prefix_micros(units, amount_micros=101) == micros


@given(task=TASKS, amount=st.integers(0, 10**15))
def test_the_whole_is_worth_the_whole_and_more_units_are_never_worth_less(
    task: StepTask, amount: int
) -> None:
    worth = [task.prefix_uwu(units) for units in range(min(task.units, 40) + 1)]
    assert worth == sorted(worth)
    assert task.prefix_uwu(task.units) == task.work_uwu
    assert task.prefix_micros(task.units, amount_micros=amount) == amount
    assert task.prefix_micros(0, amount_micros=amount) == 0


@given(task=TASKS, amount=st.integers(0, 10**15), data=st.data())
def test_rounding_is_down_by_less_than_one(task: StepTask, amount: int, data: st.DataObject) -> None:
    units = data.draw(st.integers(0, task.units))
    steps = task.prefix_steps(units)
    paid = task.prefix_micros(units, amount_micros=amount)
    assert paid * task.steps <= amount * steps < (paid + 1) * task.steps


@pytest.mark.parametrize("units", [-1, 4])
def test_units_that_the_task_does_not_have_are_refused(units: int) -> None:
    with pytest.raises(PoolError) as refused:
        StepTask(steps=10, unit_steps=4, work_uwu=1).prefix_uwu(units)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_task_has_a_step() -> None:
    with pytest.raises(PoolError):
        StepTask(steps=0, unit_steps=4, work_uwu=1)
