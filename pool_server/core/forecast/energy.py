"""What a job will probably burn: work times joules per work unit, and grams of CO2 per kilowatt-hour."""

import math
from typing import NamedTuple

from pool_protocol.money import UWU_PER_WU

JOULES_PER_KWH = 3_600_000


class EnergyEstimate(NamedTuple):
    """Energy and its CO2, rounded up."""

    energy_mwh: int
    """Milliwatt-hours."""
    co2_mg: int
    """Milligrams."""


def energy_estimate(*, work_uwu: float, joules_per_wu: float, co2_g_per_kwh: float) -> EnergyEstimate:
    """Return what work burns.

    Args:
        work_uwu: All executions together, audits included, micro-WU.
        joules_per_wu: Of the fleet, as its agents report it, or assumed.
        co2_g_per_kwh: Of the grid where the cars charge.
    """
    joules = work_uwu / UWU_PER_WU * joules_per_wu
    kwh = joules / JOULES_PER_KWH
    return EnergyEstimate(energy_mwh=math.ceil(kwh * 1e6), co2_mg=math.ceil(kwh * co2_g_per_kwh * 1e3))
