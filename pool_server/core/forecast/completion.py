"""How long a job will probably take: from the cars that are there, and the work that waits beside it.

Cars are shared between buyers alike, so a job of W work units waits, of each other buyer, for at most as much
as its own: it ends after (W + sum of min(W, w_i)) / R, R what all cars do together (processor sharing). Of
the same buyer's other jobs all waits before it. Three figures:

* p10, one job in ten is faster: it has all cars for itself;
* p50: the formula above;
* p90, one in ten is slower: only the share `low_availability` of the cars stays.

A job of few tasks cannot use all cars, and none ends before its slowest task: the floor of each figure.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import SECOND_US
from pool_server.core.forecast.price import decile

#: Share of the cars that stays in the worst of ten cases, where there is no history to read it from.
LOW_AVAILABILITY_ASSUMED = 0.5
#: Days with work from which availability is read.
DAYS_MIN = 7
#: No estimate is longer: a year. Beyond, "longer than that" is all that can be said.
TIME_US_MAX = 365 * 86_400 * SECOND_US


class Completion(NamedTuple):
    """Deciles of a job's time from its first task to its last result, microseconds."""

    p10_us: int
    p50_us: int
    p90_us: int


class Demand(NamedTuple):
    """The job, and what waits beside it."""

    task_count: int
    work_uwu_per_task: int
    executions_per_task: float
    """Paid attempts and audits, expected: at least 1."""
    others_uwu: Mapping[str, int]
    """Work that waits, of each other buyer, attempts included."""
    own_uwu: int
    """Work that waits, of the same buyer's other jobs."""


def known_speeds(speeds_uwu_per_s: Iterable[int]) -> list[int]:
    """Put the median of the known speeds in place of unknown ones (0); empty when none is known. Rising."""
    speeds = list(speeds_uwu_per_s)
    known = sorted(speed for speed in speeds if speed > 0)
    if not known:
        return []
    median = round(decile(known, 0.5))
    return sorted(speed if speed > 0 else median for speed in speeds)


def completion(
    speeds_uwu_per_s: Iterable[int], demand: Demand, *, low_availability: float
) -> Completion | None:
    """Return how long a job will take; None while no car's speed is known.

    Args:
        speeds_uwu_per_s: Of each car that could compute now; 0 where unknown.
        demand: The job, and what waits beside it.
        low_availability: Share of the cars that stays in the worst of ten cases, above 0, at most 1.

    Raises:
        PoolError: INVALID_ARGUMENT for a share out of range.
    """
    if not 0 < low_availability <= 1:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"a share is above 0 and at most 1: {low_availability}")
    speeds = known_speeds(speeds_uwu_per_s)
    if not speeds:
        return None
    own = demand.task_count * demand.work_uwu_per_task * demand.executions_per_task
    before = demand.own_uwu + sum(min(own, other) for other in demand.others_uwu.values())
    used = min(len(speeds), math.ceil(demand.task_count * demand.executions_per_task))
    rate = sum(speeds)
    own_rate = rate * used / len(speeds)
    alone_s = own / own_rate
    shared_s = before / rate + alone_s
    one = demand.work_uwu_per_task
    figures = (
        max(alone_s, one / speeds[-1]),
        max(shared_s, one / decile(speeds, 0.5)),
        max(shared_s / low_availability, one / decile(speeds, 0.1)),
    )
    p10, p50, p90 = (min(TIME_US_MAX, math.ceil(seconds * SECOND_US)) for seconds in figures)
    return Completion(p10, max(p10, p50), max(p10, p50, p90))


def low_availability(work_uwu_by_day: Sequence[int]) -> float | None:
    """Return the share of a median day's work that nine days in ten reach; None with less than a week.

    What was computed stands in for the cars that were there: in a pool that lacks work it tells of buyers as
    much as of cars, and the estimate is then too careful.
    """
    days = sorted(float(work) for work in work_uwu_by_day if work > 0)
    if len(days) < DAYS_MIN:
        return None
    return min(1.0, decile(days, 0.1) / decile(days, 0.5))
