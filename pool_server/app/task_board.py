"""The tasks that one command touches, in memory: load once, decide, write once.

Use cases put events on the board (a result came, an attempt failed, expired or is cancelled); the board keeps
the tasks' standing, asks `core.verification` for verdicts, and at the end `flush` writes everything in bulk:
money first given back, then reserved, then paid; attempts, tasks, leases, jobs, vehicles, trust; events and
effects.

What an attempt's money must be follows from its state and payer alone: leased and returned attempts hold a
pending transfer, accepted ones are paid, all others hold nothing. `flush` compares that with the row.

A task that a look-back opened again has attempts that are *questioned*: they were paid before, and their
money is set aside. They are neither funded nor paid here a second time, and are not dropped: where nobody can
tell, the task is as it was before.
"""

from collections.abc import Iterable, Sequence

from pool_protocol.errors import ErrorCode, InvariantError
from pool_server.app.board_reach import reachable_agreement
from pool_server.app.board_rows import (
    BoardAttempt,
    BoardTask,
    attempts_of,
    bounds_of,
    program_failed_owners,
    read_tensors,
)
from pool_server.app.class_bench import ClassBench, entitlement
from pool_server.app.dispute_gate import agreement_left, awaits_dispute
from pool_server.app.pool_runs import PoolRuns
from pool_server.app.unit_checks import UnitChecks
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.comparison import Candidate, Tensors
from pool_server.core.jobs import TASK_LIFECYCLE, AttemptState, LeaseState, TaskFailure, TaskState, TensorRef
from pool_server.core.matching import TaskRank
from pool_server.core.settlement import Payer
from pool_server.core.trust import TrustRecord, trust_class
from pool_server.core.verification import (
    AGREEMENT_MAX,
    AUDITED_AGREEMENT,
    LEVELS,
    Accept,
    GiveUp,
    TaskStanding,
    Wait,
    after_refutation,
    auditors_within,
    judge,
)
from pool_server.core.verification.findings import BUILD_HISTORY, Evidence, FindingKind
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import AttemptRow, JobRow, ReportedValues

__all__ = ["BoardAttempt", "BoardTask", "TaskBoard", "read_tensors"]

_A = AttemptState


