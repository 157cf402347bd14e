"""Energy and its cost as owners' vehicles tell them: what is taken, and how it adds up. Pure.

These are the owner's own figures, made by the owner's meter and tariff. They are shown back to the owner and
never used for pay; so the only question here is whether a figure can be true at all. One that cannot is left
out, with a reason, and the result that it came with counts all the same.
"""

from collections.abc import Iterable
from enum import StrEnum, unique
from typing import NamedTuple

from pool_protocol.limits import COMPUTE_WATTS_MAX, SECOND_US, TARIFF_MICROS_PER_KWH_MAX
from pool_protocol.money import ceil_div

MILLIJOULES_PER_KWH = 3_600_000_000
_MILLIJOULES_PER_JOULE = 1_000


@unique
class EnergySource(StrEnum):
    """How the energy of an attempt was found."""

    RAPL = "rapl"
    """Measured by the processor's counters."""
    NVML = "nvml"
    """Measured by the graphics card's counter."""
    RAPL_NVML = "rapl+nvml"
    """Measured by both."""
    DECLARED = "declared"
    """The watts that the owner declared, times the time."""

    @property
    def measured(self) -> bool:
        """Whether a meter found it."""
        return self is not EnergySource.DECLARED


#: The label of a sum over more than one source.
MIXED = "mixed"


@unique
class EnergyRefusal(StrEnum):
    """Why a figure is not taken. Codes are told to the vehicle and never renamed."""

    ENERGY_OUT_OF_BOUNDS = "ENERGY_OUT_OF_BOUNDS"
    ENERGY_NOT_LABELLED = "ENERGY_NOT_LABELLED"
    ELECTRICITY_OUT_OF_BOUNDS = "ELECTRICITY_OUT_OF_BOUNDS"


class EnergyFigures(NamedTuple):
    """What a vehicle told of one attempt, as it is kept."""

    energy_mj: int
    source: EnergySource
    electricity_micros: int | None
    """By the owner's tariff; None when it was not told. Negative where the tariff was."""


class EnergySums(NamedTuple):
    """Energy and its cost over several attempts."""

    energy_mj: int = 0
    measured_mj: int = 0
    """The part of it that a meter found."""
    electricity_micros: int = 0
    attempts: int = 0
    """Attempts whose energy was told."""
    unpriced_attempts: int = 0
    """Of those, attempts whose cost was not told."""
    source: str = ""
    """The one source of all, or "mixed"; empty without attempts."""

    @property
    def priced(self) -> bool:
        """Whether any cost was told: otherwise `electricity_micros` says nothing."""
        return self.attempts > self.unpriced_attempts

    def after(self, net_micros: int) -> int | None:
        """Return an amount minus the electricity; None when no cost was told."""
        return net_micros - self.electricity_micros if self.priced else None


NO_ENERGY = EnergySums()


def judge_energy(
    *, energy_mj: int, source: EnergySource | None, electricity_micros: int | None, elapsed_us: int
) -> tuple[EnergyFigures | None, EnergyRefusal | None]:
    """Return what is kept of a vehicle's figures, and why not all of them, if so.

    Args:
        energy_mj: Millijoules, as told; 0 is also said by a vehicle that knows nothing.
        source: How they were found; None when that was not told.
        electricity_micros: What they cost, as told.
        elapsed_us: Since the attempt was leased: nothing was used for it before.
    """
    if source is None:
        told = energy_mj != 0 or electricity_micros is not None
        return None, EnergyRefusal.ENERGY_NOT_LABELLED if told else None
    # A second more: a clock may have been set, and a lease is younger than the start of its first attempt.
    most_mj = COMPUTE_WATTS_MAX * _MILLIJOULES_PER_JOULE * (max(0, elapsed_us) + SECOND_US) // SECOND_US
    if not 0 <= energy_mj <= most_mj:
        return None, EnergyRefusal.ENERGY_OUT_OF_BOUNDS
    if electricity_micros is not None and abs(electricity_micros) > _cost_max_micros(energy_mj):
        return EnergyFigures(energy_mj, source, None), EnergyRefusal.ELECTRICITY_OUT_OF_BOUNDS
    return EnergyFigures(energy_mj, source, electricity_micros), None


def _cost_max_micros(energy_mj: int) -> int:
    # One more each for what a vehicle carries from one attempt to the next, so that its sums are exact.
    return ceil_div((energy_mj + 1) * TARIFF_MICROS_PER_KWH_MAX, MILLIJOULES_PER_KWH) + 1


def sum_of(figures: EnergyFigures) -> EnergySums:
    """Return one attempt's figures as a sum."""
    return EnergySums(
        energy_mj=figures.energy_mj,
        measured_mj=figures.energy_mj if figures.source.measured else 0,
        electricity_micros=figures.electricity_micros or 0,
        attempts=1,
        unpriced_attempts=int(figures.electricity_micros is None),
        source=figures.source.value,
    )


def add_up(sums: Iterable[EnergySums]) -> EnergySums:
    """Add sums; the source is the one that all of them have, or mixed."""
    kept = [part for part in sums if part.attempts]
    sources = {part.source for part in kept}
    return EnergySums(
        energy_mj=sum(part.energy_mj for part in kept),
        measured_mj=sum(part.measured_mj for part in kept),
        electricity_micros=sum(part.electricity_micros for part in kept),
        attempts=sum(part.attempts for part in kept),
        unpriced_attempts=sum(part.unpriced_attempts for part in kept),
        source=sources.pop() if len(sources) == 1 else MIXED if sources else "",
    )
