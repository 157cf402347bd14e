"""What computing took and cost, by day, and what is known of the car's efficiency: a part of the journal.

Days are UTC, as everywhere in the journal. The functions run inside the journal's own transactions.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from car_agent.core.energy import AttemptEnergy, Efficiency
from pool_protocol import limits

ENERGY_SCHEMA: Final = """
CREATE TABLE energy_days (
    day INTEGER PRIMARY KEY, energy_mj INTEGER NOT NULL, electricity_micros INTEGER NOT NULL,
    unpriced_mj INTEGER NOT NULL
) STRICT;
"""
EFFICIENCY_META: Final = "efficiency"
IDLE_META: Final = "idle_milliwatts"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyUsed:
    """Energy and its cost."""

    energy_mj: int = 0
    electricity_micros: int = 0
    unpriced_mj: int = 0
    """The part of the energy whose price was not known: it is not in the cost."""


def used(energies: Iterable[AttemptEnergy]) -> EnergyUsed:
    """Add up what attempts took."""
    energy_mj = electricity_micros = unpriced_mj = 0
    for energy in energies:
        energy_mj += energy.energy_mj
        if energy.electricity_micros is None:
            unpriced_mj += energy.energy_mj
        else:
            electricity_micros += energy.electricity_micros
    return EnergyUsed(energy_mj=energy_mj, electricity_micros=electricity_micros, unpriced_mj=unpriced_mj)


def add(connection: sqlite3.Connection, used: EnergyUsed, *, now_us: int) -> None:
    """Add to the day's sums."""
    if used == EnergyUsed():
        return
    connection.execute(
        "INSERT INTO energy_days (day, energy_mj, electricity_micros, unpriced_mj) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (day) DO UPDATE SET energy_mj = energy_mj + excluded.energy_mj,"
        " electricity_micros = electricity_micros + excluded.electricity_micros,"
        " unpriced_mj = unpriced_mj + excluded.unpriced_mj",
        (now_us // limits.DAY_US, used.energy_mj, used.electricity_micros, used.unpriced_mj),
    )


def of_day(connection: sqlite3.Connection, *, now_us: int) -> EnergyUsed:
    """Return the sums of this day."""
    row = connection.execute(
        "SELECT energy_mj, electricity_micros, unpriced_mj FROM energy_days WHERE day = ?",
        (now_us // limits.DAY_US,),
    ).fetchone()
    if row is None:
        return EnergyUsed()
    return EnergyUsed(energy_mj=row[0], electricity_micros=row[1], unpriced_mj=row[2])


def kept_efficiency(kept: Any) -> Efficiency:
    """Read what was kept of the efficiency; nothing is known when it makes no sense."""
    try:
        found = Efficiency(**kept)
        sound = min(found.energy_mj, found.work_uwu, found.busy_us, found.measured_at_us) >= 0
    except TypeError:
        return Efficiency()
    return found if sound else Efficiency()


def kept_idle_milliwatts(kept: Any) -> int | None:
    """Read what was kept of the idle baseline; None when it makes no sense."""
    return kept if type(kept) is int and 0 <= kept <= limits.COMPUTE_WATTS_MAX * 1_000 else None
