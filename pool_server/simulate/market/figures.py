"""What a simulated month says, in figures: prices, surplus, owners' net, buyers' waiting."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from pool_server.simulate.market.fleet import COMPUTERS, HOUR_S
from pool_server.simulate.market.month import JobRun, Month, World
from pool_server.simulate.market.tariffs import DAYS, QUARTERS_PER_DAY

MINUTES_PER_QUARTER = 15


class DayPrice(NamedTuple):
    """The posted prices of one day, micros per WU."""

    day: int
    weekday: str
    min: int
    median: int
    max: int


class Spread(NamedTuple):
    """Three quantiles; 0 where there is nothing."""

    p10: int
    p50: int
    p90: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnersFigures:
    """Owners of one kind of computer, or all. Money in micro-units."""

    computer: str
    vehicles: int
    charging_h_p50: int
    """Hours of charging in the month."""
    net_per_charging_hour: Spread
    """Pay less fee less electricity, over all hours of charging, idle ones included."""
    net_in_all: Spread
    losing: int
    """Owners whose electricity cost more than they were paid."""
    computing_share: float
    """Of the charging time that they could compute, the share in which they did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One month under one limiter."""

    step_ppm: int | None
    price_p50: int
    """Of the posted price, micros per WU."""
    step_p50: float
    step_p95: float
    """Change of the posted price from one quarter hour to the next, as a share of it."""
    gain_micros: int
    gain_kept: float
    """As a share of the gain without a limiter; 1 there."""
    work_uwu: int
    queued_share: float
    """Of the work whose job bids the posted price or more, summed over quarter hours, what had to wait."""
    idle_share: float
    """Of the vehicles' time at the posted price or less, what found no work."""
    wait_minutes_p50: int
    wait_minutes_p95: int
    """From handing a job in to its first work; jobs that got none count until they ended."""
    done_minutes_p50: int
    done_minutes_p95: int
    """From handing a job in to its last work, of those that were finished."""
    jobs: int
    jobs_finished: int
    deadlines: int
    """Jobs whose deadline lay in the month."""
    deadlines_met_share: float
    missed_outbid_share: float
    """Of the jobs that missed theirs, those whose cap was below the posted price for most of their time."""
    net_per_charging_hour: Spread


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed (nearest rank); 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else 0


def day_prices(month: Month) -> list[DayPrice]:
    """Return the posted prices by day."""
    posted = [quarter.posted_micros_per_wu for quarter in month.quarters]
    days = [posted[start : start + QUARTERS_PER_DAY] for start in range(0, len(posted), QUARTERS_PER_DAY)]
    return [
        DayPrice(number + 1, DAYS[number % 7], min(prices), int(percentile(prices, 0.5)), max(prices))
        for number, prices in enumerate(days)
    ]


def figures(world: World, month: Month, *, unlimited: Month) -> Figures:
    """Return a month's figures; `unlimited` is the same world without a limiter."""
    posted = [world.settings.start_micros_per_wu, *(q.posted_micros_per_wu for q in month.quarters)]
    steps = [abs(after - before) / max(1, before) for before, after in pairwise(posted)]
    horizon = len(month.quarters)
    waits = [_waited(run, horizon) * MINUTES_PER_QUARTER for run in month.jobs]
    done = [
        (run.done + 1 - run.job.arrives) * MINUTES_PER_QUARTER for run in month.jobs if run.done is not None
    ]
    due = [run for run in month.jobs if run.job.path is not None and run.job.ends <= horizon]
    missed = [run for run in due if run.done is None]
    return Figures(
        step_ppm=month.step_ppm,
        price_p50=int(percentile(posted[1:], 0.5)),
        step_p50=percentile(steps, 0.5),
        step_p95=percentile(steps, 0.95),
        gain_micros=month.gain_micros,
        gain_kept=_share(month.gain_micros, unlimited.gain_micros),
        work_uwu=sum(quarter.traded_uwu for quarter in month.quarters),
        queued_share=_left_over(month, "willing_bid_uwu"),
        idle_share=_left_over(month, "willing_ask_uwu"),
        wait_minutes_p50=int(percentile(waits, 0.5)),
        wait_minutes_p95=int(percentile(waits, 0.95)),
        done_minutes_p50=int(percentile(done, 0.5)),
        done_minutes_p95=int(percentile(done, 0.95)),
        jobs=len(month.jobs),
        jobs_finished=len(done),
        deadlines=len(due),
        deadlines_met_share=_share(len(due) - len(missed), len(due)),
        missed_outbid_share=_share(sum(_outbid(run, month) for run in missed), len(missed)),
        net_per_charging_hour=_spread(net_per_charging_hour(month)),
    )


def owners_figures(world: World, month: Month) -> list[OwnersFigures]:
    """Return what owners have of it: all, then by computer."""
    everybody = list(range(len(world.fleet)))
    rows = [_owners(world, month, "all", everybody)]
    for computer in COMPUTERS:
        places = [place for place in everybody if world.fleet[place].computer is computer]
        if places:
            rows.append(_owners(world, month, computer.name, places))
    return rows


def net_per_charging_hour(month: Month, places: Iterable[int] | None = None) -> list[int]:
    """Return each vehicle's net per hour of charging, micro-units; of those that charged at all."""
    chosen = range(len(month.owners)) if places is None else places
    owners = [month.owners[place] for place in chosen]
    return [owner.net_micros * HOUR_S // owner.charging_s for owner in owners if owner.charging_s]


def _owners(world: World, month: Month, computer: str, places: Sequence[int]) -> OwnersFigures:
    owners = [month.owners[place] for place in places]
    could = sum(month.owners[place].charging_s * world.fleet[place].speed_uwu_per_s for place in places)
    return OwnersFigures(
        computer=computer,
        vehicles=len(places),
        charging_h_p50=int(percentile((owner.charging_s for owner in owners), 0.5)) // HOUR_S,
        net_per_charging_hour=_spread(net_per_charging_hour(month, places)),
        net_in_all=_spread(owner.net_micros for owner in owners),
        losing=sum(owner.net_micros < 0 for owner in owners),
        computing_share=_share(sum(owner.work_uwu for owner in owners), could),
    )


def _waited(run: JobRun, horizon: int) -> int:
    until = run.began if run.began is not None else min(run.job.ends, horizon)
    return until - run.job.arrives


def _outbid(run: JobRun, month: Month) -> bool:
    prices = [quarter.posted_micros_per_wu for quarter in month.quarters[run.job.arrives : run.job.ends]]
    return sum(price > run.job.cap_micros_per_wu for price in prices) * 2 > len(prices)


def _left_over(month: Month, side: str) -> float:
    willing = sum(getattr(quarter, side) for quarter in month.quarters)
    return _share(willing - sum(quarter.traded_uwu for quarter in month.quarters), willing)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _spread(values: Iterable[int]) -> Spread:
    ordered = sorted(values)
    return Spread(*(int(percentile(ordered, share)) for share in (0.1, 0.5, 0.9)))
