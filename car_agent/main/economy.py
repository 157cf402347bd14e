"""The owner's economy: what computing takes, what electricity costs, and which work is worth it.

Ties the meter, the tariff and what the pool pays together for the agent. Decisions are `core.earning`'s;
reading the tariff's files happens on a thread, every few seconds, so that asking for a price never waits for
a disk.
"""

import asyncio
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from car_agent.core.earning import Economics, OwnerTerms, PoolOffer
from car_agent.core.energy import AttemptEnergy, Efficiency
from car_agent.core.policy import Policy
from car_agent.core.reasons import Reason
from car_agent.core.status import EnergyFigures
from car_agent.core.tariff import TariffPrice
from car_agent.energy.find import FoundCounter, find_counter
from car_agent.energy.meter import Meter
from car_agent.energy.owner_tariff import OwnerTariff
from car_agent.journal.energy_days import (
    EFFICIENCY_META,
    IDLE_META,
    EnergyUsed,
    kept_efficiency,
    kept_idle_milliwatts,
    used,
)
from car_agent.journal.settings import AgentSettings
from car_agent.journal.state_directory import StateDirectory
from car_agent.journal.thread import JournalThread
from car_agent.main.books import Books
from car_agent.runner.work import AttemptOutcome, Outcome
from car_agent.session.wire import PoolFigures
from pool_protocol.clock import Clock

