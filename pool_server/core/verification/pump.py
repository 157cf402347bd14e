"""What a buyer earns that owns the vehicles too: the pool pays for audits, and so may pay them to the buyer.

A job pays for a unit once; the verification fund pays its q m expected audits. Who buys a unit, computes it
and audits it gets (1 - fee)(1 + q m) prices for one. Not decided here: whether a pool lets that happen.
"""

import math
from dataclasses import dataclass

from pool_server.core.verification.audit import HistoryAuditRule
from pool_server.core.verification.overhead import expected_audits, next_audits


@dataclass(frozen=True, slots=True, kw_only=True)
class Pump:
    """Who draws from the fund, and on which terms. Amounts are in prices of a unit."""

    work_share: float
    """Of the job's units, those that the buyer's own vehicles compute, 0 to 1."""
    audit_share: float
    """Of their audits, those that the buyer's other owners make, 0 to 1."""
    fee_share: float
    """What the pool keeps of every payment, 0 to below 1."""
    surcharge: float = 0.0
    """What a job pays to the fund for each unit besides its price."""

    def income(self, audits: float) -> float:
        """Return what is left of a unit with so many audits expected: above 0 the fund is pumped."""
        kept = 1 - self.fee_share
        return kept * (self.work_share + self.audit_share * audits) - 1 - self.surcharge

    def unit_income(self, rule: HistoryAuditRule, *, epsilon: float, history_units: int) -> float:
        """Return the expected income of the next unit of an identity with a history."""
        return self.income(next_audits(rule, epsilon=epsilon, work_uwu=1, clean_uwu=history_units))

    def life(self, rule: HistoryAuditRule, *, epsilon: float, units_max: int = 10**9) -> tuple[int, float]:
        """Return after how many units an identity pays no more, and what it brought in until then.

        A new name starts anew, so the second is what one identity is worth, not what the pump is.
        """
        low, high = 0, units_max
        while low < high:
            middle = (low + high) // 2
            if self.unit_income(rule, epsilon=epsilon, history_units=middle) > 0:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return 0, 0.0
        mean_audits = expected_audits(rule, epsilon=epsilon, units=low) / low
        return low, low * self.income(mean_audits)


def breakeven_share(audits: float, *, fee_share: float) -> float:
    """Return the share of owners, of work and audits alike, from which on a unit pays; infinite for none."""
    kept = (1 - fee_share) * (1 + audits)
    return math.inf if kept <= 1 else 1 / kept


def closing_surcharge(audits: float, *, fee_share: float) -> float:
    """Return the surcharge on a unit with which nobody gets more than was paid, whatever the shares."""
    return max(0.0, (1 - fee_share) * (1 + audits) - 1)
