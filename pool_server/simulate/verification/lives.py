"""Draws lives: how many units until a wrong one is caught, how many of those accepted were wrong.

A unit of weight v at history n is wrong with probability s and, being wrong, caught with c(n, v). It survives
with 1 - s c. Over the stretches of a plan the survival function S(m) is a product that depends on m alone,
since all that was accepted counts as history. So a life's length is one inversion of S, exact for any number
of lives at once:

* where c is the rule's p = k v / (n + k v), a stretch's part of ln S is a difference of four ln Gamma;
* for other c (auditors in league, more auditors than needed), c is the rule's p times a factor that is
  constant between the histories at which the number of auditors changes, and stretches are split there.

Given that a unit was accepted, it was wrong with probability x = s (1 - c) / (1 - s c), independently of the
others.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, psi

from pool_server.simulate.verification.plan import Floats, Plan

Places = NDArray[np.intp]

_BISECTIONS = 60
#: Lives of up to so many units have their wrong ones drawn one by one: two moments say too little of them.
SHORT_UNITS = 256
#: Below this, wrong units are drawn as Poisson (all are rare) or normal (they are many); see `_count`.
_RARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchLaw:
    """How a wrong unit is caught: c = factor p(n, v), the factor a step function of n / v.

    Arrays of shape (ranges,); the first range begins at history 0, `factor` times p never exceeds 1.
    """

    scale: float
    """k."""
    from_history: Floats
    factor: Floats
    auditors: Floats
    """m: re-executions of a unit that is drawn."""
    draw_factor: Floats
    """q = min(1, draw_factor p); infinite where every unit is drawn."""

    def range_at(self, history: Floats) -> Places:
        """Return which range histories fall into."""
        return np.searchsorted(self.from_history, history, side="right") - 1

    def factor_at(self, history: Floats) -> Floats:
        """Return the factor at histories."""
        return self.factor[self.range_at(history)]


class LifeTable:
    """A plan against a law: survival and moments at the ends of all stretches."""

    def __init__(self, plan: Plan, law: CatchLaw) -> None:
        """Split the plan's stretches where the law changes, and sum up."""
        self.law = law
        self.scale = law.scale
        units, rate, weight, history = _split(plan, law)
        self.units, self.rate, self.weight, self.history = units, rate, weight, history
        self.factor = law.factor_at(history / weight)
        self.begin = np.concatenate(([0.0], np.cumsum(units)))
        whole = np.arange(len(units))
        self.log_survival = np.concatenate(([0.0], np.cumsum(self._log_survival(whole, units))))
        mean, variance = self._wrong_moments(whole, units)
        self.wrong_mean = np.concatenate(([0.0], np.cumsum(mean)))
        self.wrong_variance = np.concatenate(([0.0], np.cumsum(variance)))
        self.work = np.concatenate(([0.0], np.cumsum(units * weight)))
        self.audits = np.concatenate(([0.0], np.cumsum(self._audits(whole, units))))

    def _shape(self, place: Places) -> tuple[Floats, Floats, Floats]:
        """Return a = n / v at the beginning of stretches, s and s times the factor."""
        return (
            self.history[place] / self.weight[place],
            self.rate[place],
            self.rate[place] * self.factor[place],
        )

    def _log_survival(self, place: Places, units: Floats) -> Floats:
        """Return ln of the probability that `units` units of stretches pass: sum of ln(1 - s c)."""
        a, _, caught = self._shape(place)
        k = self.scale
        low = np.maximum(a + k * (1 - caught), 0.0)
        # Lies without history end at once: low is 0 there, and ln Gamma infinite.
        start = np.where(low > 0, gammaln(np.maximum(low, 1e-300)), np.inf)
        end = gammaln(np.maximum(low + units, 1e-300))
        value = end - start + gammaln(a + k) - gammaln(a + k + units)
        return np.where((caught > 0) & (units > 0), value, 0.0)

    def _wrong_moments(self, place: Places, units: Floats) -> tuple[Floats, Floats]:
        """Return mean and variance of the weight of wrong ones among `units` accepted units of stretches."""
        a, s, caught = self._shape(place)
        k = self.scale
        low = a + k * (1 - caught)
        # x_j = s (1 - c_j) / (1 - s c_j) = s (a + j + k (1 - factor)) / (a + j + k (1 - s factor)).
        missing = s * k * self.factor[place] * (1 - s)
        safe = np.maximum(low, 1e-12)
        steps = psi(safe + units) - psi(safe)
        mean = np.clip(s * units - missing * steps, 0.0, units)
        mean = np.where(s >= 1, units, np.where(s <= 0, 0.0, mean))
        share = np.divide(mean, units, out=np.zeros_like(mean), where=units > 0)
        variance = units * share * (1 - share)
        weight = self.weight[place]
        return mean * weight, variance * weight**2

    def _audits(self, place: Places, units: Floats) -> Floats:
        """Return the re-executed weight expected of `units` attempted units of stretches: sum of q m v.

        The draw does not ask whether a unit is wrong, so it is the same for all of them.
        """
        ranges = self.law.range_at(self.history[place] / self.weight[place])
        start = self.history[place] / self.weight[place] + self.scale
        factor = self.law.draw_factor[ranges]
        always = np.isinf(factor)
        drawn = np.where(always, 1.0, factor) * self.scale * (psi(start + units) - psi(start))
        weighed: Floats = self.law.auditors[ranges] * self.weight[place] * np.where(always, units, drawn)
        return weighed

    def lengths(self, uniforms: Floats, *, log_floor: Floats | float = 0.0) -> Floats:
        """Return the unit, from 1, at which lives are caught; infinite for those that outlast the plan.

        Args:
            uniforms: In (0, 1), shape (lives,).
            log_floor: ln S of units that are known to have passed.
        """
        target = np.log(uniforms) + log_floor
        # The life ends at the first unit m with S(m) < u.
        place = np.searchsorted(-self.log_survival, -target, side="right") - 1
        outlasts = place >= len(self.units)
        place = np.clip(place, 0, len(self.units) - 1)
        remaining = target - self.log_survival[place]
        low, high = np.zeros_like(target), self.units[place].copy()
        for _ in range(_BISECTIONS):
            wide = high - low > 1
            if not wide.any():
                break
            middle = np.floor((low + high) / 2)
            passed = self._log_survival(place, middle) >= remaining
            low = np.where(wide & passed, middle, low)
            high = np.where(wide & ~passed, middle, high)
        return np.where(outlasts, np.inf, self.begin[place] + high)

    def wrong_until(self, accepted: Floats) -> tuple[Floats, Floats]:
        """Return mean and variance of the wrong weight among `accepted` units that passed."""
        place = np.clip(np.searchsorted(self.begin, accepted, side="right") - 1, 0, len(self.units) - 1)
        part = accepted - self.begin[place]
        mean, variance = self._wrong_moments(place, part)
        return self.wrong_mean[place] + mean, self.wrong_variance[place] + variance

    def draw_short(self, chance: np.random.Generator, accepted: Floats) -> Floats:
        """Draw the wrong weight among the first `accepted` units, up to `SHORT_UNITS`, unit by unit."""
        total = np.zeros(len(accepted))
        for unit in range(int(min(SHORT_UNITS, self.begin[-1], accepted.max(initial=0.0)))):
            place = int(np.searchsorted(self.begin, unit, side="right")) - 1
            if self.rate[place] <= 0:
                continue
            before, _ = self.wrong_until(np.array([float(unit), unit + 1.0]))
            weight = float(self.weight[place])
            x = min(1.0, max(0.0, float(before[1] - before[0]) / weight))
            total += np.where((accepted > unit) & (chance.random(len(accepted)) < x), weight, 0.0)
        return total

    def work_until(self, accepted: Floats) -> Floats:
        """Return the weight of the first `accepted` units."""
        place = np.clip(np.searchsorted(self.begin, accepted, side="right") - 1, 0, len(self.units) - 1)
        return self.work[place] + (accepted - self.begin[place]) * self.weight[place]

    def audits_until(self, attempted: Floats) -> Floats:
        """Return the re-executed weight expected of the first `attempted` units, the caught one included."""
        place = np.clip(np.searchsorted(self.begin, attempted, side="right") - 1, 0, len(self.units) - 1)
        return self.audits[place] + self._audits(place, attempted - self.begin[place])

    def units_of_work(self, work: float) -> float:
        """Return the units that hold a weight, rounded up."""
        place = int(np.clip(np.searchsorted(self.work, work, side="left") - 1, 0, len(self.units) - 1))
        return float(self.begin[place] + np.ceil((work - self.work[place]) / self.weight[place]))

    def lying_from(self, lengths: Floats) -> Floats:
        """Return the units before the stretch in which lives were caught lying began to lie."""
        lying = self.rate > 0
        starts = np.where(lying, self.begin[:-1], -1.0)
        # Stretches that lie without a pause between them are one.
        joined = lying & np.concatenate(([False], lying[:-1]))
        starts = np.maximum.accumulate(np.where(joined, -1.0, starts))
        place = np.clip(np.searchsorted(self.begin, lengths - 1, side="right") - 1, 0, len(self.units) - 1)
        return starts[place]


