"""Energy of attempts: what a counter's two readings mean, what of it the work took, and what it cost.

Everything here is integers and pure. Between attempts what was cut off is carried on, so that the sums over
attempts are exact. Where readings come from is `car_agent.energy`'s matter.
"""

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

PICOJOULES_PER_MILLIJOULE: Final = 10**9
PICOJOULES_PER_MICROJOULE: Final = 10**6
PICOJOULES_PER_KWH: Final = 3_600_000 * 10**12
#: No processor and no card draws this: a counter that says so was set back.
COUNTER_WATTS_MAX: Final = 2_000
#: A longer silence (the machine slept) may hide that a counter went round more than once.
SILENCE_NS_MAX: Final = 30 * 10**9
PPM: Final = 1_000_000


@unique
class EnergySource(StrEnum):
    """How an energy was found. The owner always sees which."""

    RAPL = "rapl"
    """Measured: the processor's counters."""
    NVML = "nvml"
    """Measured: the graphics card's counter."""
    RAPL_NVML = "rapl+nvml"
    """Measured: both."""
    DECLARED = "declared"
    """The watts that the owner declared, times the time."""


@dataclass(frozen=True, slots=True)
class AttemptEnergy:
    """What one attempt took."""

    energy_mj: int
    """Millijoules at the wall."""
    source: EnergySource
    electricity_micros: int | None
    """By the owner's tariff; None when a price was not known all the time."""


def counter_step_uj(before_uj: int, after_uj: int, *, range_uj: int, elapsed_ns: int) -> int | None:
    """Return the microjoules between two readings of a counter that goes round; None when nobody can know.

    A counter that stands lower than before went round once, unless that would be more than any machine draws
    in the time: then it was set back (a suspend, a driver loaded anew), and the interval is lost.
    """
    if not 0 <= elapsed_ns <= SILENCE_NS_MAX:
        return None
    step_uj = after_uj - before_uj
    if step_uj < 0:
        if range_uj <= before_uj:
            return None
        step_uj = range_uj - before_uj + after_uj
    # A millisecond more: counters are refreshed about that often, and two readings may be closer than that.
    if step_uj * 1_000 > COUNTER_WATTS_MAX * (elapsed_ns + 1_000_000):
        return None
    return step_uj


@dataclass(slots=True)
class Lap:
    """What has flowed for an attempt since the one before, in picojoules and their cost.

    Negative energy is possible for a moment (an idle machine draws less than its average) and is carried on.
    """

    energy_pj: int = 0
    cost: int = 0
    """Picojoules times micro-units per kWh."""
    estimated: bool = False
    """Whether any of it was declared and not measured."""
    unpriced: bool = False
    """Whether any of it had no price."""

    def add(self, energy_pj: int, *, price_micros_per_kwh: int | None, measured: bool) -> None:
        """Add what flowed in an interval."""
        self.energy_pj += energy_pj
        self.estimated |= not measured
        if price_micros_per_kwh is None:
            self.unpriced = True
        else:
            self.cost += energy_pj * price_micros_per_kwh

    def close(self, measured_as: EnergySource | None) -> AttemptEnergy:
        """Return what an attempt took, and begin the next with what was cut off.

        Args:
            measured_as: The counters that measured what was measured; None without any.
        """
        energy_mj = max(0, self.energy_pj // PICOJOULES_PER_MILLIJOULE)
        electricity_micros = None if self.unpriced else self.cost // PICOJOULES_PER_KWH
        source = EnergySource.DECLARED if measured_as is None or self.estimated else measured_as
        self.energy_pj -= energy_mj * PICOJOULES_PER_MILLIJOULE
        self.cost = 0 if electricity_micros is None else self.cost - electricity_micros * PICOJOULES_PER_KWH
        self.estimated = self.unpriced = False
        return AttemptEnergy(energy_mj, source, electricity_micros)


#: A stretch of idling is long enough to tell the machine's own draw from it.
_IDLE_STRETCH_NS: Final = 20 * 10**9
#: How much a new stretch moves the baseline: a few minutes of idling settle it.
_IDLE_WEIGHT_PPM: Final = 250_000


@dataclass(slots=True)
class IdleBaseline:
    """What the machine draws without computing, from stretches in which no worker lived."""

    milliwatts: int | None = None
    """None before the first whole stretch."""
    stretch_uj: int = 0
    stretch_ns: int = 0

    def idled(self, energy_uj: int, elapsed_ns: int) -> None:
        """Take an interval without a worker."""
        self.stretch_uj += energy_uj
        self.stretch_ns += elapsed_ns
        if self.stretch_ns < _IDLE_STRETCH_NS:
            return
        found = self.stretch_uj * 10**6 // self.stretch_ns  # uJ per ns is kW: times 10**6 it is mW
        before = found if self.milliwatts is None else self.milliwatts
        self.milliwatts = before + (found - before) * _IDLE_WEIGHT_PPM // PPM
        self.break_off()

    def break_off(self) -> None:
        """Forget a stretch that is not whole: a worker starts, or the counters made no sense."""
        self.stretch_uj = self.stretch_ns = 0


#: What has been computed this long ago counts half: programs change, and so does the weather.
_HALF_LIFE_US: Final = 3_600 * 10**6
#: An older estimate says nothing about today's programs: the car then tries work again.
ESTIMATE_US_MAX: Final = 24 * 3_600 * 10**6
#: Computing of less than this tells of starting workers and compiling, not of work.
KNOWN_BUSY_US_MIN: Final = 60 * 10**6
#: An estimate lasts so many times as long as was computed for it: a few minutes of bad work (tasks so small
#: that handling them is all there is) keep a car from trying other work for an hour or two, not for a day.
_LASTS_TIMES_BUSY: Final = 24
#: Before anything was measured: a small computer at its best, so that a car tries work and then knows.
DEFAULT_JOULES_PER_WU: Final = 100.0
_UWU_PER_WU: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """What work takes on this car: sums in which older work counts less."""

    energy_mj: float = 0.0
    work_uwu: float = 0.0
    busy_us: float = 0.0
    measured_at_us: int = 0
    """When it was last added to, wall time; 0 for never."""

    def after(self, *, energy_mj: int, work_uwu: int, busy_us: int, now_us: int) -> "Efficiency":
        """Return the sums after an attempt; one that brought no work took energy and time all the same."""
        kept = 0.5 ** (busy_us / _HALF_LIFE_US)
        return Efficiency(
            energy_mj=self.energy_mj * kept + energy_mj,
            work_uwu=self.work_uwu * kept + work_uwu,
            busy_us=self.busy_us * kept + busy_us,
            measured_at_us=now_us,
        )

    def is_known(self, now_us: int) -> bool:
        """Whether it says something about this moment."""
        lasts_us = min(ESTIMATE_US_MAX, _LASTS_TIMES_BUSY * self.busy_us)
        return (
            self.work_uwu > 0
            and self.busy_us >= KNOWN_BUSY_US_MIN
            and now_us - self.measured_at_us < lasts_us
        )

    def joules_per_wu(self, now_us: int) -> float:
        """Return what a work unit takes, joules; the default while it is not known."""
        if not self.is_known(now_us):
            return DEFAULT_JOULES_PER_WU
        return self.energy_mj / 1_000 / (self.work_uwu / _UWU_PER_WU)

    def wu_per_hour(self, now_us: int, *, watts: float) -> float:
        """Return how much is computed in an hour; from the default and the declared watts while not known."""
        if not self.is_known(now_us):
            return watts * 3_600 / DEFAULT_JOULES_PER_WU
        return self.work_uwu / _UWU_PER_WU / (self.busy_us / 3_600e6)