class TaskBoard:
    """See the module."""

    def __init__(self, uow: UnitOfWork, *, policy: WorkPolicy, blobs: BlobReader | None, now_us: int) -> None:
        """Start an empty board.

        Args:
            uow: The command's transaction.
            policy: The operator's settings.
            blobs: Reads outputs that are blobs; needed only to compare such outputs by CLOSE.
            now_us: The command's time.
        """
        self.uow = uow
        self.policy = policy
        self.now_us = now_us
        self.jobs: dict[int, JobRow] = {}
        self.tasks: dict[int, BoardTask] = {}
        self.attempts: dict[int, BoardAttempt] = {}
        self.trust: dict[tuple[str, str], TrustRecord] = {}
        self.lease_ends: dict[int, LeaseState] = {}
        self.rejected: list[BoardAttempt] = []
        self.progressed: set[int] = set()
        self.stopped: dict[tuple[str, str], list[int]] = {}
        self.blobs = blobs
        self.trusted: dict[str, bool] = {}
        self.classes = ClassBench(self)
        self.pool_runs = PoolRuns(self)
        self.unit_checks = UnitChecks(self)
        self._next_seq: dict[int, int] = {}
        self._active_owners: list[str] | None = None

    # --- loading --------------------------------------------------------------------------------

    def job(self, job_id: int) -> JobRow:
        """Read a job once.

        Raises:
            InvariantError: there is none, although a row names it.
        """
        job = self.jobs.get(job_id)
        if job is None:
            job = self.uow.jobs.get(job_id)
            if job is None:
                raise InvariantError(f"job {job_id} is named by a row and not there")
            self.jobs[job_id] = job
        return job

    def load(self, rows: Iterable[AttemptRow]) -> None:
        """Put attempts, their tasks and the tasks' other attempts on the board."""
        rows = list(rows)
        missing = list(dict.fromkeys(row.task_id for row in rows if row.task_id not in self.tasks))
        found = self.uow.tasks.get(missing)
        for task_row in found.values():
            self.tasks[task_row.task_id] = BoardTask(task_row, self.job(task_row.job_id))
        # A task with one attempt has no other: the common case costs no second query.
        crowded = [task_id for task_id in missing if found[task_id].attempt_count > 1]
        others = self.uow.attempts.of_tasks(crowded) if crowded else []
        reopened = [task_id for task_id in missing if found[task_id].rechecking]
        questioned = self.uow.verification.open_of_tasks(reopened) if reopened else {}
        for row in sorted((*rows, *others)):
            if row.attempt_id in self.attempts:
                continue
            task = self.tasks[row.task_id]
            attempt = BoardAttempt(row, task, questioned=questioned.get(row.attempt_id))
            task.attempts[row.attempt_id] = attempt
            self.attempts[row.attempt_id] = attempt

    # --- what happens to attempts ---------------------------------------------------------------

    def record(self, attempt: BoardAttempt, *, reported: ReportedValues, outputs: TensorRef) -> None:
        """A result came: LEASED or EXPIRED -> RETURNED. An expired attempt is funded again at the flush."""
        if attempt.state is _A.EXPIRED:
            full = attempt.task.job_funded() >= LEVELS[attempt.task.job.level].quorum
            attempt.payer = Payer.VERIFICATION if full else Payer.JOB
        attempt.move(_A.RETURNED)
        attempt.reason = ""
        attempt.ended_at_us = self.now_us
        attempt.digest = reported.output_digest
        attempt.reported = reported
        attempt.outputs = outputs
        attempt.task.changed = True

    def fail(self, attempt: BoardAttempt, *, reason: str, detail: str, at_fault: bool) -> None:
        """A report without a result: LEASED -> FAILED. `at_fault` counts against the bound on failures."""
        attempt.move(_A.FAILED, reason=reason)
        attempt.detail = detail
        attempt.ended_at_us = self.now_us
        attempt.task.failure_count += int(at_fault)
        attempt.task.changed = True

    def expire(self, attempt: BoardAttempt) -> None:
        """No report in time: LEASED -> EXPIRED."""
        attempt.move(_A.EXPIRED, reason=ErrorCode.LEASE_EXPIRED.value)
        attempt.ended_at_us = self.now_us
        attempt.task.changed = True

    def drop(self, attempt: BoardAttempt, *, reason: str) -> None:
        """Take an attempt out: LEASED -> CANCELLED (and tell the vehicle), RETURNED -> DISCARDED."""
        if attempt.state is _A.LEASED:
            attempt.move(_A.CANCELLED, reason=reason)
            attempt.ended_at_us = self.now_us
            self.stopped.setdefault((attempt.row.vehicle_id, reason), []).append(attempt.row.attempt_id)
        else:
            attempt.move(_A.DISCARDED, reason=reason)
        attempt.task.changed = True

    def audit(self, task: BoardTask, *, owner_id: str, auditors: int = 1) -> int:
        """The draw fell on this task: it needs agreeing owners, as many as there are to outvote a liar.

        Returns how many other owners are there, as far as it matters.
        """
        if self._active_owners is None:
            self._active_owners = self.uow.fleet.active_owners(at_most=AGREEMENT_MAX + 1)
        others = len(self._active_owners) - (owner_id in self._active_owners)
        auditors = auditors_within(auditors, audited_owners=1, other_owners=others)
        task.agreement_needed = max(task.agreement_needed, AUDITED_AGREEMENT, 1 + auditors)
        task.changed = True
        return others

    def reject(
        self, attempt: BoardAttempt, *, found_by: FindingKind | None = None, reason: str = "WRONG_RESULT"
    ) -> None:
        """A check found the result wrong: its vehicle's history ends, and its other results are looked at.

        Args:
            attempt: Recorded, or questioned.
            found_by: Which check; None where the task's other results contradict it.
            reason: Reason code.
        """
        attempt.move(_A.REJECTED, reason=reason)
        attempt.found_by = found_by
        attempt.task.changed |= attempt.task.undecided  # a wrong prefix may come to light later
        before = self.history(attempt)
        attempt.lost_uwu = before.clean_uwu
        self.trust[self.trust_key(attempt)] = before.rejected()
        self.rejected.append(attempt)

    def convict(
        self, task: BoardTask, attempt_ids: Iterable[int], *, reason: str, unit_index: int = -1
    ) -> None:
        """Results are proved wrong before their task is decided: RETURNED -> REJECTED."""
        for attempt_id in attempt_ids:
            attempt = task.attempts[attempt_id]
            self.reject(attempt, found_by=FindingKind.DISPUTE, reason=reason)
            attempt.wrong_unit = unit_index
        task.changed = True

    # --- verdicts -------------------------------------------------------------------------------

    def resolve(self, task: BoardTask) -> None:
        """Ask for the verdict on a task and apply it."""
        if not task.undecided:
            return
        if awaits_dispute(self, task, self.outputs_of):
            self._wait(task, 0, returned_count=len(task.in_state(_A.RETURNED)))
            return
        returned = task.in_state(_A.RETURNED)
        agreement_needed = agreement_left(self, task)
        if agreement_needed == 1 and len(returned) == 1:
            self.classes.accepted_alone(returned[0])
            self._accept(task, [returned[0]], [], [])
            return
        by_id = {attempt.row.attempt_id: attempt for attempt in returned}
        view = self.classes.view(task, returned)
        opinions = self.pool_runs.hear(task, self._candidates(task, by_id), view)
        if opinions is None:
            self._wait(task, 0, returned_count=len(returned))
            return
        view = opinions.view
        standing = TaskStanding(
            agreement_needed=agreement_needed,
            returned=opinions.candidates,
            live_count=len(task.in_state(_A.LEASED)),
            attempt_count=task.row.attempt_count,
            failure_count=task.failure_count,
            program_failed_owners=program_failed_owners(task),
            bounds=bounds_of(task),
        )
        verdict = judge(standing, task.job.comparator, self.outputs_of, entitled=entitlement(view))
        if view is not None:
            verdict = self.classes.weigh(task, verdict, view, standing, by_id)
        match verdict:
            case Accept():
                parts = (verdict.group, verdict.rejected, verdict.unjudged)
                group, rejected, unjudged = (attempts_of(part, by_id) for part in parts)
                task.pool_digest = opinions.pool_digest
                if group:
                    self._accept(task, group, rejected, unjudged)
                else:
                    self._refute(task, rejected, unjudged, standing)
            case GiveUp(reason=reason):
                self._give_up(task, reason)
            case Wait(wanted=wanted):
                reachable = reachable_agreement(self, task, standing) if wanted else agreement_needed
                if reachable < agreement_needed:
                    task.agreement_needed -= agreement_needed - reachable
                    self.resolve(task)
                else:
                    self._wait(task, wanted, returned_count=len(returned))

    def _candidates(self, task: BoardTask, by_id: dict[int, BoardAttempt]) -> list[Candidate]:
        self._learn_trusted(by_id.values())
        voices = self.unit_checks.voices(task)
        return [
            Candidate(
                attempt_id=attempt_id,
                owner_id=attempt.row.owner_id,
                output_digest=voices.get(attempt.digest, attempt.digest),
                trusted=self.trusted[attempt.row.vehicle_id],
            )
            for attempt_id, attempt in by_id.items()
        ]

    def _refute(
        self,
        task: BoardTask,
        rejected: Sequence[BoardAttempt],
        unjudged: Sequence[BoardAttempt],
        standing: TaskStanding,
    ) -> None:
        """The pool's own result agrees with nobody's."""
        self._turn_down(rejected, unjudged)
        match after_refutation(standing):
            case GiveUp(reason=reason):
                self._give_up(task, reason)
            case Wait(wanted=wanted):
                self._wait(task, wanted, returned_count=1)

    def _turn_down(self, rejected: Sequence[BoardAttempt], unjudged: Sequence[BoardAttempt]) -> None:
        for attempt in rejected:
            unit = self.unit_checks.wrong_unit(attempt)
            self.reject(attempt, found_by=FindingKind.DISPUTE if unit >= 0 else None)
            attempt.wrong_unit = unit
        for attempt in unjudged:
            attempt.move(_A.DISCARDED, reason="BETWEEN_TOLERANCES")

    def _wait(self, task: BoardTask, wanted: int, *, returned_count: int) -> None:
        target = TaskState.READY if wanted else TaskState.RUNNING
        if target is not task.state:
            task.state = TASK_LIFECYCLE.check(task.state, target, what=str(task.row.task_id))
        # Beyond the quorum somebody waits for us: an audit, or a disagreement to be settled.
        waited_for = task.rechecking or returned_count >= LEVELS[task.job.level].quorum
        task.rank = TaskRank.WAITED_FOR if waited_for else TaskRank.STARTED
        task.wanted = wanted
        task.changed = True

    def _accept(
        self,
        task: BoardTask,
        group: Sequence[BoardAttempt],
        rejected: Sequence[BoardAttempt],
        unjudged: Sequence[BoardAttempt],
    ) -> None:
        job = task.job
        terms = LEVELS[job.level]
        task.evidence = self._evidence(task, group)
        builds_trust = terms.builds_trust and task.evidence in BUILD_HISTORY
        for position, attempt in enumerate(group):
            attempt.move(_A.ACCEPTED)
            if attempt.questioned is not None:
                continue
            by_job = position < terms.quorum and not task.rechecking
            attempt.payer = Payer.JOB if by_job else Payer.VERIFICATION
            if by_job:
                task.cost_micros += attempt.row.amount_micros
            if builds_trust and attempt.row.amount_micros:
                before = self.history(attempt)
                lag_uwu = self.policy.finality_lag_uwu(
                    job.level, work_uwu=job.work_uwu_per_task, clean_uwu=before.clean_uwu
                )
                record = before.accepted(job.work_uwu_per_task, lag_uwu=lag_uwu)
                self.trust[self.trust_key(attempt)] = record
                attempt.odometer_uwu = record.odometer_uwu
        self._turn_down(rejected, unjudged)
        task.canonical = group[0]
        if task.rechecking and group[0].questioned is None:
            task.replaced_count += 1
        self._decide(task, TaskState.ACCEPTED, stop_reason="TASK_DECIDED")

    def _evidence(self, task: BoardTask, group: Sequence[BoardAttempt]) -> Evidence | str:
        self._learn_trusted(group)
        if task.pool_digest or any(self.trusted[attempt.row.vehicle_id] for attempt in group):
            return Evidence.TRUSTED_NODE
        if task.proof is not None:
            return task.proof
        terms = LEVELS[task.job.level]
        if len(group) > 1:
            return Evidence.AGREEMENT if terms.quorum > 1 else Evidence.AUDITED
        return Evidence.HISTORY if terms.builds_trust else ""

    def accept_as(self, task: BoardTask, group: Sequence[BoardAttempt], proof: Evidence) -> None:
        """Accept recorded results of an undecided task, asking nobody: proved, or at the pool's risk."""
        task.proof = proof
        self._accept(task, group, [], [])

    def restore(self, task: BoardTask, *, reason: str) -> None:
        """Nobody can tell whether questioned results are wrong: the task is as it was before."""
        for attempt in task.in_state(_A.RETURNED):
            if attempt.questioned is None:
                self.drop(attempt, reason=reason)
                continue
            attempt.move(_A.ACCEPTED)
            task.canonical = task.canonical or attempt
        task.evidence = Evidence.RISK
        self._decide(task, TaskState.ACCEPTED, stop_reason="TASK_DECIDED")

    def _give_up(self, task: BoardTask, reason: TaskFailure) -> None:
        if task.rechecking:
            self.restore(task, reason=reason.value)
            return
        for attempt in task.in_state(_A.RETURNED):
            self.drop(attempt, reason=reason.value)
        if reason is TaskFailure.PROGRAM_FAILED:
            details = [attempt.detail for attempt in task.attempts.values() if attempt.detail]
            task.detail = details[-1] if details else ""
        task.reason = reason.value
        self._decide(task, TaskState.FAILED, stop_reason="TASK_DECIDED")

    def end(self, task: BoardTask, state: TaskState, *, reason: str) -> None:
        """End an undecided task with its job: CANCELLED or FAILED, whatever its results.

        A task that was accepted before and is checked again keeps its result.
        """
        if task.rechecking:
            self.restore(task, reason=reason)
            return
        for attempt in task.in_state(_A.RETURNED):
            self.drop(attempt, reason=reason)
        task.reason = reason
        self._decide(task, state, stop_reason=reason)

    def _decide(self, task: BoardTask, state: TaskState, *, stop_reason: str) -> None:
        for attempt in task.in_state(_A.LEASED):
            self.drop(attempt, reason=stop_reason)
        task.state = TASK_LIFECYCLE.check(task.state, state, what=str(task.row.task_id))
        task.wanted = 0
        task.decided_seq = self.next_seq(task.job)
        task.changed = True
        self.progressed.add(task.job.job_id)

    def next_seq(self, job: JobRow) -> int:
        """Return the next cursor of a job's decisions."""
        seq = self._next_seq.get(job.job_id, job.decided_seq) + 1
        self._next_seq[job.job_id] = seq
        return seq

    # --- trust ----------------------------------------------------------------------------------

    def trust_key(self, attempt: BoardAttempt) -> tuple[str, str]:
        """Name the history that an attempt belongs to."""
        job = attempt.task.job
        return attempt.row.vehicle_id, trust_class(job.kind, job.level)

    def history(self, attempt: BoardAttempt) -> TrustRecord:
        """Return the history that an attempt belongs to, as it is now."""
        return self.record_of(self.trust_key(attempt))

    def record_of(self, key: tuple[str, str]) -> TrustRecord:
        """Return a history by its name, as it is now."""
        record = self.trust.get(key)
        if record is None:
            record = self.uow.fleet.trust(*key)
            self.trust[key] = record
        return record

    def _learn_trusted(self, attempts: Iterable[BoardAttempt]) -> None:
        vehicle_ids = {attempt.row.vehicle_id for attempt in attempts}
        unknown = sorted(vehicle_ids - self.trusted.keys())
        if unknown:
            found = self.uow.fleet.trusted_among(unknown)
            self.trusted.update((vehicle_id, vehicle_id in found) for vehicle_id in unknown)

    # --- outputs --------------------------------------------------------------------------------

    def outputs_of(self, attempt_id: int) -> Tensors:
        """Read the arrays of an attempt on the board."""
        if attempt_id < 0:
            return read_tensors(self.pool_runs.outputs(-attempt_id), self.blobs)
        attempt = self.attempts[attempt_id]
        ref = attempt.outputs or self.uow.attempts.outputs(attempt_id)
        if ref is None:
            raise InvariantError(f"attempt {attempt_id} has a result and no outputs")
        return read_tensors(ref, self.blobs)
