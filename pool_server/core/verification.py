"""When a result is believed: levels, the audit rule, and the verdict over the results of one task.

A level fixes how many agreeing attempts of different owners a task needs from the start (the quorum, paid by
the job) and whether single results are audited. The audit rule says with which secret probability a recorded
result is checked once more; the draw itself (after the digest is recorded) is made by a port. Once a task is
drawn for an audit it needs two agreeing owners, whatever its level.

Not decided here: how outputs are compared (`core.comparison`), what a failed check costs (`core.trust`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Protocol

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.comparison import (
    AgreementGroup,
    Candidate,
    Comparator,
    Tensors,
    agreement_groups,
    agrees,
)
from pool_server.core.jobs import PROGRAM_FAILED_OWNERS, RetryBounds, TaskFailure


@unique
class VerificationLevel(StrEnum):
    """How much verification a job buys."""

    SPOT = "spot"
    STANDARD = "standard"
    CAREFUL = "careful"
    STRICT = "strict"
    FULL = "full"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelTerms:
    """What a level means."""

    quorum: int
    """Agreeing attempts of different owners that the job pays for."""
    epsilon: float | None
    """The error target that audits keep; None where nothing is drawn."""
    builds_trust: bool
    """Whether accepted work that was paid counts as clean history: only where a check could have found it
    wrong."""


LEVELS: dict[VerificationLevel, LevelTerms] = {
    VerificationLevel.SPOT: LevelTerms(quorum=1, epsilon=1e-2, builds_trust=True),
    VerificationLevel.STANDARD: LevelTerms(quorum=1, epsilon=1e-3, builds_trust=True),
    VerificationLevel.CAREFUL: LevelTerms(quorum=1, epsilon=1e-4, builds_trust=True),
    VerificationLevel.STRICT: LevelTerms(quorum=1, epsilon=1e-6, builds_trust=True),
    VerificationLevel.FULL: LevelTerms(quorum=2, epsilon=None, builds_trust=True),
    VerificationLevel.NONE: LevelTerms(quorum=1, epsilon=None, builds_trust=False),
}

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


@dataclass(frozen=True, slots=True)
class Accept:
    """The task is decided: this group is right."""

    group: AgreementGroup
    rejected: tuple[Candidate, ...]
    """Results that agree with no member of the group: wrong."""
    unjudged: tuple[Candidate, ...]
    """Results between the tolerances: they agree with a member but not with the anchor. Unpaid, no blame."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The task is open and wants this many more attempts than are under way (0: wait for those)."""

    wanted: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The task failed for good."""

    reason: TaskFailure


Verdict = Accept | Wait | GiveUp


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStanding:
    """What a verdict is based on."""

    agreement_needed: int
    """Agreeing owners: the quorum, or two once the task was drawn for an audit."""
    returned: Sequence[Candidate]
    """Results recorded and not judged."""
    live_count: int
    """Attempts under way."""
    attempt_count: int
    """Attempts leased so far."""
    failure_count: int
    """Attempts that failed by fault: worker failures, refusals, malformed outputs."""
    program_failed_owners: int
    """Different owners that reported PROGRAM_FAILED."""
    bounds: RetryBounds


def judge(standing: TaskStanding, comparator: Comparator, outputs_of: Callable[[int], Tensors]) -> Verdict:
    """Decide what a task's results mean, in this order.

    1. A group of enough different owners: accepted. Of several the largest, then that of the lowest anchor.
    2. PROGRAM_FAILED by two owners: the program is at fault.
    3. None under way, and too many failures or no attempts left: given up. With results that disagree the
       reason is VERIFICATION_UNDECIDED, otherwise TASK_ATTEMPTS_EXHAUSTED.
    4. Otherwise wait, wanting as many attempts as the largest group lacks, within the bound on attempts.
    """
    groups = agreement_groups(comparator, standing.returned, outputs_of)
    best = min(groups, key=lambda group: (-group.owner_count(), group.anchor.attempt_id), default=None)
    agreeing = 0 if best is None else best.owner_count()
    if best is not None and agreeing >= standing.agreement_needed:
        return _accept(best, groups, comparator, outputs_of)
    if standing.program_failed_owners >= PROGRAM_FAILED_OWNERS:
        return GiveUp(TaskFailure.PROGRAM_FAILED)
    undecided = TaskFailure.VERIFICATION_UNDECIDED if len(groups) > 1 else TaskFailure.TASK_ATTEMPTS_EXHAUSTED
    left = max(0, standing.bounds.attempts_max - standing.attempt_count)
    if standing.failure_count >= standing.bounds.failures_max:
        left = 0
    if left == 0 and standing.live_count == 0:
        return GiveUp(undecided)
    lacking = max(0, standing.agreement_needed - agreeing - standing.live_count)
    return Wait(min(lacking, left))


def _accept(
    best: AgreementGroup,
    groups: Sequence[AgreementGroup],
    comparator: Comparator,
    outputs_of: Callable[[int], Tensors],
) -> Accept:
    rejected: list[Candidate] = []
    unjudged: list[Candidate] = []
    for group in groups:
        if group is best:
            continue
        for candidate in group.members:
            near = any(
                agrees(comparator, candidate, member, outputs_of)
                or agrees(comparator, member, candidate, outputs_of)
                for member in best.members
            )
            (unjudged if near else rejected).append(candidate)
    by_id = lambda candidate: candidate.attempt_id  # noqa: E731 - a sort key
    return Accept(best, tuple(sorted(rejected, key=by_id)), tuple(sorted(unjudged, key=by_id)))
