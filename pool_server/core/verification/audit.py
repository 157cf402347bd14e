"""The audit rule: with which secret probability a recorded result is checked once more.

The draw itself, made after the digest is recorded, is a port.
"""

from dataclasses import dataclass
from typing import Protocol

from pool_protocol.errors import ErrorCode, PoolError

#: Agreeing owners that an audited task needs.
AUDITED_AGREEMENT = 2


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


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryAuditRule:
    """p = k v / (n + k v) with k = f / epsilon: no strategy gets more than epsilon of wrong work accepted."""

    assumed_faulty_share: float = 0.2
    """f, above 0 and at most 1; 1 is safe for any fleet."""

    def __post_init__(self) -> None:
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


class AuditDraw(Protocol):
    """The secret chance of audits, bound to what was committed."""

    def uniform(self, *, output_digest: bytes, attempt_id: int) -> float:
        """Return a number in [0, 1) that nobody can foresee and that a repeat gives again."""
        ...
