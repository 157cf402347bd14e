"""The audit rule: with which secret probability a recorded result is checked once more.

The draw itself, made after the digest is recorded, is a port.
"""

import math
from dataclasses import dataclass
from typing import Protocol

from pool_protocol.errors import ErrorCode, PoolError

#: Agreeing owners that an audited task needs.
AUDITED_AGREEMENT = 2
#: Agreeing owners that a task may need at most, auditors included.
AGREEMENT_MAX = 8


def auditors_within(auditors: int, *, audited_owners: int, other_owners: int) -> int:
    """Return how many auditors a check asks for where so many other owners are there, at least 1.

    Never more than let the others outvote the audited: a task that nobody can decide helps nobody.
    """
    return max(1, min(auditors, other_owners - audited_owners, AGREEMENT_MAX - audited_owners))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPlan:
    """How a result is audited."""

    catch_probability: float
    """p of the rule: how likely a wrong result must be caught."""
    auditors: int
    """m: owners, besides its own, that must agree with it once it is drawn."""
    draw_probability: float
    """q: how likely the audit is drawn, so that p holds although auditors may be in league."""


class AuditRule(Protocol):
    """How likely a result must be checked. Pure: chance is drawn elsewhere."""

    def probability(self, *, epsilon: float, work_uwu: int, clean_uwu: int) -> float:
        """Return the audit probability, 0 to 1, of a result.

        Args:
            epsilon: The level's error target.
            work_uwu: Work of the attempt, micro-WU.
            clean_uwu: Accepted work of this vehicle in this class since its last failed check, micro-WU.
        """
        ...

    def plan(self, *, epsilon: float, work_uwu: int, clean_uwu: int) -> AuditPlan:
        """Return how likely, and by how many, such a result is audited."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryAuditRule:
    """p = k v / (n + k v) with k = f / epsilon: no strategy gets more than epsilon of wrong work accepted."""

    assumed_faulty_share: float = 0.2
    """f, above 0 and at most 1; 1 is safe for any fleet."""
    colluding_auditor_share: float = 0.0
    """f_a: share of auditors assumed to be in league with the audited, from 0 to below 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.colluding_auditor_share < 1:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT,
                f"the colluding auditors' share is 0 to below 1, not {self.colluding_auditor_share!r}",
            )
        if not 0 < self.assumed_faulty_share <= 1:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT,
                f"the assumed faulty share is above 0 and at most 1, not {self.assumed_faulty_share!r}",
            )

    def probability(self, *, epsilon: float, work_uwu: int, clean_uwu: int) -> float:
        """Return p; 1 for a vehicle without history."""
        if clean_uwu <= 0:
            return 1.0
        weighted = max(1.0, self.assumed_faulty_share / epsilon) * work_uwu
        return weighted / (clean_uwu + weighted)

    def plan(self, *, epsilon: float, work_uwu: int, clean_uwu: int) -> AuditPlan:
        """Return p, m = max(1, ceil(ln(1 - p) / ln f_a)) and q = p / (1 - f_a^m).

        Where p is 1 or close to it, auditors that are all in league are as unlikely as the error target.
        """
        catch = self.probability(epsilon=epsilon, work_uwu=work_uwu, clean_uwu=clean_uwu)
        share = self.colluding_auditor_share
        if share <= 0:
            return AuditPlan(catch_probability=catch, auditors=1, draw_probability=catch)
        auditors = max(1, math.ceil(math.log(max(1 - catch, epsilon)) / math.log(share)))
        draw = min(1.0, catch / (1 - share**auditors))
        return AuditPlan(catch_probability=catch, auditors=auditors, draw_probability=draw)


class AuditDraw(Protocol):
    """The secret chance of audits, bound to what was committed."""

    def uniform(self, *, output_digest: bytes, attempt_id: int) -> float:
        """Return a number in [0, 1) that nobody can foresee and that a repeat gives again."""
        ...