def _split(plan: Plan, law: CatchLaw) -> tuple[Floats, Floats, Floats, Floats]:
    """Cut stretches at the law's borders; return units, rates, weights and histories at their beginnings."""
    work = np.concatenate(([0.0], np.cumsum(plan.units * plan.weight)))
    begin = np.concatenate(([0.0], np.cumsum(plan.units)))
    cuts = [begin]
    for border in law.from_history[1:]:
        for weight in np.unique(plan.weight):
            place = int(np.searchsorted(work, border * weight, side="left")) - 1
            if 0 <= place < len(plan.units) and plan.weight[place] == weight:
                # The first unit whose history is at least the border.
                cuts.append(np.array([begin[place] + np.ceil((border * weight - work[place]) / weight)]))
    edges = np.unique(np.concatenate(cuts))
    places = np.searchsorted(begin, edges[:-1], side="right") - 1
    history = work[places] + (edges[:-1] - begin[places]) * plan.weight[places]
    return np.diff(edges), plan.wrong_rate[places], plan.weight[places], history


def draw_weight(
    generator: np.random.Generator, mean: Floats, variance: Floats, most: Floats, unit_weight: float
) -> Floats:
    """Draw sums of independent rare or many events by their two moments: Poisson when rare, else normal.

    All arrays have shape (lives,); sums are multiples of `unit_weight`, from 0 to `most`.
    """
    mean_units, most_units = mean / unit_weight, most / unit_weight
    spread = np.sqrt(np.maximum(variance, 0.0)) / unit_weight
    exact = spread <= 1e-9
    rare = spread**2 > (1 - _RARE) * mean_units
    drawn = np.where(
        rare & (mean_units < 1e6),
        generator.poisson(np.minimum(mean_units, 1e6)),
        np.rint(mean_units + spread * generator.standard_normal(len(mean))),
    )
    return np.clip(np.where(exact, mean_units, drawn), 0.0, most_units) * unit_weight
