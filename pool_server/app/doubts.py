"""What a look-back doubts: a caught vehicle's results, or those that a faulty class alone vouched for.

Two answers to the same questions of `app.look_back`: which receipts to walk, whom to believe, how many others
must compute a task again, and who may not.

A vehicle is caught for fraud: its results are doubted until so many other owners agreed that they are not all
in league with it. A class is wrong on a program without anybody's fault: its results on that program are
doubted unless another class agreed with them, and only other classes compute them again.
"""

from collections.abc import Collection, Sequence
from math import ceil
from typing import NamedTuple, Protocol

from pool_server.app.class_bench import OWNERS_MAX
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.fleet import VehicleState
from pool_server.core.verification import AGREEMENT_MAX, LEVELS, auditors_within
from pool_server.core.verification.classes import Ask, Scope
from pool_server.ports.classes import ClassAskRow
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.verification import LookBackRow, PaidAttempt, QuestionedRow, QuestionedState
from pool_server.ports.work import JobRow

#: Receipts of a vehicle that one sweep looks at.
RECEIPTS_PER_SWEEP = 200
#: Receipts of the whole pool among which one sweep looks for a class's.
POOL_RECEIPTS_PER_SWEEP = 10_000
#: Other owners that agreed with a caught vehicle and make its result stand, at least.
CONFIRMING_OWNERS_MIN = 2


class Page(NamedTuple):
    """Doubtful receipts that one sweep looks at, newest first."""

    paid: list[PaidAttempt]
    cursor_receipt_id: int
    """Receipts from this one on were looked at."""
    is_last: bool


class Doubts(Protocol):
    """Whom a look-back does not believe."""

    def page(self) -> Page:
        """Return the next accepted attempts to look at that the doubts are about."""
        ...

    def was_answered(self, question: QuestionedRow) -> bool:
        """Say whether an earlier question about an attempt makes another one needless."""
        ...

    def confirmed(self, job: JobRow, group: Sequence[PaidAttempt]) -> bool:
        """Say whether the accepted attempts of a task are believed all the same."""
        ...

    def auditors(self, job: JobRow, owners: Collection[str]) -> tuple[int, int]:
        """Return how many others shall compute a task again, and how many owners must agree then.

        Args:
            job: Whose task it is.
            owners: Owners of its accepted attempts.
        """
        ...

    def keep_away(self, task_ids: Sequence[int]) -> None:
        """See to it that nobody computes these tasks again who is not believed."""
        ...


def doubts_of(uow: UnitOfWork, look_back: LookBackRow, *, policy: WorkPolicy, now_us: int) -> Doubts:
    """Return what a look-back doubts."""
    kind = ClassDoubts if look_back.numeric_class else VehicleDoubts
    return kind(uow, look_back, policy=policy, now_us=now_us)


class _Common:
    def __init__(self, uow: UnitOfWork, look_back: LookBackRow, *, policy: WorkPolicy, now_us: int) -> None:
        """Serve one batch of a look-back."""
        self.uow = uow
        self.look_back = look_back
        self.policy = policy
        self.now_us = now_us
        self._standing: dict[str, bool] = {}

    def _in_good_standing(self, vehicle_id: str) -> bool:
        known = self._standing.get(vehicle_id)
        if known is None:
            vehicle = self.uow.fleet.get(vehicle_id)
            known = self._standing[vehicle_id] = (
                vehicle is not None
                and vehicle.state is not VehicleState.QUARANTINED
                and self.uow.verification.running_look_back(vehicle_id) is None
            )
        return known

    def _rule(self, job: JobRow) -> int:
        """Return how many the rule asks for where a wrong result may be missed as often as the level allows.

        At p = 1 no number of untrusted auditors would do; at a history of f units p is 1 / (1 + epsilon).
        """
        epsilon = LEVELS[job.level].epsilon
        if epsilon is None:
            return 1
        clean_uwu = ceil(self.policy.assumed_faulty_share * job.work_uwu_per_task)
        plan = self.policy.audit_rule.plan(
            epsilon=epsilon, work_uwu=job.work_uwu_per_task, clean_uwu=clean_uwu
        )
        return plan.auditors


