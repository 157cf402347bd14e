"""The buyers of a simulated month: what their work is worth to them, when it comes, and when it must be done.

Assumptions throughout. Work comes by day and less at weekends; half of the jobs have a deadline and bid on
the pool's stated path, the others bid their cap and wait. Nothing here depends on the price: work is worth
the same to its buyer whatever the market does.
"""

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from pool_server.core.pricing.bid_path import BidPath
from pool_server.core.pricing.epoch import EPOCH_US
from pool_server.simulate.market.tariffs import QUARTERS_PER_DAY

#: Jobs handed in by hour, relative.
_BY_HOUR = (1, 1, 1, 1, 1, 1, 2, 4, 8, 12, 13, 12, 9, 11, 13, 12, 11, 9, 6, 4, 3, 3, 2, 2)
_WEEKEND_SHARE = 0.3
_JOBS_PER_BUYER_AND_DAY = 3.0
_JOBS_PER_IMPATIENT_BUYER_AND_DAY = 50.0
_SHARE_WITH_DEADLINE = 0.5
_DEADLINES_H = (6, 12, 24, 48, 72)
#: A job without a deadline is withdrawn when it is not done by then.
PATIENCE_DAYS = 5
#: Middle of what a WU is worth to buyers, micros.
_VALUE_MICROS_PER_WU = 25
#: A deadline job's first bid, as a share of its cap.
_START_SHARE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a buyer hands in."""

    job_id: int
    order_id: str
    buyer_id: str
    arrives: int
    """The quarter hour of the month in which it is handed in."""
    work_uwu: int
    cap_micros_per_wu: int
    """What a WU is worth to the buyer; nobody bids more."""
    path: BidPath | None
    """For a job with a deadline."""
    ends: int
    """The first quarter hour in which its work is worth nothing, or in which the buyer withdraws it."""


class _Draft(NamedTuple):
    arrives: int
    buyer_id: str
    size: float
    value_micros_per_wu: float


def draw_jobs(
    chance: Random, *, buyers: int, days: int, total_work_uwu: int, patient: bool = True
) -> list[Job]:
    """Draw the month's jobs, in the order in which they come; together they hold about `total_work_uwu`.

    Without patience there are more and smaller ones, each gone after the quarter hour in which it comes.
    """
    per_day = _JOBS_PER_BUYER_AND_DAY if patient else _JOBS_PER_IMPATIENT_BUYER_AND_DAY
    drafts = [
        _Draft(quarter, buyer_id, chance.lognormvariate(0, 1.2), value)
        for buyer_id, value in _draw_buyers(chance, buyers)
        for quarter in _arrivals(chance, days, per_day)
    ]
    scale = total_work_uwu / max(1e-9, sum(draft.size for draft in drafts))
    return [
        _draw_job(chance, number, draft, scale, patient=patient)
        for number, draft in enumerate(sorted(drafts))
    ]


def _draw_buyers(chance: Random, buyers: int) -> list[tuple[str, float]]:
    return [
        (f"buyer_{number:04d}", _VALUE_MICROS_PER_WU * chance.lognormvariate(0, 0.35))
        for number in range(buyers)
    ]


def _arrivals(chance: Random, days: int, per_day: float) -> list[int]:
    quarters: list[int] = []
    for day in range(days):
        share = _WEEKEND_SHARE if day % 7 >= 5 else 1.0
        # Twice as many chances as jobs, so that days differ.
        count = sum(chance.random() < share / 2 for _ in range(round(2 * per_day)))
        hours = chance.choices(range(24), _BY_HOUR, k=count)
        quarters += [day * QUARTERS_PER_DAY + hour * 4 + chance.randrange(4) for hour in hours]
    return quarters


def _draw_job(chance: Random, number: int, draft: _Draft, scale: float, *, patient: bool) -> Job:
    quarter, buyer_id, size, value = draft
    urgent = patient and chance.random() < _SHARE_WITH_DEADLINE
    cap = max(2, round(value * chance.lognormvariate(0.15 if urgent else 0.0, 0.35)))
    path, ends = None, quarter + (PATIENCE_DAYS * QUARTERS_PER_DAY if patient else 1)
    if urgent:
        ends = quarter + chance.choice(_DEADLINES_H) * 4
        path = BidPath(
            start_micros_per_wu=max(1, int(cap * _START_SHARE)),
            cap_micros_per_wu=cap,
            deadline_us=ends * EPOCH_US,
        )
    return Job(
        job_id=number,
        order_id=f"job_{number:06d}",
        buyer_id=buyer_id,
        arrives=quarter,
        work_uwu=max(1, int(size * scale)),
        cap_micros_per_wu=cap,
        path=path,
        ends=ends,
    )