_LOOK_EVERY_S: Final = 3.0
#: Estimates are worth a write now and then, not one per attempt.
_KEEP_EVERY_NS: Final = 60 * 10**9
#: Outcomes of attempts that never reached the worker.
_NEVER_RAN: Final = frozenset({Outcome.ABANDONED, Outcome.REFUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEstimates:
    """What the journal kept of an earlier run."""

    efficiency: Efficiency = field(default_factory=Efficiency)
    idle_milliwatts: int | None = None


class _TariffInPoolMoney:
    """The owner's tariff, where it is in the pool's money: anything else would be compared wrongly."""

    def __init__(self, tariff: OwnerTariff) -> None:
        self._tariff = tariff
        self.pool_currency = ""

    @property
    def currency(self) -> str:
        return self._tariff.currency

    def price(self, now_us: int) -> TariffPrice:
        owner, pool = self._tariff.currency, self.pool_currency
        if owner and pool and owner != pool:
            return TariffPrice(None, f"The tariff is in {owner}, and the pool pays in {pool}.")
        return self._tariff.price(now_us)

    def describe(self) -> str:
        return self._tariff.describe()


class Economy:
    """One agent's economy. All calls come from the event loop."""

    def __init__(
        self,
        *,
        settings: AgentSettings,
        policy: Policy,
        counter: FoundCounter,
        tariff: OwnerTariff,
        books: Books,
        clock: Clock,
        kept: KeptEstimates | None = None,
    ) -> None:
        """Begin with what an earlier run had found."""
        kept = kept or KeptEstimates()
        self._settings = settings
        self._books = books
        self._clock = clock
        self._owner_tariff = tariff
        self._tariff = _TariffInPoolMoney(tariff)
        self._not_measured = counter.why_not
        self._meter = Meter(
            counter=counter.counter,
            declared_watts=settings.watts,
            wall_factor=settings.wall_factor,
            count_idle=settings.count_idle,
            tariff=self._tariff,
            clock=clock,
            idle_milliwatts=kept.idle_milliwatts,
        )
        self._terms = OwnerTerms()
        self._offer = PoolOffer(price_micros_per_wu=None)
        self._efficiency = kept.efficiency
        self._lap_busy_us = 0
        self._kept_ns = clock.monotonic_ns()
        self.set_policy(policy)

    # --- what happens --------------------------------------------------------------------------

    def worker_starts(self) -> None:
        """A worker is started."""
        self._meter.starts()

    def worker_resumes(self) -> None:
        """There is work again for the worker, if one lives."""
        self._meter.resumes()

    def worker_rests(self) -> None:
        """The worker has nothing to do: what it took since its last attempt is nobody's."""
        self._meter.rests()
        self._for_nobody()

    def worker_gone(self) -> None:
        """No worker is left."""
        self._meter.is_idle()
        self._for_nobody()

    def tick(self) -> None:
        """Time has passed."""
        self._meter.tick()

    def measured(self, outcome: AttemptOutcome) -> AttemptOutcome:
        """Return an outcome with what it took; one that never ran took nothing."""
        return outcome if outcome.outcome in _NEVER_RAN else self._lapped(outcome)

    def stopped(self, outcome: AttemptOutcome | None) -> AttemptOutcome | None:
        """Return the outcome of the attempt that a kill has stopped, if one ran, with what it took."""
        if outcome is None:
            return None
        measured = self._lapped(outcome)
        self.learn(measured)
        return measured

    def _lapped(self, outcome: AttemptOutcome) -> AttemptOutcome:
        energy, self._lap_busy_us = self._meter.lap()
        return replace(outcome, energy=energy)

    def learn(self, outcome: AttemptOutcome) -> None:
        """Learn from an attempt that was just measured."""
        if outcome.energy is not None:
            self._fold(outcome.energy, work_uwu=outcome.work_uwu)

    def spent(self, energy: AttemptEnergy | None) -> None:
        """Take note of energy that no attempt is reported with."""
        if energy is not None:
            self._fold(energy, work_uwu=0)
            self._books.add_energy(used([energy]), now_us=self._clock.now_us())

    def _for_nobody(self) -> None:
        energy, self._lap_busy_us = self._meter.lap()
        if energy.energy_mj:
            self.spent(energy)

    def _fold(self, energy: AttemptEnergy, *, work_uwu: int) -> None:
        self._efficiency = self._efficiency.after(
            energy_mj=energy.energy_mj,
            work_uwu=work_uwu,
            busy_us=self._lap_busy_us,
            now_us=self._clock.now_us(),
        )
        if self._clock.monotonic_ns() - self._kept_ns >= _KEEP_EVERY_NS:
            self.keep()

    def keep(self) -> None:
        """Put the estimates into the journal."""
        self._kept_ns = self._clock.monotonic_ns()
        if self._efficiency.measured_at_us:
            self._books.keep(EFFICIENCY_META, asdict(self._efficiency))
        if self._meter.idle_milliwatts is not None:
            self._books.keep(IDLE_META, self._meter.idle_milliwatts)

    def set_policy(self, policy: Policy) -> None:
        """Take over the owner's limits."""
        self._terms = OwnerTerms(
            reserve_price_micros_per_wu=self._settings.reserve_price_micros_per_wu,
            electricity_margin=policy.electricity_margin,
            min_net_per_hour=policy.min_net_per_hour,
        )

    def heard(self, figures: PoolFigures) -> None:
        """Take over what the pool pays."""
        self._tariff.pool_currency = figures.currency
        self._offer = PoolOffer(
            price_micros_per_wu=figures.posted_price_micros_per_wu,
            fee_ppm=figures.fee_ppm,
            currency=figures.currency,
        )

    async def run(self) -> None:
        """Look at the tariff again and again."""
        while True:
            await asyncio.to_thread(self._owner_tariff.refresh)
            await asyncio.sleep(_LOOK_EVERY_S)

    # --- decisions -----------------------------------------------------------------------------

    @property
    def now(self) -> Economics:
        """How it stands at this moment."""
        now_us = self._clock.now_us()
        return Economics(
            terms=self._terms,
            offer=self._offer,
            tariff=self._tariff.price(now_us),
            has_tariff=self._owner_tariff.is_set,
            joules_per_wu=self._efficiency.joules_per_wu(now_us),
            wu_per_hour=self._efficiency.wu_per_hour(now_us, watts=self._settings.watts),
        )

    def refusal(self) -> Reason | None:
        """Return why no work is wanted for its price; None when it is."""
        return self.now.refusal()

    def figures(self) -> EnergyFigures:
        """Return everything that people see."""
        now, now_us, today = self.now, self._clock.now_us(), self._books.energy_today
        known = self._efficiency.is_known(now_us)
        # A guess is good enough to try work, and not to promise money.
        refusal, net = now.refusal(), now.net_micros_per_hour if known else None
        priced = today != EnergyUsed() and today.unpriced_mj < today.energy_mj
        idle_mw = self._meter.idle_milliwatts
        return EnergyFigures(
            source=self._meter.source.value,
            not_measured=self._not_measured,
            watts=self._meter.watts,
            idle_watts=-1.0 if idle_mw is None else idle_mw / 1_000,
            today_mj=today.energy_mj,
            electricity_today_micros=today.electricity_micros if priced else None,
            unpriced_today_mj=today.unpriced_mj,
            joules_per_wu=now.joules_per_wu,
            wu_per_hour=now.wu_per_hour,
            estimated=not known,
            tariff=self._tariff.describe() if self._owner_tariff.is_set else "",
            tariff_currency=self._tariff.currency,
            tariff_micros_per_kwh=now.tariff.micros_per_kwh,
            net_micros_per_hour=None if net is None else round(net),
            reserve_price_micros_per_wu=now.reserve_price_micros_per_wu,
            refusal="" if refusal is None else refusal.code.value,
        )


async def open_economy(
    settings: AgentSettings,
    directory: StateDirectory,
    policy: Policy,
    *,
    books: Books,
    journal: JournalThread,
    clock: Clock,
) -> Economy:
    """Find the machine's counters, read the tariff, and take up what the journal kept."""
    counter = await asyncio.to_thread(
        find_counter,
        source=settings.energy_source,
        platforms=settings.platforms,
        rapl_root=Path(settings.rapl_root),
    )
    tariff = OwnerTariff(directory.tariff, clock)
    await asyncio.to_thread(tariff.refresh)
    kept = await journal.do(lambda opened: (opened.meta(EFFICIENCY_META), opened.meta(IDLE_META)))
    estimates = KeptEstimates(
        efficiency=kept_efficiency(kept[0]), idle_milliwatts=kept_idle_milliwatts(kept[1])
    )
    return Economy(
        settings=settings,
        policy=policy,
        counter=counter,
        tariff=tariff,
        books=books,
        clock=clock,
        kept=estimates,
    )