class VehicleDoubts(_Common):
    """A caught vehicle's results."""

    def page(self) -> Page:
        """See `Doubts`."""
        paid = self.uow.verification.candidates(
            owner_id=self.look_back.owner_id,
            vehicle_id=self.look_back.vehicle_id,
            after_receipt_id=self.uow.receipts.released_through(),
            before_receipt_id=self.look_back.cursor_receipt_id,
            limit=RECEIPTS_PER_SWEEP,
        )
        cursor = paid[-1].receipt_id if paid else self.look_back.cursor_receipt_id
        return Page(paid, cursor, len(paid) < RECEIPTS_PER_SWEEP)

    def was_answered(self, question: QuestionedRow) -> bool:
        """Once is enough: so look-backs come to an end."""
        return True

    def confirmed(self, job: JobRow, group: Sequence[PaidAttempt]) -> bool:
        """Say whether so many others agreed that they are not all in league with the vehicle."""
        others = {paid.owner_id for paid in group if self._in_good_standing(paid.vehicle_id)}
        return len(others - {self.look_back.owner_id}) >= max(CONFIRMING_OWNERS_MIN, self._rule(job))

    def auditors(self, job: JobRow, owners: Collection[str]) -> tuple[int, int]:
        """So many that they could outvote those that agreed before."""
        active = frozenset(self.uow.fleet.active_owners(at_most=2 * AGREEMENT_MAX))
        auditors = auditors_within(
            self._rule(job), audited_owners=len(owners), other_owners=len(active.difference(owners))
        )
        return auditors, min(AGREEMENT_MAX, len(owners) + auditors)

    def keep_away(self, task_ids: Sequence[int]) -> None:
        """Leases see to it: an owner has one attempt on a task."""


class ClassDoubts(_Common):
    """What a class that is wrong on a program vouched for alone."""

    def page(self) -> Page:
        """See `Doubts`."""
        through = self.uow.receipts.released_through()
        paid, cursor = self.uow.verification.class_candidates(
            numeric_class=self.look_back.numeric_class,
            program_sha256=self.look_back.program_sha256,
            after_receipt_id=through,
            before_receipt_id=self.look_back.cursor_receipt_id,
            window=POOL_RECEIPTS_PER_SWEEP,
            limit=RECEIPTS_PER_SWEEP,
        )
        return Page(paid, cursor, cursor <= through + 1)

    def was_answered(self, question: QuestionedRow) -> bool:
        """Its own class may have upheld it: it is asked once more. A class has one look-back a program."""
        return question.state is not QuestionedState.UPHELD

    def confirmed(self, job: JobRow, group: Sequence[PaidAttempt]) -> bool:
        """Say whether anybody of another class, or of none that is known, agreed."""
        believed = [paid.attempt_id for paid in group if self._in_good_standing(paid.vehicle_id)]
        faulty = self.uow.classes.faulty_classes(job.program_sha256)
        found = self.uow.classes.of_attempts(believed).values()
        return any(item.numeric_class not in faulty for item in found)

    def auditors(self, job: JobRow, owners: Collection[str]) -> tuple[int, int]:
        """As many as for any check: the class has no vote that would have to be outvoted."""
        faulty = self.uow.classes.faulty_classes(job.program_sha256)
        at_work = self.uow.classes.owners(at_most=OWNERS_MAX)
        others = sum(count for name, count in at_work.items() if name not in faulty)
        auditors = auditors_within(self._rule(job), audited_owners=1, other_owners=others)
        return auditors, 1 + auditors

    def keep_away(self, task_ids: Sequence[int]) -> None:
        """Another class is asked; its own would only say the same again."""
        ask = Ask(scope=Scope.ACROSS, numeric_class=self.look_back.numeric_class)
        until_us = self.now_us + max(self.policy.class_patience_us, self.policy.vehicle_silence_us)
        self.uow.classes.put_asks([ClassAskRow(task_id, ask, until_us) for task_id in task_ids])
