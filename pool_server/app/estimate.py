"""What a quoted job will probably cost at the spot price, take and burn; and what each level costs.

A quote binds; an estimate does not. Each figure says what it was read from, so that nobody takes an
assumption for a measurement.
"""

from dataclasses import dataclass

from pool_protocol.limits import DAY_US
from pool_protocol.money import AMOUNT_MICROS_MAX, work_price_micros
from pool_server.app.outlook import VEHICLES_SAMPLED_MAX, Outlook
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.forecast.completion import (
    LOW_AVAILABILITY_ASSUMED,
    Completion,
    Demand,
    completion,
    low_availability,
)
from pool_server.core.forecast.energy import EnergyEstimate, energy_estimate
from pool_server.core.forecast.price import EPOCHS_MAX, PriceBand, price_band
from pool_server.core.pricing.epoch import EPOCH_US
from pool_server.core.verification import LEVELS, VerificationLevel
from pool_server.ports.shell import QuoteRecord
from pool_server.ports.unit_of_work import UnitOfWork

#: Newest receipts from which the fleet's joules per work unit are read.
ENERGY_RECEIPTS = 2_000
#: Days of work from which the cars' coming and going is read.
AVAILABILITY_DAYS = 30
#: Joules per WU that no computer in a car has: beyond, owners' figures are not believed.
JOULES_PER_WU_BOUNDS = (0.05, 5_000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelOffer:
    """What a level costs for the same job."""

    level: VerificationLevel
    attempts_per_task: int
    cost_micros_per_task: int
    epsilon: float
    """Error target; 0 for levels without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Figures that do not bind."""

    price: PriceBand
    total_p10_micros: int
    total_p50_micros: int
    total_p90_micros: int
    completion: Completion | None
    """None while no car's speed is known."""
    completion_basis: str
    """What the times were read from, in one sentence."""
    energy: EnergyEstimate
    energy_basis: str
    levels: tuple[LevelOffer, ...]


def estimate_quote(
    uow: UnitOfWork, quote: QuoteRecord, outlook: Outlook, *, policy: WorkPolicy, now_us: int
) -> Estimate:
    """Estimate a quoted job's price, time and energy.

    Args:
        uow: Read only.
        quote: The offer.
        outlook: What its level costs in audits now.
        policy: The operator's settings.
        now_us: The time.
    """
    executions = quote.attempts_per_task + outlook.audit_overhead_now
    times, basis = _completion(uow, quote, executions, now_us=now_us)
    band = price_band(
        uow.outlook.prices_since(now_us - EPOCHS_MAX * EPOCH_US),
        price_micros_per_wu=quote.price_micros_per_wu,
        horizon_us=times.p50_us if times is not None else 0,
        now_us=now_us,
    )
    totals = [_total(quote, price) for price in band[:3]]
    energy, energy_basis = _energy(uow, quote, executions, policy)
    return Estimate(
        price=band,
        total_p10_micros=totals[0],
        total_p50_micros=totals[1],
        total_p90_micros=totals[2],
        completion=times,
        completion_basis=basis,
        energy=energy,
        energy_basis=energy_basis,
        levels=tuple(_level_offers(quote, policy)),
    )


def _total(quote: QuoteRecord, price_micros_per_wu: int) -> int:
    per_task = work_price_micros(quote.work_uwu_per_task, price_micros_per_wu) * quote.attempts_per_task
    return min(AMOUNT_MICROS_MAX, per_task * quote.task_count)


def _completion(
    uow: UnitOfWork, quote: QuoteRecord, executions: float, *, now_us: int
) -> tuple[Completion | None, str]:
    speeds = uow.outlook.speeds(at_most=VEHICLES_SAMPLED_MAX)
    waiting = uow.outlook.waiting_work(price_micros_per_wu=quote.price_micros_per_wu)
    own_uwu = waiting.pop(quote.buyer_id, 0)
    measured = low_availability(uow.outlook.work_by_day(from_day=now_us // DAY_US - AVAILABILITY_DAYS))
    stays = LOW_AVAILABILITY_ASSUMED if measured is None else measured
    demand = Demand(
        task_count=quote.task_count,
        work_uwu_per_task=quote.work_uwu_per_task,
        executions_per_task=executions,
        others_uwu=waiting,
        own_uwu=own_uwu,
    )
    times = completion(speeds, demand, low_availability=stays)
    known = sum(1 for speed in speeds if speed > 0)
    if times is None:
        return None, (
            "No car is here now." if not speeds else f"None of the {len(speeds)} cars here has worked yet."
        )
    source = "assumed" if measured is None else "read from the past days"
    rivals = f"{len(waiting)} other buyers wait" if waiting else "no other buyer waits"
    return times, (
        f"From the speeds of {known} cars here now; {rivals}; in one case of ten {1 - stays:.0%} of the cars "
        f"leave ({source})."
    )


def _energy(
    uow: UnitOfWork, quote: QuoteRecord, executions: float, policy: WorkPolicy
) -> tuple[EnergyEstimate, str]:
    millijoules, uwu = uow.outlook.energy_per_work(attempts=ENERGY_RECEIPTS)
    joules_per_wu, basis = policy.joules_per_wu_assumed, "assumed"
    if uwu:
        reported = millijoules * 1_000 / uwu
        if JOULES_PER_WU_BOUNDS[0] <= reported <= JOULES_PER_WU_BOUNDS[1]:
            joules_per_wu, basis = reported, "as the cars reported it"
    estimate = energy_estimate(
        work_uwu=quote.work_uwu_per_task * quote.task_count * executions,
        joules_per_wu=joules_per_wu,
        co2_g_per_kwh=policy.grid_co2_g_per_kwh,
    )
    return estimate, (
        f"{joules_per_wu:.3g} J per WU ({basis}), {policy.grid_co2_g_per_kwh:.0f} g CO2 per kWh "
        "(the operator's figure)."
    )


def _level_offers(quote: QuoteRecord, policy: WorkPolicy) -> list[LevelOffer]:
    per_attempt = work_price_micros(quote.work_uwu_per_task, quote.price_micros_per_wu)
    return [
        LevelOffer(
            level=level,
            attempts_per_task=terms.quorum,
            cost_micros_per_task=min(AMOUNT_MICROS_MAX, per_attempt * terms.quorum),
            epsilon=terms.epsilon or 0.0,
        )
        for level, terms in LEVELS.items()
        if level is not VerificationLevel.NONE or policy.allow_level_none
    ]
