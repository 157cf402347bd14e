"""What cheating costs a cheat: the figures that an operator's settings buy, in units of work and in money.

From the rule (`core.verification.audit`): an accepted wrong unit costs at least k - 1 correct ones. From
money that is held until results are final: a cheat that is caught loses what is not final yet. Skipping a
unit saves its cost c and risks the escrow L with probability p; it does not pay when p L >= (1 - p) c, that
is L >= c n / (k v).
"""

import math
from dataclasses import dataclass

from pool_server.core.verification.audit import HistoryAuditRule
from pool_server.core.verification.finality import LAG_GAPS, LAG_UNITS_MIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Deterrence:
    """What one level's settings mean for a cheat of a given history."""

    epsilon: float
    scale: float
    """k of the rule."""
    history_units: int
    catch_probability: float
    """p of its next unit."""
    correct_units_per_wrong: float
    """Correct units that an accepted wrong one costs, in the long run: k - 1."""
    wrong_units_before_caught: float
    """Accepted wrong units expected from a history of n units that then lies without a pause: n / (k - 1)."""
    lag_units: int
    """Units that are not final: what a look-back reaches."""
    escrow_needed_units: float
    """Held pay, in units, above which one lie does not pay: n / k."""
    escrow_micros: int
    """Pay held for the units that are not final, micro-units."""
    cost_of_wrong_micros: float
    """Pay of the correct units that an accepted wrong one costs, micro-units."""

    @property
    def deters(self) -> bool:
        """Whether a cheat that reckons does not lie at this history."""
        return self.lag_units >= self.escrow_needed_units


def lag_units(rule: HistoryAuditRule, *, epsilon: float, history_units: int) -> int:
    """Return E = max(200, 3 n / k): units after which a result counts as final."""
    return max(LAG_UNITS_MIN, math.ceil(LAG_GAPS * history_units / rule.scale(epsilon)))


def deterrence(
    rule: HistoryAuditRule, *, epsilon: float, history_units: int, net_micros_per_unit: int
) -> Deterrence:
    """Work out the figures for a cheat with `history_units` clean units, each paid `net_micros_per_unit`."""
    k = rule.scale(epsilon)
    lag = lag_units(rule, epsilon=epsilon, history_units=history_units)
    return Deterrence(
        epsilon=epsilon,
        scale=k,
        history_units=history_units,
        catch_probability=rule.probability(epsilon=epsilon, work_uwu=1, clean_uwu=history_units),
        correct_units_per_wrong=k - 1,
        wrong_units_before_caught=history_units / max(1.0, k - 1),
        lag_units=lag,
        escrow_needed_units=history_units / k,
        escrow_micros=min(lag, history_units) * net_micros_per_unit,
        cost_of_wrong_micros=(k - 1) * net_micros_per_unit,
    )
