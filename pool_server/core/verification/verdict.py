"""The verdict over the results of one task: accepted, given up, or waiting for more.

Once a task is drawn for an audit it needs more agreeing owners, whatever its level; a trusted node's result
is enough by itself, and whoever contradicts it is wrong. Not decided here: how outputs are compared
(`core.comparison`), what a failed check costs (`core.trust`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pool_server.core.comparison import (
    AgreementGroup,
    Candidate,
    Comparator,
    Tensors,
    agreement_groups,
    agrees,
)
from pool_server.core.jobs import PROGRAM_FAILED_OWNERS, RetryBounds, TaskFailure


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
    """Agreeing owners: the quorum, or the audited and its auditors once the task was drawn."""
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


#: Says whether a group of enough owners may decide, given all groups (`core.verification.classes.entitled`).
Entitled = Callable[[AgreementGroup, Sequence[AgreementGroup]], bool]


def judge(
    standing: TaskStanding,
    comparator: Comparator,
    outputs_of: Callable[[int], Tensors],
    *,
    entitled: Entitled | None = None,
) -> Verdict:
    """Decide what a task's results mean, in this order.

    1. A group with a trusted node, or of enough different owners that is entitled to decide (all are, unless
       numeric classes say otherwise): accepted. Of several that with a trusted node, then the largest, then
       that of the lowest anchor.
    2. PROGRAM_FAILED by two owners: the program is at fault.
    3. None under way, and too many failures or no attempts left: given up. With results that disagree the
       reason is VERIFICATION_UNDECIDED, otherwise TASK_ATTEMPTS_EXHAUSTED.
    4. Otherwise wait, wanting as many attempts as the largest group lacks, within the bound on attempts.
    """
    groups = agreement_groups(comparator, standing.returned, outputs_of)
    ranked = sorted(
        groups, key=lambda group: (not group.trusted, -group.owner_count(), group.anchor.attempt_id)
    )
    for group in ranked:
        enough = group.owner_count() >= standing.agreement_needed
        if group.trusted or (enough and (entitled is None or entitled(group, groups))):
            return _accept(group, groups, comparator, outputs_of)
    # A group of enough owners that may not decide lacks one more.
    largest = max((group.owner_count() for group in groups), default=0)
    agreeing = min(largest, standing.agreement_needed - 1)
    if standing.program_failed_owners >= PROGRAM_FAILED_OWNERS:
        return GiveUp(TaskFailure.PROGRAM_FAILED)
    undecided = TaskFailure.VERIFICATION_UNDECIDED if len(groups) > 1 else TaskFailure.TASK_ATTEMPTS_EXHAUSTED
    return _wait_for(standing.agreement_needed - agreeing, standing, undecided=undecided)


def after_refutation(standing: TaskStanding) -> Wait | GiveUp:
    """Say what follows where the pool's own result has refuted all others: one more that agrees will do."""
    return _wait_for(1, standing, undecided=TaskFailure.VERIFICATION_UNDECIDED)


def _wait_for(lacking: int, standing: TaskStanding, *, undecided: TaskFailure) -> Wait | GiveUp:
    left = max(0, standing.bounds.attempts_max - standing.attempt_count)
    if standing.failure_count >= standing.bounds.failures_max:
        left = 0
    if left == 0 and standing.live_count == 0:
        return GiveUp(undecided)
    return Wait(min(max(0, lacking - standing.live_count), left))


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
