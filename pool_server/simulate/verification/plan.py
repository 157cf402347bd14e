"""What a vehicle does in one life: stretches of units, each with a weight and a share of wrong results.

A life begins with an empty history and ends when a check fails. A strategy may adapt to all that it sees, but
until it is caught it sees only that its results are accepted: within a life its behaviour is a plan.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Units in a row that are alike."""

    units: int
    """At least 1."""
    wrong_rate: float = 0.0
    """Probability that a unit is wrong, 0 to 1."""
    weight: float = 1.0
    """Work of a unit, above 0; 1 is the usual task."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A life's stretches as columns, each of shape (stretches,)."""

    units: Floats
    wrong_rate: Floats
    weight: Floats

    @classmethod
    def of(cls, *stretches: Stretch) -> "Plan":
        """Make a plan of a few stretches; the last should outlast any life."""
        return cls(
            np.array([stretch.units for stretch in stretches], dtype=np.float64),
            np.array([stretch.wrong_rate for stretch in stretches], dtype=np.float64),
            np.array([stretch.weight for stretch in stretches], dtype=np.float64),
        )

    @classmethod
    def cycle(cls, *stretches: Stretch, units: int) -> "Plan":
        """Repeat stretches until they hold at least `units` units."""
        once = cls.of(*stretches)
        times = -(-units // int(once.units.sum()))
        return cls(np.tile(once.units, times), np.tile(once.wrong_rate, times), np.tile(once.weight, times))

    def first(self, units: int) -> "Plan":
        """Return the plan's first units, one a stretch: shape (units,)."""
        ends = np.cumsum(self.units)
        place = np.searchsorted(ends, np.arange(min(units, int(ends[-1]))), side="right")
        one = np.ones(len(place))
        return Plan(one, self.wrong_rate[place], self.weight[place])
