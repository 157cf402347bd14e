"""Looks at accepted results again that are in doubt: questions what is not final; others compute it anew.

A vehicle whose result was rejected has a look-back in state *opening* since that very transaction
(`app.board_findings`), and so has a class that was found wrong on a program (`app.class_bench`). The sweep
here walks receipts from the newest to the last one released, in bounded batches, and opens each task again
whose acceptance is not final and rests on untrusted vehicles, unless enough others agreed that are believed
(`app.doubts`):

- each accepted attempt of the task is questioned: ACCEPTED -> RETURNED, its held money set aside;
- the task is READY once more, and needs so many other owners that they could outvote those that agreed
  before; after a class fault only other classes are asked. The pool pays for them;
- a job that was DONE is CLOSING again. A cancelled job is left alone.

The verdict is the ordinary one of `app.task_board`: upheld, replaced, or as it was where nobody can tell.
Each attempt is questioned at most once for its own vehicle and once for its class, so that look-backs come to
an end whatever happens meanwhile.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from pool_protocol.errors import InvariantError
from pool_server.app.doubts import Doubts, doubts_of
from pool_server.app.quarantine import settle_board
from pool_server.app.questioned_money import set_aside
from pool_server.app.task_board import TaskBoard
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.effects import JobProgressed, WorkAvailable
from pool_server.core.jobs import (
    ATTEMPT_LIFECYCLE,
    JOB_LIFECYCLE,
    TASK_LIFECYCLE,
    AttemptState,
    JobState,
    TaskState,
)
from pool_server.core.matching import TaskRank
from pool_server.core.trust import trust_class
from pool_server.core.verification import LEVELS
from pool_server.core.verification.findings import PROVED
from pool_server.ports.fleet import WorkEvent
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.verification import (
    LookBackRow,
    LookBackState,
    PaidAttempt,
    QuestionedRow,
    QuestionedState,
)
from pool_server.ports.work import AttemptChange, JobDelta, JobRow, TaskRow

#: Questions that one sweep gives up.
QUESTIONS_PER_SWEEP = 200
#: Why a task is open again.
QUESTIONED_CAUSE = ATTEMPT_LIFECYCLE.transitions[AttemptState.ACCEPTED, AttemptState.RETURNED].split(":")[0]
UNVERIFIED = "UNVERIFIED"


def open_look_backs(uow: UnitOfWork, *, policy: WorkPolicy, now_us: int) -> int:
    """Question a batch of results of the oldest look-back that is opening. Returns how many it looked at."""
    look_back = uow.verification.first_opening()
    if look_back is None:
        return 0
    doubts = doubts_of(uow, look_back, policy=policy, now_us=now_us)
    page = doubts.page()
    questioned = _Questions(uow, look_back, doubts, now_us=now_us).ask(page.paid)
    uow.verification.put_look_back(
        look_back._replace(
            state=LookBackState.CHECKING if page.is_last else LookBackState.OPENING,
            cursor_receipt_id=page.cursor_receipt_id,
            questioned_count=look_back.questioned_count + questioned,
        )
    )
    return max(1, len(page.paid))


def close_look_backs(
    uow: UnitOfWork, *, policy: WorkPolicy, now_us: int, blobs: BlobReader | None = None
) -> int:
    """Give up questions that nobody answered in time, and end look-backs without open ones. Rows moved."""
    waited_us = now_us - policy.accept_unverified_after_us
    overdue = uow.verification.opened_before(waited_us, limit=QUESTIONS_PER_SWEEP)
    if overdue:
        board = TaskBoard(uow, policy=policy, blobs=blobs, now_us=now_us)
        board.load(uow.attempts.get([row.attempt_id for row in overdue]).values())
        for task in list(board.tasks.values()):
            board.restore(task, reason=UNVERIFIED)
        settle_board(board)
    return len(overdue) + uow.verification.finish_checked(now_us=now_us)


class _Questions:
    """Opens the tasks of one batch again."""

    def __init__(self, uow: UnitOfWork, look_back: LookBackRow, doubts: Doubts, *, now_us: int) -> None:
        self.uow = uow
        self.look_back = look_back
        self.doubts = doubts
        self.now_us = now_us
        self._jobs: dict[int, JobRow] = {}
        self._lines: dict[tuple[str, str], int] = {}

    def ask(self, page: Sequence[PaidAttempt]) -> int:
        """Question what of the page can be wrong; return how many attempts are questioned now."""
        tasks = self.uow.tasks.get([paid.task_id for paid in page])
        asked_before = self.uow.verification.questioned([paid.attempt_id for paid in page])
        doubtful = {
            paid.task_id: tasks[paid.task_id]
            for paid in page
            if not self._was_answered(asked_before.get(paid.attempt_id))
            and self._may_be_wrong(paid, tasks[paid.task_id])
        }
        groups: dict[int, list[PaidAttempt]] = defaultdict(list)
        for paid in self.uow.verification.paid(list(doubtful)):
            groups[paid.task_id].append(paid)
        reopened = {
            task_id: task
            for task_id, task in doubtful.items()
            if not self.doubts.confirmed(self._job(task.job_id), groups[task_id])
        }
        if not reopened:
            return 0
        accepted = {task_id: groups[task_id] for task_id in reopened}
        self._reopen_jobs(reopened.values())
        self._question([paid for group in accepted.values() for paid in group])
        self._reopen_tasks(reopened, accepted)
        self.doubts.keep_away(list(reopened))
        self.uow.effects.append(WorkAvailable())
        return sum(len(group) for group in accepted.values())

    def _job(self, job_id: int) -> JobRow:
        job = self._jobs.get(job_id)
        if job is None:
            job = self.uow.jobs.get(job_id)
            if job is None:
                raise InvariantError(f"job {job_id} was paid for and is not there")
            self._jobs[job_id] = job
        return job

    def _was_answered(self, question: QuestionedRow | None) -> bool:
        return question is not None and self.doubts.was_answered(question)

    def _may_be_wrong(self, paid: PaidAttempt, task: TaskRow) -> bool:
        """Say whether a result rests on untrusted vehicles and is not final."""
        job = self._job(task.job_id)
        if not task.evidence or task.evidence in PROVED or job.state is JobState.CANCELLED:
            return False
        return not 0 < paid.odometer_uwu <= self._final_through(paid.vehicle_id, job)

    def _final_through(self, vehicle_id: str, job: JobRow) -> int:
        key = (vehicle_id, trust_class(job.kind, job.level))
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = self.uow.fleet.trust(*key).final_uwu
        return line

    # --- writing --------------------------------------------------------------------------------

    def _reopen_jobs(self, tasks: Iterable[TaskRow]) -> None:
        """DONE -> CLOSING; before their counters say that something is undecided."""
        uow, now_us = self.uow, self.now_us
        for job_id in sorted({task.job_id for task in tasks}):
            uow.effects.append(JobProgressed(job_id=job_id))
            if self._job(job_id).state is not JobState.DONE:
                continue
            cause = JOB_LIFECYCLE.transitions[JobState.DONE, JobState.CLOSING]
            if not uow.jobs.move(
                job_id, from_states=[JobState.DONE], to_state=JobState.CLOSING, ended_at_us=0, end_reason=""
            ):
                raise InvariantError(f"job {job_id} is not done any more")
            uow.events.append([WorkEvent("job", str(job_id), JobState.DONE, JobState.CLOSING, cause, now_us)])

    def _question(self, attempts: Sequence[PaidAttempt]) -> None:
        uow, now_us = self.uow, self.now_us
        through = uow.receipts.released_through()
        questions = [
            QuestionedRow(
                attempt_id=paid.attempt_id,
                look_back_id=self.look_back.look_back_id,
                task_id=paid.task_id,
                vehicle_id=paid.vehicle_id,
                owner_id=paid.owner_id,
                receipt_id=paid.receipt_id,
                net_micros=paid.net_micros if paid.receipt_id > through else 0,
                state=QuestionedState.OPEN,
                opened_at_us=now_us,
                closed_at_us=0,
            )
            for paid in attempts
        ]
        set_aside(uow, questions, now_us=now_us)
        uow.verification.question(questions)
        rows = uow.attempts.get([paid.attempt_id for paid in attempts])
        changes = [
            AttemptChange(
                row.attempt_id,
                row.state,
                ATTEMPT_LIFECYCLE.check(row.state, AttemptState.RETURNED, what=str(row.attempt_id)),
                row.payer,
                row.pending_transfer_id,
                row.reason,
                "",
                row.ended_at_us,
                0,
                None,
                row.odometer_uwu,
            )
            for row in rows.values()
        ]
        if uow.attempts.change(changes) != len(attempts):
            raise InvariantError("an attempt was accepted and is not")
        uow.events.append(
            WorkEvent(
                "attempt",
                str(paid.attempt_id),
                AttemptState.ACCEPTED,
                AttemptState.RETURNED,
                QUESTIONED_CAUSE,
                now_us,
            )
            for paid in attempts
        )

    def _reopen_tasks(self, tasks: dict[int, TaskRow], accepted: dict[int, list[PaidAttempt]]) -> None:
        uow, now_us = self.uow, self.now_us
        rows = []
        deltas: dict[int, JobDelta] = defaultdict(JobDelta)
        cause = TASK_LIFECYCLE.transitions[TaskState.ACCEPTED, TaskState.READY]
        for task in tasks.values():
            job = self._job(task.job_id)
            owners = {paid.owner_id for paid in accepted[task.task_id]}
            auditors, agreement_needed = self.doubts.auditors(job, owners)
            rows.append(
                task._replace(
                    state=TASK_LIFECYCLE.check(task.state, TaskState.READY, what=str(task.task_id)),
                    rank=TaskRank.WAITED_FOR,
                    wanted=auditors,
                    agreement_needed=agreement_needed,
                    live_count=0,
                    failure_count=0,
                    job_funded_count=LEVELS[job.level].quorum,
                    decided_seq=0,
                    canonical_attempt_id=0,
                    decided_at_us=0,
                )
            )
            delta = deltas[task.job_id]
            delta.ready_count += 1
            delta.urgent_count += 1
            delta.accepted_count -= 1
            delta.rechecking_count += 1
        if uow.tasks.reopen(rows) != len(rows):
            raise InvariantError("a task was accepted and is not")
        for job_id, delta in deltas.items():
            uow.jobs.add(job_id, delta)
        uow.events.append(
            WorkEvent(
                "task", f"{task.job_id}/{task.task_index}", TaskState.ACCEPTED, TaskState.READY, cause, now_us
            )
            for task in tasks.values()
        )
