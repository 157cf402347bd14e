"""What a worker tells of its units on the way, and what of that is claimed when it is stopped."""

from __future__ import annotations

import pytest

from car_agent.runner.frames import Frame, FrameType
from car_agent.runner.judge import stopped_outcome, walked_units
from car_agent.runner.work import AttemptWork, Outcome
from pool_protocol.errors import ErrorCode, PoolError

DIGESTS = [bytes([number]) * 32 for number in range(4)]


def work(steps: int = 40, unit_steps: int = 10) -> AttemptWork:
    return AttemptWork(lease_id="lease_1", attempt_id=7, inputs=b"", steps=steps, unit_steps=unit_steps)


def progress(units_done: int, digests: list[str]) -> Frame:
    return Frame(
        FrameType.PROGRESS,
        {"attempt_id": 7, "units_done": units_done, "units_total": 4, "unit_digests_hex": digests},
    )


def test_units_are_told_once_each() -> None:
    told = walked_units(progress(3, [item.hex() for item in DIGESTS[1:3]]), work=work(), before=1)
    assert told == DIGESTS[1:3]


@pytest.mark.parametrize(
    ("units_done", "digests", "before"),
    [
        (3, [DIGESTS[0].hex()], 1),
        (2, [item.hex() for item in DIGESTS[:3]], 0),
        (1, [], 2),
        (5, [DIGESTS[0].hex()], 4),
        (1, ["no digest"], 0),
        (1, ["ab"], 0),
    ],
    ids=["too few", "too many", "fewer than before", "more than there are", "not hexadecimal", "too short"],
)
def test_a_worker_that_tells_of_other_units_is_not_believed(
    units_done: int, digests: list[str], before: int
) -> None:
    with pytest.raises(PoolError) as refused:
        walked_units(progress(units_done, digests), work=work(), before=before)
    assert refused.value.code is ErrorCode.WORKER_LOST


@pytest.mark.parametrize(("walked", "claimed"), [(1, 1), (3, 3), (4, 3)])
def test_whole_units_are_claimed_but_never_the_whole_task(walked: int, claimed: int) -> None:
    outcome = stopped_outcome(work(), DIGESTS[:walked], run_time_us=5)
    assert (outcome.outcome, outcome.attempt_id, outcome.run_time_us) == (Outcome.ABANDONED, 7, 5)
    assert outcome.unit_digests == tuple(DIGESTS[:claimed])
    assert outcome.unit_count == claimed


@pytest.mark.parametrize("of", [work(), work(10, 10), work(0, 0)], ids=["no unit", "one unit", "a map task"])
def test_without_a_unit_nothing_is_claimed(of: AttemptWork) -> None:
    walked = DIGESTS[:1] if of.steps == 10 else []
    outcome = stopped_outcome(of, walked, run_time_us=5)
    assert (outcome.unit_count, outcome.unit_digests, outcome.run_time_us) == (0, (), 5)
