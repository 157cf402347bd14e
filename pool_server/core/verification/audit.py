"""The audit rule: with which secret probability a recorded result is checked once more, and by how many.

The rule. An identity has n work units accepted since its last failed audit, and n0 of prior credit. It
commits to a result of weight v; only then is it drawn, with probability p = k v / (n0 + n + k v), whether the
result is checked. A result that fails is not accepted, and n starts again at 0.

Why it holds. Let w and h be the wrong and the correct work accepted of an identity so far, and

    Y = w + (n - h) / (k - 1), with n = 0 right after a failure.

A correct result moves n and h by v: Y stays. A wrong one is accepted with probability 1 - p = n / (n + k v),
and then Y grows by v + v / (k - 1) = v k / (k - 1); otherwise n falls to 0 and Y by n / (k - 1). The expected
change is (n v k - k v n) / ((n + k v)(k - 1)) = 0, whatever the identity has done before and whatever it
knows: Y is a martingale under every adaptive strategy. Hence E[w] <= E[h] / (k - 1), which is E[w] <= E[w +
h] / k: at most one part in k of what an identity gets accepted is wrong. With identities that are faulty
making up a share f of accepted work, k = f / epsilon keeps the pool's error at epsilon; k = 1 / epsilon keeps
it for any share. Coming back under a new name is worth no more than a failure: both begin at n = 0. With
credit n0 the bound is E[w] <= (E[h] + n0) / (k - 1), so a burned identity must be worth n0.

What it assumes. The draw is secret and comes after the commitment; a check that is drawn finds a wrong result
with the probability p that is asked for. Where auditors may be in league with the audited, one of them does
not: m auditors that are all in league are as rare as f_a^m, so m = ceil(ln(1 - p) / ln f_a) of them are
asked, with q = p / (1 - f_a^m) as the probability of the draw. Then q (1 - f_a^m) = p again.

The draw itself is a port. What a failed check costs is `core.trust`'s matter.
"""

from dataclasses import dataclass
from typing import Protocol

from pool_protocol.errors import ErrorCode, PoolError

#: Agreeing owners that an audited task needs.
AUDITED_AGREEMENT = 2
#: Auditors of one result. Where more would be needed, a trusted node must be among them.
AUDITORS_MAX = 7
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
    needs_trusted: bool = False
    """Whether so many auditors would be needed that only a trusted node keeps the promise."""


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

    def scale(self, epsilon: float) -> float:
        """Return k: an identity's accepted wrong work is at most one part in k, at least 1."""
        return max(1.0, self.assumed_faulty_share / epsilon)

    def probability(
        self, *, epsilon: float, work_uwu: int, clean_uwu: int, prior_credit_uwu: int = 0
    ) -> float:
        """Return p = k v / (n0 + n + k v); 1 for a vehicle without history or credit."""
        history_uwu = max(0, clean_uwu) + max(0, prior_credit_uwu)
        if history_uwu == 0:
            return 1.0
        weighted = self.scale(epsilon) * work_uwu
        return weighted / (history_uwu + weighted)

    def plan(self, *, epsilon: float, work_uwu: int, clean_uwu: int, prior_credit_uwu: int = 0) -> AuditPlan:
        """Return p, m = max(1, ceil(ln(1 - p) / ln f_a)) and q = p / (1 - f_a^m).

        m stops at `AUDITORS_MAX`; beyond it a trusted node is needed, and says so.
        """
        catch = self.probability(
            epsilon=epsilon, work_uwu=work_uwu, clean_uwu=clean_uwu, prior_credit_uwu=prior_credit_uwu
        )
        return self.plan_for(catch)

    def plan_for(self, catch: float) -> AuditPlan:
        """Return how a wrong result is caught with probability `catch`, from 0 to 1."""
        share = self.colluding_auditor_share
        if share <= 0 or catch <= 0:
            return AuditPlan(catch_probability=catch, auditors=1, draw_probability=catch)
        # Multiplied, not by logarithms: a rounded quotient would ask for one auditor too many or too few.
        # The allowance for rounding keeps one auditor where p is 1 - f_a to the last bit.
        missed = (1 - catch) * (1 + 1e-12)
        auditors, in_league = 1, share
        while in_league > missed and auditors < AUDITORS_MAX:
            auditors, in_league = auditors + 1, in_league * share
        if in_league > missed:
            return AuditPlan(
                catch_probability=catch, auditors=auditors, draw_probability=1.0, needs_trusted=True
            )
        return AuditPlan(
            catch_probability=catch, auditors=auditors, draw_probability=min(1.0, catch / (1 - in_league))
        )


class AuditDraw(Protocol):
    """The secret chance of audits, bound to what was committed."""

    def uniform(self, *, output_digest: bytes, attempt_id: int) -> float:
        """Return a number in [0, 1) that nobody can foresee and that a repeat gives again."""
        ...
